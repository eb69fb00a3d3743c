//! What the inputs of groups look like: some rows of each, those with the largest numbers among them, over the calibration samples.

use qcc_ir::{Function, Module, ValueId};

use crate::context::{Context, Samples};
use crate::observe::observe;
use crate::pass::PassError;

/// Rows of one activation, `[rows, width]` row-major, and what was seen of all its rows.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Features.
    pub width: usize,
    /// The rows that were kept.
    pub data: Vec<f32>,
    /// Largest magnitude of each feature, over all rows.
    pub largest: Vec<f32>,
    /// Mean magnitude of each feature, over all rows.
    pub mean: Vec<f64>,
    /// Rows seen.
    count: f64,
    /// Smallest and largest value of each feature, over all rows.
    pub bounds: Vec<(f32, f32)>,
    /// Whether any value of any row was NaN or infinite.
    broken: bool,
}

/// Rows kept of one activation, over all samples.
const KEPT: usize = 512;
/// Rows kept of one sample for their size: the longest, and those with the largest element.
const EXTREMES: usize = 4;

impl Rows {
    fn new(width: usize) -> Rows {
        Rows {
            width,
            data: Vec::new(),
            largest: vec![0.0; width],
            mean: vec![0.0; width],
            count: 0.0,
            bounds: vec![(f32::INFINITY, f32::NEG_INFINITY); width],
            broken: false,
        }
    }

    /// Takes in the rows of one sample, of which `even` are kept wherever they lie.
    fn see(&mut self, values: &[f32], even: usize) {
        let rows: Vec<&[f32]> = values.chunks_exact(self.width.max(1)).collect();
        self.broken |= values.iter().any(|x| !x.is_finite());
        for row in &rows {
            self.count += 1.0;
            for (mean, x) in self.mean.iter_mut().zip(*row) {
                *mean += (f64::from(x.abs()) - *mean) / self.count;
            }
            for ((largest, bounds), x) in self.largest.iter_mut().zip(&mut self.bounds).zip(*row) {
                *largest = largest.max(x.abs());
                *bounds = (bounds.0.min(*x), bounds.1.max(*x));
            }
        }
        let mut kept: Vec<usize> =
            (0..even.min(rows.len())).map(|i| i * rows.len() / even.min(rows.len())).collect();
        let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>();
        let peak = |row: &[f32]| row.iter().fold(0f32, |m, x| m.max(x.abs()));
        for size in [&length as &dyn Fn(&[f32]) -> f32, &peak] {
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.sort_by(|a, b| size(rows[*b]).total_cmp(&size(rows[*a])).then(a.cmp(b)));
            kept.extend(order.into_iter().take(EXTREMES));
        }
        kept.sort_unstable();
        kept.dedup();
        for row in kept {
            self.data.extend_from_slice(rows[row]);
        }
    }
}

/// Rows of these activations of the entry function, each `[…, width]`.
///
/// # Errors
/// When there are no samples, the module cannot be run, or an activation is not finite.
pub fn rows(
    pass: &'static str,
    module: &Module,
    activations: &[(ValueId, usize)],
    context: &Context<'_>,
) -> Result<Vec<Rows>, PassError> {
    let function: &Function = &module.functions[0];
    let values: Vec<ValueId> = activations.iter().map(|(v, _)| *v).collect();
    let mut rows: Vec<Rows> = activations.iter().map(|(_, width)| Rows::new(*width)).collect();
    let even = KEPT.div_ceil(context.samples.map_or(1, Samples::len).max(1));
    let needs = "transforms are chosen by what activations look like";
    observe(pass, needs, module, &values, 1, context, |_, part, tensors| {
        for (&i, tensor) in part.iter().zip(tensors) {
            rows[i].see(&tensor.f32_values(), even);
        }
    })?;
    for (rows, (value, _)) in rows.iter().zip(activations) {
        if rows.broken {
            let name = &function.value(*value).name;
            return Err(PassError::at(
                pass,
                name,
                "the calibration samples give NaN or infinite activations here",
            ));
        }
    }
    Ok(rows)
}
