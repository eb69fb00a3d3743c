//! A quantized model as one web page: `--report`.
//!
//! The page needs no network and no other file. The same report always gives the same bytes, and whatever it says of a
//! model (names, formats, reasons) is text, never markup. Without JavaScript it lacks sorting, filtering and histograms.

mod histograms;
mod plots;
mod ranking;
mod table;

use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior, context};

pub use histograms::{Histogram, Pair};
pub use ranking::Sensitivity;

/// What the page says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Name of the model.
    pub title: String,
    /// Facts of the whole model: what, and its value.
    pub summary: Vec<(String, String)>,
    /// In the order in which they run.
    pub layers: Vec<Layer>,
    /// In any order.
    pub sensitivities: Vec<Sensitivity>,
    /// Layers that got more bits: name, format, reason.
    pub kept: Vec<(String, String, String)>,
    /// What went otherwise than asked.
    pub warnings: Vec<String>,
}

/// An operation on a weight. A signal-to-noise ratio of infinity says that nothing was lost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer {
    /// Name of its source.
    pub name: String,
    /// The operation.
    pub op: String,
    /// The weight's shape.
    pub shape: String,
    /// The weight's format that the recipe asks for; empty if it asks for none.
    pub requested_weights: String,
    /// The weight's format.
    pub weights: String,
    /// The format that the recipe asks for in what the weight is applied to; empty if it asks for none.
    pub requested_activations: String,
    /// The format of what the weight is applied to.
    pub activations: String,
    /// Bits of an element with its scales.
    pub bits_per_weight: Option<f64>,
    /// Bytes of weight, scales and zero points.
    pub bytes: u64,
    /// Of the weight, in dB.
    pub weight_sqnr_db: Option<f64>,
    /// Of its output where only this layer is quantized, in dB.
    pub output_sqnr_db: Option<f64>,
    /// Of its output in the quantized model against the float model, in dB.
    pub depth_sqnr_db: Option<f64>,
    /// Of one run.
    pub seconds: Option<f64>,
    /// The weight's values.
    pub weight_histograms: Option<Pair>,
    /// Values of what the weight is applied to.
    pub activation_histograms: Option<Pair>,
    /// Why it keeps its type.
    pub note: Option<String>,
}

impl Layer {
    /// Whether it got another format than the recipe asks for.
    fn changed(&self) -> bool {
        differs(&self.requested_weights, &self.weights)
            || differs(&self.requested_activations, &self.activations)
    }
}

/// Whether a format is another than the one asked for, if any was.
fn differs(requested: &str, format: &str) -> bool {
    !requested.is_empty() && requested != format
}

/// The page.
pub fn render(report: &Report) -> String {
    let layers = &report.layers;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    let page = context! {
        title => report.title,
        summary => report.summary,
        warnings => report.warnings,
        plots => [plots::sqnr(layers), plots::depth(layers)].into_iter().flatten().collect::<Vec<_>>(),
        ranking => ranking::ranking(&report.sensitivities),
        kept => report.kept,
        table => table::table(layers),
        histograms => Value::from_safe_string(histograms::json(layers)),
        style => Value::from_safe_string(include_str!("style.css").into()),
        script => Value::from_safe_string(include_str!("script.js").into()),
    };
    // The name's ending turns on the escaping of HTML.
    environment
        .render_named_str("report.html", include_str!("template.html"), page)
        .expect("invariant: the template is a constant and every value it names is given")
}

/// A signal-to-noise ratio for people.
fn decibels(value: Option<f64>) -> String {
    match value {
        Some(f64::INFINITY) => "exact".into(),
        Some(value) if value.is_finite() => format!("{value:.1} dB"),
        _ => MISSING.into(),
    }
}

/// What stands for a number that is not known.
const MISSING: &str = "–";

#[cfg(test)]
mod tests;
