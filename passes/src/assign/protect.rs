//! `protect`: gives the layers that lose most more bits until the loss of the model is small enough.
//!
//! Each layer is quantized alone first, which ranks them by what it costs. Then the fewest of the worst ones that bring the loss below what is
//! asked for get more bits: 8 where they have fewer, floats where that is not enough. How many is found by doubling, then by bisection: losses
//! fall about as fast as layers get more bits, not strictly, so that fewer may do now and then; what is taken was measured. Layers that an
//! `override` gave a format keep it.

use qcc_ir::format::{Format, Role};
use qcc_ir::{Module, OpId};

use super::loss::Reference;
use super::{Kept, Requested, Sensitivity};
use crate::context::Context;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};
use crate::pipeline::Pipeline;
use crate::quantize::site::{Site, sites};
use crate::registry::Registry;

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "gives the layers that lose most more bits until the model loses little enough",
    options: &[
        ("loss", "percent that the loss may lie above the float model's"),
        ("passes", "in quotes: the passes that quantize, after `calibrate`"),
        ("higher", "the format of weights between what was asked for and f32 (default int8:channel)"),
    ],
    make: |options| Ok(Box::new(Protect::new(options)?)),
};

const NAME: &str = "protect";

struct Protect {
    loss: f64,
    passes: Pipeline,
    /// Whether they quantize an output head.
    heads: bool,
    /// What is between the formats asked for and floats; none where it is not more than those.
    higher: Option<Format>,
}

impl Protect {
    fn new(options: &mut Options) -> Result<Protect, String> {
        let loss: f64 = options.take("loss")?.ok_or("the option `loss=PERCENT` is needed")?;
        if !(loss > 0.0 && loss.is_finite()) {
            return Err(format!("`loss={loss}` must be a percentage above 0"));
        }
        let passes: String = options.take("passes")?.ok_or("the option `passes=\"…\"` is needed")?;
        let mut quantize = Pipeline::options_of(&passes, "quantize").map_err(|e| e.to_string())?;
        let weights: String = quantize.take("weights")?.ok_or("`quantize` has no format of weights")?;
        let weights = Format::parse(&weights, Role::Weight).map_err(|e| e.to_string())?;
        let heads = quantize.take::<String>("head")?.is_some_and(|head| head != "f32");
        let passes = Pipeline::parse(&passes, &Registry::builtin()).map_err(|e| e.to_string())?;
        let higher = options.take::<String>("higher")?.unwrap_or_else(|| "int8:channel".into());
        let higher = Format::parse(&higher, Role::Weight).map_err(|e| e.to_string())?;
        let higher = Some(higher).filter(|h| h.bits_per_element() > weights.bits_per_element());
        Ok(Protect { loss, passes, heads, higher })
    }
}

/// A layer, what it is called, and what it loses alone.
struct Ranked {
    id: OpId,
    name: String,
    loss: f64,
}

impl Pass for Protect {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(0.0)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let fail = |e: String| PassError::failed(NAME, e);
        let reference = Reference::new(module, context).map_err(fail)?;
        let float = Format::parse("f32", Role::Weight).map_err(|e| fail(e.to_string()))?;
        let in_format = |ids: &[OpId], weights: Format| {
            let mut module = module.clone();
            for id in ids {
                Requested { weights: Some(weights), activations: None }
                    .annotate(module.functions[0].node_mut(*id));
            }
            module
        };
        let measured = |module: Module| reference.loss(module, context, &self.passes).map_err(fail);
        let layers: Vec<OpId> = sites(&module.functions[0])
            .into_iter()
            .filter(|(_, site)| *site == Site::Layer || (*site == Site::Head && self.heads))
            .map(|(id, _)| id)
            .collect();
        let whole = measured(module.clone())?;
        let mut ranked = Vec::new();
        for (done, &id) in layers.iter().enumerate() {
            context.progress.report("ranking layers", done, layers.len());
            let others: Vec<OpId> = layers.iter().copied().filter(|other| *other != id).collect();
            let name = module.functions[0].node(id).location.to_string();
            ranked.push(Ranked { id, name, loss: measured(in_format(&others, float))? });
        }
        context.progress.report("ranking layers", layers.len(), layers.len());
        ranked.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        let function = &module.functions[0];
        let free = |id: &OpId| Requested::of(function.node(*id)).is_ok_and(|own| own.weights.is_none());
        let worst: Vec<OpId> = ranked.iter().map(|r| r.id).filter(free).collect();
        let kept = match whole <= self.loss {
            true => (whole, Vec::new()),
            false => self.least(&worst, float, whole, |kept| {
                let mut module = module.clone();
                for (id, weights) in kept {
                    Requested { weights: Some(*weights), activations: None }
                        .annotate(module.functions[0].node_mut(*id));
                }
                measured(module)
            })?,
        };
        context.choices.loss = Some((whole, kept.0));
        for (id, weights) in &kept.1 {
            Requested { weights: Some(*weights), activations: None }
                .annotate(module.functions[0].node_mut(*id));
            if let Some(Ranked { name, loss, .. }) = ranked.iter().find(|r| r.id == *id) {
                context.choices.kept.push(Kept {
                    layer: name.clone(),
                    format: weights.to_string(),
                    loss: *loss,
                });
            }
        }
        if kept.0 > self.loss {
            let message = format!(
                "the loss is {:.3} % with all layers in f32 that have no format of their own, above the {} % asked for",
                kept.0, self.loss
            );
            context.warn(NAME, message);
        }
        let counts = [("ranked", ranked.len()), ("kept", kept.1.len())];
        context.choices.sensitivities =
            ranked.into_iter().map(|r| Sensitivity { layer: r.name, loss: r.loss }).collect();
        Ok(Outcome::of(counts))
    }
}

impl Protect {
    /// The fewest of the worst layers with more bits that lose little enough, and what they lose.
    #[allow(clippy::type_complexity, reason = "a list of pairs")]
    fn least(
        &self,
        worst: &[OpId],
        float: Format,
        whole: f64,
        measure: impl Fn(&[(OpId, Format)]) -> Result<f64, PassError>,
    ) -> Result<(f64, Vec<(OpId, Format)>), PassError> {
        let mut rest = Vec::new();
        if let Some(format) = self.higher {
            let higher = |n: usize| worst[..n].iter().map(|id| (*id, format)).collect::<Vec<_>>();
            let found = fewest(worst.len(), self.loss, |n| Ok((measure(&higher(n))?, higher(n))))?;
            if found.0 <= self.loss {
                return Ok(found);
            }
            if found.0 < whole {
                rest = found.1;
            }
        }
        let floats = |n: usize| {
            let mut kept: Vec<(OpId, Format)> = worst[..n].iter().map(|id| (*id, float)).collect();
            kept.extend(rest.iter().skip(n).copied());
            kept
        };
        fewest(worst.len(), self.loss, |n| Ok((measure(&floats(n))?, floats(n))))
    }
}

/// Few layers, up to `most`, that lose at most `enough`, found by doubling and bisection; all where none do.
fn fewest<T>(
    most: usize,
    enough: f64,
    try_out: impl Fn(usize) -> Result<(f64, T), PassError>,
) -> Result<(f64, T), PassError> {
    let (mut low, mut high) = (0, most.min(1));
    let mut best = try_out(high)?;
    while best.0 > enough && high < most {
        (low, high) = (high, most.min(2 * high));
        best = try_out(high)?;
    }
    while best.0 <= enough && high - low > 1 {
        let middle = usize::midpoint(low, high);
        let tried = try_out(middle)?;
        if tried.0 <= enough {
            (high, best) = (middle, tried);
        } else {
            low = middle;
        }
    }
    Ok(best)
}
