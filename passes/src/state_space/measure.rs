//! Largest magnitudes along one axis of what flows through sites, over the calibration samples. They are computed inside the model, so that
//! the states of all tokens are never held.

use qcc_ir::{Module, Op, ValueId};

use super::site::Site;
use crate::context::Context;
use crate::observe::observe;
use crate::pass::PassError;

/// What is measured at a site.
#[derive(Clone, Copy, Debug)]
pub(super) enum Quantity {
    /// An operand, along its last axis.
    Operand(usize),
    /// The states of a scan, along the state axis.
    StateAxis,
    /// The states of a scan, along their channels.
    StateChannels,
}

/// For each site, the largest magnitudes of each quantity.
///
/// # Errors
/// When there are no samples, the module cannot be run, or a quantity is not finite.
pub(super) fn largest(
    pass: &'static str,
    module: &Module,
    sites: &[Site],
    quantities: &[Quantity],
    context: &Context<'_>,
) -> Result<Vec<Vec<Vec<f32>>>, PassError> {
    let mut module = module.clone();
    let mut taps = Vec::new();
    for site in sites {
        for &quantity in quantities {
            let tap = tap(&mut module, site, quantity);
            taps.push(tap.map_err(|e| PassError::at(pass, &site.name, e))?);
        }
    }
    let mut seen: Vec<Vec<f32>> = vec![Vec::new(); taps.len()];
    let needs = "scales are chosen by what activations look like";
    observe(pass, needs, &module, &taps, 1, context, |_, part, tensors| {
        for (&i, tensor) in part.iter().zip(tensors) {
            let seen = &mut seen[i];
            let values = tensor.f32_values();
            seen.resize(values.len(), 0.0);
            // A NaN stays.
            seen.iter_mut()
                .zip(&*values)
                .for_each(|(s, v)| *s = if *s >= *v || s.is_nan() { *s } else { *v });
        }
    })?;
    let per_site = quantities.len().max(1);
    for (i, values) in seen.iter().enumerate() {
        if values.iter().any(|x| !x.is_finite()) {
            let name = &sites[i / per_site].name;
            return Err(PassError::at(
                pass,
                name,
                "the calibration samples give NaN or infinite states here",
            ));
        }
    }
    Ok(seen.chunks(per_site).map(<[Vec<f32>]>::to_vec).collect())
}

/// Adds what computes a quantity.
fn tap(module: &mut Module, site: &Site, quantity: Quantity) -> Result<ValueId, String> {
    let function = &mut module.functions[0];
    let operand = |slot: usize| site.operand(function, slot).ok_or("an operand is absent");
    let (value, kept) = match quantity {
        Quantity::Operand(slot) => (operand(slot)?, 1),
        Quantity::StateAxis | Quantity::StateChannels => {
            let operands = [operand(0)?, operand(1)?, operand(2)?, operand(3)?, operand(6)?];
            let states = function.add(Op::SelectiveScanStates {}, operands, &site.name);
            let states = *states.map_err(|e| e.to_string())?.first().ok_or("a scan has no states")?;
            (states, if matches!(quantity, Quantity::StateAxis) { 1 } else { 2 })
        }
    };
    let rank = function.ty(value).rank() as i64;
    let axes = (0..rank).filter(|axis| *axis != rank - kept).collect();
    let size = function.add_one(Op::Abs {}, [value], &site.name).map_err(|e| e.to_string())?;
    let most = Op::ReduceMax { axes, keep_dims: false };
    function.add_one(most, [size], &site.name).map_err(|e| e.to_string())
}
