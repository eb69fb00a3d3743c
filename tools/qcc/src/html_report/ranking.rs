//! Layers by what quantizing each alone costs: a bar chart.

use serde::Serialize;

use super::MISSING;

/// What quantizing a layer costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensitivity {
    /// Name of the layer.
    pub layer: String,
    /// The loss caused by quantizing this layer alone, in percent; below zero if the model got better.
    pub loss: f64,
}

/// A bar, in percent of the chart's width.
#[derive(Debug, Serialize)]
pub struct Bar {
    layer: String,
    loss: String,
    start: String,
    width: String,
}

/// Bars of all layers, the largest loss first; those whose loss is not a number last.
pub fn ranking(sensitivities: &[Sensitivity]) -> Vec<Bar> {
    let mut order: Vec<&Sensitivity> = sensitivities.iter().collect();
    order.sort_by(|a, b| a.loss.is_nan().cmp(&b.loss.is_nan()).then(b.loss.total_cmp(&a.loss)));
    let finite = || order.iter().map(|s| s.loss).filter(|loss| loss.is_finite());
    let (low, high) = (finite().fold(0.0, f64::min), finite().fold(0.0, f64::max));
    order.iter().map(|s| bar(s, low, high)).collect()
}

fn bar(sensitivity: &Sensitivity, low: f64, high: f64) -> Bar {
    let loss = sensitivity.loss;
    let span = if high > low { high - low } else { 1.0 };
    let percent = |value: f64| (value - low) / span * 100.0;
    // An infinite loss fills the chart; one that is not a number has no bar.
    let end = if loss.is_nan() { 0.0 } else { loss.clamp(low, high) };
    let (start, end) = (percent(end.min(0.0)), percent(end.max(0.0)));
    let text = match loss {
        f64::INFINITY => "∞".into(),
        loss if loss.is_finite() => format!("{loss:.3} %"),
        _ => MISSING.into(),
    };
    Bar {
        layer: sensitivity.layer.clone(),
        loss: text,
        start: format!("{start:.2}"),
        width: format!("{:.2}", end - start),
    }
}
