//! Tensor types: dimensions, element, and how the elements lie in memory.

use std::fmt;

use crate::dim::Dim;
use crate::element::{ElementType, Granularity, QuantType, SPLIT_CLUSTERS, ScaleType};

/// A tensor's type. Prints as MLIR's `tensor<…>`; symbolic sizes print as `?`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorType {
    /// Sizes, outermost first.
    pub dims: Vec<Dim>,
    /// What one element is.
    pub element: ElementType,
    /// Physical order of the elements.
    pub layout: Layout,
}

/// Physical order of a tensor's elements: the encoding of its MLIR type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum Layout {
    /// Row-major.
    #[default]
    RowMajor,
    /// Matrix panels for a kernel: `[rows / n][columns / k][n][k]`, both padded: `#qcc.panel<n, k>`.
    Panel {
        /// Rows (output channels) of a panel.
        n: u32,
        /// Consecutive columns kept together.
        k: u32,
    },
}

impl TensorType {
    /// A row-major tensor.
    pub fn new(dims: impl IntoIterator<Item = impl Into<Dim>>, element: ElementType) -> TensorType {
        TensorType { dims: dims.into_iter().map(Into::into).collect(), element, layout: Layout::RowMajor }
    }

    /// A rank-0 tensor.
    pub fn scalar(element: ElementType) -> TensorType {
        TensorType { dims: Vec::new(), element, layout: Layout::RowMajor }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// All sizes, if every one is a constant.
    pub fn constant_dims(&self) -> Option<Vec<i64>> {
        self.dims.iter().map(Dim::constant).collect()
    }

    /// Number of elements as a (possibly symbolic) size; `None` when it overflows.
    pub fn elements(&self) -> Option<Dim> {
        self.dims.iter().try_fold(Dim::Const(1), |n, d| n.checked_mul(d))
    }

    /// The same tensor with another element.
    pub fn with_element(&self, element: ElementType) -> TensorType {
        TensorType { element, ..self.clone() }
    }

    /// The type of the scales of this (quantized) tensor under `q`: see [`Granularity`]. Split codes have a table of three along a last axis
    /// of its own wherever others have one scale.
    pub fn scale_type(&self, q: QuantType) -> TensorType {
        // E4M3 and E8M0 scales travel as their 8-bit codes.
        let element = match q.scale {
            ScaleType::F32 => ElementType::F32,
            ScaleType::F16 => ElementType::F16,
            ScaleType::BF16 => ElementType::BF16,
            ScaleType::E4M3 | ScaleType::E8M0 => ElementType::U8,
        };
        TensorType { dims: self.parameter_dims(q), element, layout: Layout::RowMajor }
    }

    /// The type of the zero points of this (quantized) tensor under `q`: one `i32` wherever there is a scale.
    pub fn zero_point_type(&self, q: QuantType) -> TensorType {
        TensorType { dims: self.parameter_dims(q), element: ElementType::I32, layout: Layout::RowMajor }
    }

    /// The types of all that comes with the codes of this (quantized) tensor under `q`, in order, with what each is.
    pub fn quantization_parameters(&self, q: QuantType) -> Vec<(&'static str, TensorType)> {
        let mut all = vec![("scale", self.scale_type(q))];
        if q.zero_point {
            all.push(("zero point", self.zero_point_type(q)));
        }
        if q.has_tensor_scale() {
            all.push(("tensor scale", TensorType::scalar(ElementType::F32)));
        }
        if q.storage.has_codebook() {
            let codes = 1i64 << q.storage.bits();
            all.push(("codebook", TensorType::new([codes], ElementType::F32)));
        }
        all
    }

    fn parameter_dims(&self, q: QuantType) -> Vec<Dim> {
        let mut dims = self.group_dims(q.granularity);
        if q.storage.is_split() {
            dims.push(Dim::Const(SPLIT_CLUSTERS as i64));
        }
        dims
    }

    /// One element for each group of elements that shares scales.
    fn group_dims(&self, granularity: Granularity) -> Vec<Dim> {
        match granularity {
            Granularity::Tensor => Vec::new(),
            Granularity::Channel { axis } => self.dims.get(usize::from(axis)).cloned().into_iter().collect(),
            Granularity::Token => {
                let mut dims = self.dims.clone();
                if let Some(last) = dims.last_mut() {
                    *last = Dim::Const(1);
                }
                dims
            }
            Granularity::Block { axis, block } => {
                let mut dims = self.dims.clone();
                if let Some(Dim::Const(n)) = dims.get_mut(usize::from(axis)) {
                    *n = n.div_euclid(i64::from(block.max(1))) + i64::from(*n % i64::from(block.max(1)) != 0);
                }
                dims
            }
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensor<")?;
        for dim in &self.dims {
            match dim.constant() {
                Some(n) => write!(f, "{n}x")?,
                None => f.write_str("?x")?,
            }
        }
        write!(f, "{}", self.element)?;
        if let Layout::Panel { n, k } = self.layout {
            write!(f, ", #qcc.panel<{n} : i64, {k} : i64>")?;
        }
        f.write_str(">")
    }
}

impl fmt::Debug for TensorType {
    /// As printed, but with symbolic sizes spelled out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor<{:?} x {}>", self.dims, self.element)
    }
}
