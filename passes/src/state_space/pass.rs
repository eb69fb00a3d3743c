//! The passes.

use std::str::FromStr;
use std::time::Instant;

use qcc_ir::hadamard::Order;
use qcc_ir::{Function, Module, Op};
use qcc_params::Tensor;

use super::apply::{Free, Introduction, STATE, apply};
use super::measure::{Quantity, largest};
use super::site::{Site, scans, windows};
use crate::context::Context;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};
use crate::transform::explanation::{LayerChoice, Refusal, Saturation};
use crate::transform::{Explanation, Target, tell};
use crate::weights::{tensor, value};

const AXIS: (&str, &str) = ("axis", "of the states: state (default) or channel");
const ALPHA: (&str, &str) = ("alpha", "how much of the range goes to the weights, 0 to 1 (default 0.5)");

/// The registry entries.
pub const INFOS: [PassInfo; 3] = [
    PassInfo {
        name: "smooth-window",
        summary: "scales what enters causal convolutions, into the weights around it",
        options: &[ALPHA],
        make: |options| {
            Ok(Box::new(StateSpace { name: "smooth-window", what: What::SmoothWindow(alpha(options)?) }))
        },
    },
    PassInfo {
        name: "smooth-state",
        summary: "scales the states of state-space models, into the weights around them",
        options: &[AXIS, ALPHA],
        make: |options| {
            let alpha = alpha(options)?;
            let what = match options.take("axis")?.unwrap_or(Axis::State) {
                Axis::State => What::SmoothState(alpha),
                Axis::Channel => What::SmoothChannels,
            };
            Ok(Box::new(StateSpace { name: "smooth-state", what }))
        },
    },
    PassInfo {
        name: "rotate-state",
        summary: "applies a fast Hadamard transform to the states of state-space models at run time",
        options: &[AXIS],
        make: |options| {
            let what = match options.take("axis")?.unwrap_or(Axis::State) {
                Axis::State => What::RotateState,
                Axis::Channel => What::RotateChannels,
            };
            Ok(Box::new(StateSpace { name: "rotate-state", what }))
        },
    },
];

/// An axis of the states.
enum Axis {
    State,
    Channel,
}

impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Axis, String> {
        match text {
            "state" => Ok(Axis::State),
            "channel" => Ok(Axis::Channel),
            _ => Err("use state or channel".into()),
        }
    }
}

fn alpha(options: &mut Options) -> Result<f64, String> {
    match options.take("alpha")?.unwrap_or(0.5) {
        alpha if (0.0..=1.0).contains(&alpha) => Ok(alpha),
        alpha => Err(format!("`alpha={alpha}` must lie between 0 and 1")),
    }
}

/// Which transform.
#[derive(Clone, Copy, Debug)]
enum What {
    SmoothWindow(f64),
    SmoothState(f64),
    SmoothChannels,
    RotateState,
    RotateChannels,
}

struct StateSpace {
    name: &'static str,
    what: What,
}

const SCAN: &[&str] = &["?u", "?t", "?a", "?b", "?c", "?d", STATE];
const WINDOW: &[&str] = &["?x", "?w", STATE, "?b"];

impl Pass for StateSpace {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let fail = |e: String| PassError::failed(self.name, e);
        let function = module.entry().ok_or_else(|| fail("the module has no function".into()))?;
        let window = matches!(self.what, What::SmoothWindow(_));
        let sites = if window { windows(function) } else { scans(function) };
        let start = Instant::now();
        let mut explanation = Explanation { pass: self.name, ..Explanation::default() };
        let found = match self.what {
            What::SmoothWindow(_) | What::SmoothState(_) | What::SmoothChannels if sites.is_empty() => {
                Vec::new()
            }
            What::SmoothWindow(_) => largest(self.name, module, &sites, &[Quantity::Operand(0)], context)?,
            What::SmoothState(_) => {
                largest(self.name, module, &sites, &[Quantity::StateAxis, Quantity::Operand(4)], context)?
            }
            What::SmoothChannels => largest(self.name, module, &sites, &[Quantity::StateChannels], context)?,
            What::RotateState | What::RotateChannels => vec![Vec::new(); sites.len()],
        };
        let mut introductions = Vec::new();
        for (site, found) in sites.iter().zip(&found) {
            let free = self.free(&mut module.functions[0], site, found, context);
            match free.map_err(|e| PassError::at(self.name, &site.name, e))? {
                Ok(free) => introductions.push(Introduction {
                    site,
                    rule: self.rule(),
                    operands: if window { WINDOW } else { SCAN },
                    free,
                }),
                Err(reason) => explanation.refused.push(self.refusal(site, reason)),
            }
        }
        let function = &mut module.functions[0];
        let before = function.clone();
        let (made, report) =
            apply(function, &introductions, &context.rules, &context.target).map_err(fail)?;
        let changed = made.iter().filter(|made| **made).count();
        for (introduction, made) in introductions.iter().zip(made) {
            let site = introduction.site;
            if made {
                let online_seconds = self.online_seconds(&before, site, &context.target);
                let done = LayerChoice::done(&site.name, self.transform());
                explanation.layers.push(LayerChoice { online_seconds, ..done });
            } else {
                explanation.refused.push(self.refusal(site, self.obstacle(&before, site)));
            }
        }
        explanation.saturations.push(Saturation::from(&report));
        explanation.search = start.elapsed();
        let mut outcome = Outcome::of([("sites", changed)]);
        outcome.measures.insert("left", sites.len() - changed);
        tell(&explanation);
        context.explanations.push(explanation);
        Ok(outcome)
    }
}

impl StateSpace {
    fn rule(&self) -> &'static str {
        match self.what {
            What::SmoothWindow(_) => "scaled-window",
            What::SmoothState(_) => "scaled-state-axis",
            What::SmoothChannels => "scaled-state-channels",
            What::RotateState => "transformed-state-axis",
            What::RotateChannels => "transformed-state-channels",
        }
    }

    /// The pass with its option.
    fn transform(&self) -> &'static str {
        match self.what {
            What::SmoothWindow(_) => "smooth-window",
            What::SmoothState(_) => "smooth-state",
            What::SmoothChannels => "smooth-state{axis=channel}",
            What::RotateState => "rotate-state",
            What::RotateChannels => "rotate-state{axis=channel}",
        }
    }

    /// Seconds of a token: fast transforms of the states of each step, or factors on the states that a call begins and ends with.
    fn online_seconds(&self, function: &Function, site: &Site, target: &Target) -> Option<f64> {
        let state = if matches!(self.what, What::SmoothWindow(_)) { 2 } else { 6 };
        let (rows, columns) = (site.size(function, state, 2)?, site.size(function, state, 1)?);
        let (transforms, n) = match self.what {
            What::RotateState => (1.0, columns),
            What::RotateChannels => (2.0, rows),
            _ => return Some(2.0 * target.elementwise_seconds(rows * columns) / target.tokens),
        };
        let order = Order::largest_dividing(i64::try_from(n).ok()?);
        Some(transforms * target.transform_seconds(rows * columns, order.size()))
    }

    fn refusal(&self, site: &Site, reason: String) -> Refusal {
        Refusal::new(&site.name, self.transform(), reason)
    }

    /// What the rule's free variable is bound to at a site, or why it cannot be.
    fn free(
        &self,
        function: &mut Function,
        site: &Site,
        found: &[Vec<f32>],
        context: &mut Context<'_>,
    ) -> Result<Result<(&'static str, Free), String>, String> {
        let scale = match self.what {
            What::SmoothWindow(alpha) => {
                let taps = site.operand(function, 1).ok_or("it has no taps")?;
                let Some(name) = function.parameter_name(taps) else {
                    return Ok(Err("its taps are no weight".into()));
                };
                let taps = context.parameters.evaluate(name, context.evaluator).map_err(|e| e.to_string())?;
                let width = taps.dims.last().copied().unwrap_or(1).max(1);
                let taps = taps.to_f32_vec();
                let largest = |row: &[f32]| row.iter().fold(1e-5f32, |m, w| m.max(w.abs()));
                let taps: Vec<f32> = taps.chunks(width).map(largest).collect();
                reciprocals(&found[0], &taps, alpha, f64::INFINITY)
            }
            What::SmoothState(alpha) => reciprocals(&found[0], &found[1], alpha, 100.0),
            What::SmoothChannels => reciprocals(&found[0], &[], 1.0, f64::INFINITY),
            What::RotateState | What::RotateChannels => {
                let from_last = if matches!(self.what, What::RotateState) { 1 } else { 2 };
                let n = site.size(function, 6, from_last).ok_or("a state has no constant size")?;
                let order = Order::largest_dividing(i64::try_from(n).map_err(|e| e.to_string())?);
                if order.size() < 2 {
                    return Ok(Err(format!("no Hadamard matrix is known of a size that divides {n}")));
                }
                let op = Op::Hadamard { size: order.size(), transpose: false };
                return Ok(Ok(("?k", Free::Attributes(op))));
            }
        };
        let scale = Tensor::f32(&[scale.len()], scale).map_err(|e| e.to_string())?;
        let name = tensor(&mut context.parameters, &format!("scale.{}", site.name), scale)?;
        Ok(Ok(("?s", Free::Scale(value(function, &context.parameters, &name)?))))
    }

    /// Why weights do not take up a scale: what makes the operands that it goes to.
    fn obstacle(&self, function: &Function, site: &Site) -> String {
        let slots: &[usize] = match self.what {
            What::SmoothState(_) => &[3, 4],
            What::RotateState => &[4],
            _ => &[0],
        };
        for value in slots.iter().filter_map(|slot| site.operand(function, *slot)) {
            match function.defining(value) {
                Some((_, node)) if node.op == (Op::Linear {}) => {}
                Some((_, node)) => {
                    let hint = match node.op {
                        Op::Slice { .. } => "; run `split-projections` before",
                        _ => "",
                    };
                    let name = &node.location;
                    return format!("it does not pass `{name}` (qcc.{}){hint}", node.op.name());
                }
                None => return format!("`{}` comes from the caller", function.value(value).name),
            }
        }
        "the rules do not carry it to any weight".into()
    }
}

/// 1 / s for s = max|x|^α / max|w|^(1 − α), of at least 0.01 and at most `most`; 1 where nothing was seen.
fn reciprocals(x: &[f32], w: &[f32], alpha: f64, most: f64) -> Vec<f32> {
    let w = w.iter().copied().map(f64::from).chain(std::iter::repeat(1.0));
    x.iter()
        .zip(w)
        .map(|(x, w)| {
            let s = f64::from(*x).powf(alpha) / w.max(1e-5).powf(1.0 - alpha);
            let s = if *x > 0.0 { s.clamp(1e-2, most) } else { 1.0 };
            #[allow(clippy::cast_possible_truncation, reason = "scales are f32")]
            let reciprocal = (1.0 / s) as f32;
            reciprocal
        })
        .collect()
}
