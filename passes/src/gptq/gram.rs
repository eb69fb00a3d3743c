//! `H`: second moments of what layers read, over the calibration samples, in f64.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use qcc_ir::{Module, ValueId};

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

/// The moments of activations (`[…, width]`) of the entry function, which is run as far as they need.
///
/// # Errors
/// When there are no samples, the module does not run, or an activation is not finite.
pub(crate) fn gram(
    pass: &'static str,
    module: &Module,
    activations: &[ValueId],
    context: &Context<'_>,
) -> Result<Vec<Gram>, PassError> {
    let (Some(executor), Some(samples)) = (context.executor, context.samples.filter(|s| !s.is_empty()))
    else {
        return Err(PassError::failed(pass, "GPTQ looks at what layers read: pass `--calibration FILE|DIR`"));
    };
    let mut part = Module { functions: vec![module.functions[0].clone()] };
    let function = &mut part.functions[0];
    // States are inputs as any others here.
    function.states.clear();
    function.results.clear();
    function.result_names.clear();
    for (i, &value) in activations.iter().enumerate() {
        function.add_result(&format!("tap.{i}"), value);
    }
    function.sort();
    function.remove_dead();
    let width = |value: &ValueId| {
        let last = part.functions[0].ty(*value).dims.last().and_then(qcc_ir::Dim::constant);
        last.and_then(|n| usize::try_from(n).ok()).unwrap_or(1)
    };
    let mut grams: Vec<Gram> = activations.iter().map(|v| Gram::new(width(v))).collect();
    let mut finite = vec![true; grams.len()];
    let failed = |e: String| PassError::failed(pass, e);
    let mut prepared = executor.prepare(&part, &context.parameters).map_err(failed)?;
    for i in 0..samples.len() {
        // Of the whole function, which knows which of its arguments are states.
        let inputs = samples.inputs(i, &module.functions[0]).map_err(failed)?;
        let tensors = prepared.run(&inputs).map_err(failed)?;
        for ((gram, finite), tensor) in grams.iter_mut().zip(&mut finite).zip(&tensors) {
            let values = tensor.as_f32().unwrap_or(&[]);
            *finite &= values.iter().all(|x| x.is_finite());
            gram.see(values);
        }
    }
    match finite.iter().position(|finite| !finite) {
        Some(i) => {
            let name = &module.functions[0].value(activations[i]).name;
            Err(PassError::at(pass, name, "the calibration samples give NaN or infinite activations here"))
        }
        None => Ok(grams),
    }
}
