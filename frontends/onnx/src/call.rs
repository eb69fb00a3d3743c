//! One node under translation: what a function of `import/` sees of it, and how it adds operations.

use std::path::{Path, PathBuf};

use qcc_ir::{Dense, Dim, ElementType, Op, TensorType, ValueId};
use qcc_params::{Data, Tensor};

use crate::attribute::Attributes;
use crate::graph::{Bound, Graph};
use crate::initializer::Initializer;
use crate::proto::NodeProto;
use crate::sizes::Sizes;

/// A result, or in words why the node cannot be imported; the place is added by the caller.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// What a node's outputs are, in order; outputs beyond the last are absent.
pub(crate) type Outputs = Result<Vec<Bound>>;

/// A node, its operands, and the graph it is added to.
pub(crate) struct Call<'a> {
    pub node: &'a NodeProto,
    pub attributes: Attributes<'a>,
    /// One slot an input; `None` for an absent optional input.
    pub operands: Vec<Option<Bound>>,
    pub opset: i64,
    /// The model's folder.
    pub folder: &'a Path,
    /// The files that were read.
    pub files: &'a mut Vec<PathBuf>,
    graph: &'a mut Graph,
    location: String,
}

impl<'a> Call<'a> {
    /// A node whose operations get `location`.
    pub fn new(
        node: &'a NodeProto,
        opset: i64,
        folder: &'a Path,
        files: &'a mut Vec<PathBuf>,
        graph: &'a mut Graph,
        location: &str,
    ) -> Result<Call<'a>> {
        let operands = node
            .input
            .iter()
            .map(|name| if name.is_empty() { Ok(None) } else { graph.lookup(name).map(Some) })
            .collect::<Result<_>>()?;
        let attributes = Attributes::new(node);
        Ok(Call { node, attributes, operands, opset, folder, files, graph, location: location.to_string() })
    }

    /// What an input stands for; `None` when it is absent.
    pub fn bound(&self, input: usize) -> Option<&Bound> {
        self.operands.get(input)?.as_ref()
    }

    /// An input.
    pub fn x(&self, input: usize) -> Result<ValueId> {
        self.maybe(input)?.ok_or_else(|| format!("input {input} is missing"))
    }

    /// An input that may be absent.
    pub fn maybe(&self, input: usize) -> Result<Option<ValueId>> {
        match self.bound(input) {
            None => Ok(None),
            Some(Bound::Value(value)) => Ok(Some(*value)),
            Some(Bound::Absent(why)) => Err(why.clone()),
            Some(Bound::Sizes(sizes)) => Err(format!(
                "input {input} (`{}`) is computed from symbolic sizes {:?}, which only shape arithmetic can use; \
                 export the model with fixed input sizes",
                self.node.input[input], sizes.elements
            )),
        }
    }

    /// An input, or the value of sizes that only run time knows.
    pub fn value(&mut self, input: usize) -> Result<ValueId> {
        let Some(Bound::Sizes(sizes)) = self.bound(input) else { return self.x(input) };
        let Sizes { dims, elements } = sizes.clone();
        let mut parts = Vec::with_capacity(elements.len());
        for size in &elements {
            parts.push(Some(self.size(size)?));
        }
        let joined =
            if let [Some(one)] = parts[..] { one } else { self.emit_with(Op::Concat { axis: 0 }, &parts)? };
        self.reshape(joined, dims.into_iter().map(Dim::Const).collect())
    }

    /// A size as a vector of one `i64`.
    pub fn size(&mut self, size: &Dim) -> Result<ValueId> {
        let zero = self.constant(Dense::i64(&[1], &[size.constant().unwrap_or(0)]))?;
        if size.constant().is_some() {
            return Ok(zero);
        }
        let before = self.iota(size)?;
        self.emit(Op::Positions { axis: 0 }, [zero, before])
    }

    /// `0, 1, …`, so many.
    pub fn iota(&mut self, size: &Dim) -> Result<ValueId> {
        self.emit_with(Op::Iota { size: size.clone() }, &[])
    }

    /// `0, 1, …` along an axis of a tensor of `rank` that has size 1 along all others.
    pub fn iota_along(&mut self, size: &Dim, axis: usize, rank: usize) -> Result<ValueId> {
        let iota = self.iota(size)?;
        let shape = (0..rank).map(|i| if i == axis { size.clone() } else { Dim::Const(1) }).collect();
        self.reshape(iota, shape)
    }

    /// Every input; none may be absent.
    pub fn all(&self) -> Result<Vec<ValueId>> {
        let all: Vec<ValueId> = (0..self.operands.len()).map(|i| self.x(i)).collect::<Result<_>>()?;
        if all.is_empty() { Err("it has no inputs".into()) } else { Ok(all) }
    }

    /// The contents of an input that must be known at import; `what` names it in errors.
    pub fn contents(&self, input: usize, what: &str) -> Result<Option<&Tensor>> {
        let Some(value) = self.maybe(input)? else { return Ok(None) };
        self.graph.contents(value).map(Some).ok_or_else(|| {
            format!(
                "its {what} (`{}`) are computed while the model runs; they must be constants, or follow from shapes",
                self.node.input[input]
            )
        })
    }

    /// Integers that must be known at import.
    pub fn ints(&self, input: usize, what: &str) -> Result<Option<Vec<i64>>> {
        let Some(tensor) = self.contents(input, what)? else { return Ok(None) };
        integers(tensor).map(Some).ok_or_else(|| format!("its {what} must be int32 or int64"))
    }

    /// Integers that must be known at import, symbols allowed.
    pub fn sizes(&self, input: usize, what: &str) -> Result<Option<Vec<Dim>>> {
        match self.bound(input) {
            Some(Bound::Sizes(sizes)) => Ok(Some(sizes.elements.clone())),
            _ => Ok(self.ints(input, what)?.map(|v| v.into_iter().map(Dim::Const).collect())),
        }
    }

    /// A list that is an attribute in old operator sets and an input in new ones.
    pub fn attribute_or_input(&self, name: &'static str, input: usize) -> Result<Option<Vec<i64>>> {
        match self.attributes.ints(name)? {
            Some(list) => Ok(Some(list)),
            None => self.ints(input, name),
        }
    }

    /// The one element of an input, if that is known.
    pub fn scalar(&self, value: ValueId) -> Option<f64> {
        let tensor = self.graph.contents(value)?;
        if tensor.len() == 1 { tensor.to_f64_vec().first().copied() } else { None }
    }

    /// A value's type.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        self.graph.ty(value)
    }

    /// A value's sizes.
    pub fn dims(&self, value: ValueId) -> Vec<Dim> {
        self.graph.dims(value).to_vec()
    }

    /// A value's rank.
    pub fn rank(&self, value: ValueId) -> usize {
        self.graph.dims(value).len()
    }

    /// A value's element type.
    pub fn element(&self, value: ValueId) -> ElementType {
        self.graph.ty(value).element
    }

    /// The number of elements of these sizes.
    pub fn product(&self, dims: &[Dim]) -> Result<Dim> {
        let product = dims.iter().try_fold(Dim::Const(1), |n, d| n.checked_mul(d));
        product.ok_or_else(|| format!("the product of the sizes {dims:?} is too large"))
    }

    /// Whether a value is a weight or a constant.
    pub fn is_weight(&self, value: ValueId) -> bool {
        self.graph.is_parameter(value) || self.graph.is_constant(value)
    }

    /// The contents of a value, if they are known.
    pub fn known(&self, value: ValueId) -> Option<&Tensor> {
        self.graph.contents(value)
    }

    /// The one number that all elements of a value are, if they are known to be.
    pub fn uniform(&self, value: ValueId) -> Option<f64> {
        let numbers = self.known(self.graph.unbroadcast(value))?.to_f64_vec();
        let first = *numbers.first()?;
        numbers.iter().all(|x| *x == first).then_some(first)
    }

    /// The element type that a value was cast from, however often.
    pub fn origin(&self, value: ValueId) -> ElementType {
        self.element(self.graph.uncast(value))
    }

    /// The integer contents of a value, if they are known.
    pub fn known_ints(&self, value: ValueId) -> Option<Vec<i64>> {
        self.graph.contents(value).and_then(integers)
    }

    /// Adds an operation.
    pub fn emit<const N: usize>(&mut self, op: Op, operands: [ValueId; N]) -> Result<ValueId> {
        self.graph.emit(op, &operands.map(Some), &self.location)
    }

    /// Adds an operation some of whose operands may be absent.
    pub fn emit_with(&mut self, op: Op, operands: &[Option<ValueId>]) -> Result<ValueId> {
        self.graph.emit(op, operands, &self.location)
    }

    /// Adds the operation that is the node's only output.
    pub fn done<const N: usize>(&mut self, op: Op, operands: [ValueId; N]) -> Outputs {
        Ok(vec![self.emit(op, operands)?.into()])
    }

    /// A constant.
    pub fn constant(&mut self, dense: Dense) -> Result<ValueId> {
        self.graph.constant(dense, &self.location)
    }

    /// A tensor that the node holds, as initialiser of the name of its first output.
    pub fn weight(&mut self, initializer: Initializer) -> Result<Bound> {
        let name = self.node.output.first().ok_or("it has no outputs")?;
        self.graph.weight(name, initializer)
    }

    /// A rank-0 constant of an element type.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "f32 is what the model computes in; wider types are cast"
    )]
    pub fn number(&mut self, value: f64, element: ElementType) -> Result<ValueId> {
        match element {
            ElementType::F32 => self.constant(Dense::scalar(value as f32)),
            _ => {
                let constant = self.constant(Dense::scalar(value as f32))?;
                self.emit(Op::Cast { to: element }, [constant])
            }
        }
    }

    /// A value as integers of sizes, as `Shape` yields them.
    pub fn shape_value(&mut self, sizes: Sizes) -> Result<Bound> {
        match sizes.constant() {
            Some(dense) => Ok(self.constant(dense)?.into()),
            None => Ok(Bound::Sizes(sizes)),
        }
    }

    /// `x` with other sizes.
    pub fn reshape(&mut self, x: ValueId, shape: Vec<Dim>) -> Result<ValueId> {
        if self.graph.dims(x) == shape { Ok(x) } else { self.emit(Op::Reshape { shape }, [x]) }
    }

    /// `x` repeated to sizes that it broadcasts to.
    pub fn broadcast(&mut self, x: ValueId, shape: Vec<Dim>) -> Result<ValueId> {
        if self.graph.dims(x) == shape { Ok(x) } else { self.emit(Op::Broadcast { shape }, [x]) }
    }

    /// `x` with its axes in another order.
    pub fn transpose(&mut self, x: ValueId, permutation: Vec<i64>) -> Result<ValueId> {
        let identity = permutation.iter().enumerate().all(|(i, &p)| p == i as i64);
        if identity { Ok(x) } else { self.emit(Op::Transpose { permutation }, [x]) }
    }

    /// `axis` of a tensor of `rank`, counted from the end if negative.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        from_start
            .and_then(|a| usize::try_from(a).ok())
            .filter(|a| *a < rank)
            .ok_or_else(|| format!("axis {axis} is outside a tensor of rank {rank}"))
    }
}

fn integers(tensor: &Tensor) -> Option<Vec<i64>> {
    match &tensor.data {
        Data::I64(v) => Some(v.clone()),
        Data::I32(v) => Some(v.iter().map(|v| i64::from(*v)).collect()),
        _ => None,
    }
}
