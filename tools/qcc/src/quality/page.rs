//! From what a compilation did and measured to its report.

use std::collections::HashMap;

use qcc_ir::format::{Format, Role};
use qcc_passes::Warning;
use qcc_passes::assign::Choices;

use super::Quality;
use crate::html_report::{self, Report, Sensitivity};
use crate::layers::Layer;

/// What a report is made of.
pub struct Facts<'a> {
    /// The model.
    pub title: String,
    /// Facts of the whole.
    pub summary: Vec<(String, String)>,
    /// The formats of weights and activations that were asked for.
    pub requested: (Option<&'a str>, Option<&'a str>),
    /// What layers have become.
    pub layers: &'a [Layer],
    /// Seconds of one run of each operation, by name.
    pub times: HashMap<String, f64>,
    /// Formats of single layers.
    pub choices: &'a Choices,
    /// What the user should know.
    pub warnings: &'a [Warning],
}

impl Facts<'_> {
    /// The report, of layers that lost this.
    pub fn page(self, mut quality: Quality) -> Report {
        let layers = self.layers.iter().map(|l| self.layer(l, &mut quality)).collect();
        let Choices { sensitivities, kept, .. } = self.choices;
        let sensitivity =
            |s: &qcc_passes::assign::Sensitivity| Sensitivity { layer: s.layer.clone(), loss: s.loss };
        let kept = kept.iter().map(|k| {
            let reason = format!("quantized alone it loses {:.3} %", k.loss);
            (k.layer.clone(), k.format.clone(), reason)
        });
        Report {
            layers,
            sensitivities: sensitivities.iter().map(sensitivity).collect(),
            kept: kept.collect(),
            warnings: self.warnings.iter().map(|w| format!("{}: {}", w.pass, w.message)).collect(),
            title: self.title,
            summary: self.summary,
        }
    }

    fn layer(&self, layer: &Layer, quality: &mut Quality) -> html_report::Layer {
        let shape: Vec<String> = layer.shape.iter().map(ToString::to_string).collect();
        let mut page = html_report::Layer {
            name: layer.name.clone(),
            op: layer.op.into(),
            shape: shape.join("×"),
            weights: layer.weight_format.clone(),
            activations: layer.activation_format.clone(),
            bits_per_weight: layer.bits_per_weight(),
            bytes: layer.bytes,
            seconds: self.times.get(&layer.name).copied(),
            note: self.note(&layer.name),
            ..html_report::Layer::default()
        };
        let Some(found) = quality.take(&layer.name) else { return page };
        // What is asked of all layers is asked of heads only where they were quantized.
        let quantized = found.weight_sqnr_db.is_some() || page.note.is_some();
        let asked = |own: Option<Format>, all: Option<&str>, role: Role| match own {
            Some(format) => format.to_string(),
            None => all
                .filter(|_| quantized)
                .and_then(|text| Format::parse(text, role).ok())
                .map_or_else(String::new, |format| format.to_string()),
        };
        page.requested_weights = asked(found.own.weights, self.requested.0, Role::Weight);
        page.requested_activations = asked(found.own.activations, self.requested.1, Role::Activation);
        page.weight_sqnr_db = found.weight_sqnr_db;
        page.output_sqnr_db = found.output_sqnr_db;
        page.depth_sqnr_db = found.depth_sqnr_db;
        page.weight_histograms = found.weight_histograms;
        page.activation_histograms = found.activation_histograms;
        page
    }

    /// Why a layer is not what was asked for, where a warning says so.
    fn note(&self, name: &str) -> Option<String> {
        let quoted = format!("`{name}`");
        let warning =
            self.warnings.iter().find(|w| w.pass == "quantize" && w.message.starts_with(&quoted))?;
        Some(warning.message[quoted.len()..].trim().to_string())
    }
}
