//! What a search for transforms found, for people and reports: `--explain`, `--pareto`, `--json`.

use std::time::Duration;

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
    /// What was done to its input, in words.
    pub chosen: String,
    /// Its quantization error before, relative to the mean square of its output; none where nothing is rounded.
    pub before: Option<f64>,
    /// And after.
    pub after: Option<f64>,
    /// Seconds of a token that its input is transformed for while the model runs; 0 where weights take the transform up.
    pub online_seconds: f64,
}

/// A transform that a layer cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The layers.
    pub site: String,
    /// The transform.
    pub transform: String,
    /// Why.
    pub reason: String,
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
}

/// What saturating one e-graph took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saturation {
    /// E-classes.
    pub classes: usize,
    /// E-nodes.
    pub nodes: usize,
    /// Rounds of all rules.
    pub iterations: usize,
    /// Time.
    pub time: Duration,
}

impl From<&crate::equivalence::Report> for Saturation {
    fn from(report: &crate::equivalence::Report) -> Saturation {
        let crate::equivalence::Report { classes, nodes, iterations, time, .. } = *report;
        Saturation { classes, nodes, iterations, time }
    }
}
