//! `H`: second moments of what layers read, over the calibration samples, in f64.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use qcc_interpreter::patches;
use qcc_ir::ops::ImageLayout;
use qcc_ir::{Function, Module, Op, ValueId};
use qcc_params::Tensor;
use rayon::prelude::*;

use crate::context::Context;
use crate::pass::PassError;

/// `2 · mean(xᵀ x)` over rows `x` of an activation.
#[derive(Clone, Debug)]
pub(crate) struct Gram {
    /// `[width, width]`.
    pub matrix: Mat<f64>,
    /// Rows seen.
    pub rows: usize,
}

impl Gram {
    pub(crate) fn new(width: usize) -> Gram {
        Gram { matrix: Mat::zeros(width, width), rows: 0 }
    }

    /// Takes in rows, each as wide as the matrix.
    pub(crate) fn see(&mut self, values: &[f32]) {
        let width = self.matrix.nrows();
        let count = values.len() / width.max(1);
        if count == 0 {
            return;
        }
        let x = Mat::from_fn(count, width, |row, column| f64::from(values[row * width + column]));
        #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
        let (before, after) = (self.rows as f64, (self.rows + count) as f64);
        let share = before / after;
        self.matrix.col_iter_mut().flat_map(|column| column.iter_mut()).for_each(|h| *h *= share);
        matmul(self.matrix.as_mut(), Accum::Add, x.transpose(), x.as_ref(), 2.0 / after, Par::Seq);
        self.rows += count;
    }
}

/// Something that layers read, as the rows that their weights are multiplied with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Read {
    /// The activation.
    pub value: ValueId,
    /// How a convolution reads it; the last axis as it is otherwise.
    pub window: Option<Window>,
}

/// The geometry of a convolution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    /// Sizes of the weight.
    weight: Vec<usize>,
    strides: Vec<i64>,
    pads: Vec<i64>,
    dilations: Vec<i64>,
    groups: usize,
    layout: ImageLayout,
}

impl Read {
    /// What an operation with a weight of these sizes reads from `value`; none where it is neither linear nor a convolution.
    pub fn of(op: &Op, value: ValueId, weight: &[usize]) -> Option<Read> {
        let window = match op {
            Op::Linear {} => None,
            Op::Conv { strides, pads, dilations, groups, layout } => Some(Window {
                weight: weight.to_vec(),
                strides: strides.clone(),
                pads: pads.clone(),
                dilations: dilations.clone(),
                groups: usize::try_from(*groups).ok()?,
                layout: *layout,
            }),
            _ => return None,
        };
        Some(Read { value, window })
    }

    /// What its moments take.
    pub fn bytes(&self, function: &Function) -> u64 {
        let (groups, width) = self.size(function);
        let width = width as u64;
        width.saturating_mul(width).saturating_mul(8).saturating_mul(groups as u64)
    }

    /// Groups, and columns of each.
    fn size(&self, function: &Function) -> (usize, usize) {
        match &self.window {
            Some(window) => (window.groups, window.weight.iter().skip(1).product()),
            None => {
                let last = function.ty(self.value).dims.last().and_then(qcc_ir::Dim::constant);
                (1, last.and_then(|n| usize::try_from(n).ok()).unwrap_or(1))
            }
        }
    }

    /// Moments of nothing yet, one for each group of a convolution.
    fn start(&self, function: &Function) -> Vec<Gram> {
        let (groups, width) = self.size(function);
        vec![Gram::new(width); groups]
    }

    /// Takes in what was read of a sample.
    fn see(&self, grams: &mut [Gram], x: &Tensor) -> Result<(), String> {
        let values = &*x.to_f32_vec();
        let Some(Window { weight, strides, pads, dilations, groups, layout }) = &self.window else {
            grams.iter_mut().for_each(|gram| gram.see(values));
            return Ok(());
        };
        let window = [strides.as_slice(), pads, dilations];
        let see = |group: usize, rows: &[f32]| grams[group].see(rows);
        patches(values, &x.dims, weight, window, *groups, *layout, see).map_err(|e| e.to_string())
    }
}

/// The moments of what layers of the entry function read, one for each group, which is run as far as they need.
///
/// # Errors
/// When there are no samples, the module does not run, or an activation is not finite.
pub(crate) fn moments(
    pass: &'static str,
    module: &Module,
    reads: &[Read],
    context: &Context<'_>,
) -> Result<Vec<Vec<Gram>>, PassError> {
    let (Some(executor), Some(samples)) = (context.executor, context.samples.filter(|s| !s.is_empty()))
    else {
        let needs = "rounding by what layers read needs data: pass `--calibration FILE|DIR`";
        return Err(PassError::failed(pass, needs));
    };
    let mut part = Module { functions: vec![module.functions[0].clone()] };
    let function = &mut part.functions[0];
    // States are inputs as any others here.
    function.states.clear();
    function.results.clear();
    function.result_names.clear();
    for (i, read) in reads.iter().enumerate() {
        function.add_result(&format!("tap.{i}"), read.value);
    }
    function.sort();
    function.remove_dead();
    let mut all: Vec<Vec<Gram>> = reads.iter().map(|read| read.start(&part.functions[0])).collect();
    let failed = |e: String| PassError::failed(pass, e);
    let mut prepared = executor.prepare(&part, &context.parameters).map_err(failed)?;
    for i in 0..samples.len() {
        // Of the whole function, which knows which of its arguments are states.
        let inputs = samples.inputs(i, &module.functions[0]).map_err(failed)?;
        let tensors = prepared.run(&inputs).map_err(failed)?;
        let infinite = |tensor: &Tensor| !tensor.to_f32_vec().iter().all(|x| x.is_finite());
        if let Some(at) = tensors.iter().position(infinite) {
            let name = &module.functions[0].value(reads[at].value).name;
            let what = "the calibration samples give NaN or infinite activations here";
            return Err(PassError::at(pass, name, what));
        }
        all.par_iter_mut()
            .zip(reads.par_iter().zip(&tensors))
            .try_for_each(|(grams, (read, x))| read.see(grams, x))
            .map_err(failed)?;
    }
    Ok(all)
}
