//! What the channels of activations look like over the calibration samples.

use qcc_ir::{Module, ValueId};
use qcc_params::Tensor;

use super::NAME;
use crate::calibrate::Range;
use crate::context::{Context, Samples};
use crate::observe::observe;
use crate::pass::PassError;

/// The channels of an activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Channels {
    /// The mean square of each.
    pub square: Vec<f64>,
    /// The range of each.
    pub range: Vec<Range>,
}

impl Channels {
    /// Of `channels`, of which nothing was seen.
    fn new(channels: usize) -> Channels {
        Channels { square: vec![0.0; channels], range: vec![Range { min: 0.0, max: 0.0 }; channels] }
    }

    /// Takes in a sample `[batch, channels, …]`, one of `samples`.
    fn see(&mut self, tensor: &Tensor, samples: usize) {
        let pixels = tensor.dims.iter().skip(2).product::<usize>().max(1);
        let share = 1.0 / (samples * pixels * tensor.dims.first().copied().unwrap_or(1).max(1)) as f64;
        let channels = self.square.len().max(1);
        for (i, plane) in tensor.f32_values().chunks(pixels).enumerate() {
            let (square, range) = (&mut self.square[i % channels], &mut self.range[i % channels]);
            *square += plane.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() * share;
            for x in plane {
                *range = Range { min: range.min.min(*x), max: range.max.max(*x) };
            }
        }
    }
}

/// The channels of these activations of the entry function; 0 is in all ranges.
///
/// # Errors
/// When there are no samples, the module cannot be run, or an activation is not finite.
pub fn channels(
    module: &Module,
    activations: &[(ValueId, usize)],
    context: &Context<'_>,
) -> Result<Vec<Channels>, PassError> {
    let values: Vec<ValueId> = activations.iter().map(|(v, _)| *v).collect();
    let mut all: Vec<Channels> = activations.iter().map(|(_, n)| Channels::new(*n)).collect();
    let count = context.samples.map_or(1, Samples::len);
    let needs = "where it helps is seen on activations";
    observe(NAME, needs, module, &values, 1, context, |_, part, tensors| {
        for (&i, tensor) in part.iter().zip(tensors) {
            all[i].see(tensor, count);
        }
    })?;
    for (channels, (value, _)) in all.iter().zip(activations) {
        if channels.square.iter().any(|x| !x.is_finite()) {
            let name = &module.functions[0].value(*value).name;
            return Err(PassError::at(
                NAME,
                name,
                "the calibration samples give NaN or infinite activations",
            ));
        }
    }
    Ok(all)
}
