//! What a search for transforms found, for people and reports: `--explain`, `--pareto`, `--json`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::equivalence::{Limits, Report};

/// What one pass found.
#[derive(Clone, Debug, Default)]
pub struct Explanation {
    /// The pass.
    pub pass: &'static str,
    /// The layers, in order.
    pub layers: Vec<LayerChoice>,
    /// What was not possible.
    pub refused: Vec<Refusal>,
    /// The trade-offs between latency and error that were found, the fastest first; empty where nothing was chosen by cost.
    pub trade_offs: Vec<TradeOff>,
    /// Saturation of each distinct piece.
    pub saturations: Vec<Saturation>,
    /// Time for saturating and for finding the plans among which to choose; measuring them is not in it.
    pub search: Duration,
    /// Largest relative error of an output of the transformed model in f32 against the model before (max|a − b| / max|b|), over the
    /// samples it was compared on; none where there was nothing to run it with.
    pub difference: Option<f64>,
}

/// What was done to one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerChoice {
    /// The layer.
    pub layer: String,
    /// The transforms of its input, by the names of their passes with commas between; `as it is` without any.
    pub chosen: String,
    /// What took them up besides the layer: the operations whose weights or factors changed, by source.
    pub taken_up_by: Vec<String>,
    /// Its quantization error before, relative to the mean square of its output; none where nothing is rounded.
    pub before: Option<f64>,
    /// And after.
    pub after: Option<f64>,
    /// Seconds of a token that it is transformed for while the model runs, by the target description; 0 where weights take the transform
    /// up, none where that was not estimated.
    pub online_seconds: Option<f64>,
}

/// What a layer is that nothing was done to.
pub const AS_IT_IS: &str = "as it is";

impl LayerChoice {
    /// A layer that a transform was applied to, without an estimate of what it gains.
    pub fn done(layer: &str, transform: &str) -> LayerChoice {
        LayerChoice {
            layer: layer.to_string(),
            chosen: transform.to_string(),
            taken_up_by: Vec::new(),
            before: None,
            after: None,
            online_seconds: None,
        }
    }
}

/// A transform that a layer cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The layers that would have it together.
    pub layers: Vec<String>,
    /// The transform, by the name of its pass.
    pub transform: String,
    /// Why.
    pub reason: String,
}

impl Refusal {
    /// A transform that one layer cannot have.
    pub fn new(layer: &str, transform: &str, reason: impl Into<String>) -> Refusal {
        Refusal { layers: vec![layer.to_string()], transform: transform.to_string(), reason: reason.into() }
    }

    /// The layers, in words.
    pub fn site(&self) -> String {
        self.layers.join(" + ")
    }
}

/// One way to transform the whole model.
#[derive(Clone, Debug, PartialEq)]
pub struct TradeOff {
    /// Layers that are transformed.
    pub layers: usize,
    /// Transforms that are applied while the model runs.
    pub online: usize,
    /// Seconds of a token by the target description.
    pub seconds: f64,
    /// Sum of the layers' relative errors, estimated.
    pub error: f64,
    /// What quantization loses on held-out samples, measured: Kullback–Leibler divergence in nats a token from the float model for a
    /// language model, the relative mean square error of the outputs for others. None where it was not among the best by estimate.
    pub loss: Option<f64>,
    /// Whether it is the one that was taken.
    pub chosen: bool,
    /// Whether it is so much slower than the model as it is that it was not considered.
    pub too_slow: bool,
}

/// What saturating one e-graph took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saturation {
    /// E-classes.
    pub classes: usize,
    /// E-nodes.
    pub nodes: usize,
    /// Rounds of all rules.
    pub iterations: usize,
    /// Time.
    pub time: Duration,
    /// How far it might have gone; a limit that is hit is an error.
    pub limits: Limits,
    /// How often each rule found something new.
    pub applied: BTreeMap<String, usize>,
}

impl From<&Report> for Saturation {
    fn from(report: &Report) -> Saturation {
        let Report { classes, nodes, iterations, time, limits, ref applied, .. } = *report;
        Saturation { classes, nodes, iterations, time, limits, applied: applied.clone() }
    }
}
