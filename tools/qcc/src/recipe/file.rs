//! A recipe as TOML: the tables `[input] [quantize] [transforms] [calibration]` and `[[override]]`. A key that is none of theirs is an
//! error with its line and the nearest that is.

use qcc_data::Preprocess;
use serde::Deserialize;

use super::transforms::Transforms;
use crate::Failure;

/// A recipe file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    pub input: Input,
    pub quantize: Quantize,
    pub transforms: TransformTable,
    pub calibration: Calibration,
    #[serde(rename = "override")]
    pub overrides: Vec<Override>,
}

/// How images become inputs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Input {
    pub preprocess: Option<Preprocess>,
    pub label_offset: Option<u32>,
}

/// Formats, how they are found, and rounding.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Quantize {
    pub weights: Option<String>,
    pub activations: Option<String>,
    pub kv_cache: Option<String>,
    pub head: Option<String>,
    pub rounding: Option<String>,
    /// The bits that formats are searched for.
    pub search_bits: Option<f64>,
    pub bias_correction: Option<bool>,
}

/// Transforms to apply.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransformTable {
    pub apply: Option<Apply>,
}

/// `"auto"`, `"none"`, or a list of names.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected \"auto\", \"none\" or a list of transforms")]
pub enum Apply {
    Word(String),
    List(Vec<String>),
}

impl Apply {
    /// As one writes it on a command line.
    pub fn text(&self) -> String {
        match self {
            Apply::Word(text) => text.clone(),
            Apply::List(names) => names.join(","),
        }
    }

    pub fn parsed(self) -> Result<Transforms, Failure> {
        match self {
            Apply::Word(text) => Transforms::parse(&text),
            Apply::List(names) => Transforms::of(names.iter().map(String::as_str)),
        }
    }
}

/// How activations are measured.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Calibration {
    pub method: Option<String>,
    pub percentile: Option<f64>,
    pub momentum: Option<f32>,
    pub samples: Option<usize>,
    pub seq_len: Option<usize>,
}

impl Calibration {
    /// Options of the pass `calibrate`, for activations in this format.
    pub fn options(&self, activations: Option<&str>) -> Result<String, Failure> {
        let method = self.method.as_deref().unwrap_or(match (self.percentile, self.momentum) {
            (Some(_), _) => "percentile",
            (None, Some(_)) => "moving",
            _ => "minmax",
        });
        const METHODS: [&str; 5] = ["minmax", "percentile", "mse", "entropy", "moving"];
        if !METHODS.contains(&method) {
            let hint = qcc_ir::names::near_match(method, METHODS);
            return Err(Failure::input(format!(
                "unknown calibration method `{method}`{hint}; there are {}",
                METHODS.join(", ")
            )));
        }
        let mut options = format!("method={method}");
        if let Some(p) = self.percentile {
            options.push_str(&format!(" percentile={p}"));
        }
        if let Some(m) = self.momentum {
            options.push_str(&format!(" momentum={m}"));
        }
        let by_feature = activations.is_some_and(|a| a.split(':').any(|part| part == "channel"));
        if let Some(activations) = activations.filter(|_| by_feature || ["mse", "entropy"].contains(&method))
        {
            options.push_str(&format!(" activations={activations}"));
        }
        Ok(format!("{{{options}}}"))
    }
}

/// Formats of some layers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Override {
    pub layers: Option<String>,
    pub op: Option<String>,
    pub shape: Option<String>,
    pub weights: Option<String>,
    pub activations: Option<String>,
}

impl Override {
    /// The pass that does it, as text.
    pub fn pass(&self) -> Result<String, String> {
        let keys = [
            ("layers", &self.layers),
            ("op", &self.op),
            ("shape", &self.shape),
            ("weights", &self.weights),
            ("activations", &self.activations),
        ];
        let mut options = Vec::new();
        for (name, value) in keys {
            let Some(value) = value else { continue };
            if value.contains('"') {
                return Err(format!(
                    "`{name}`: a glob or format has no quotation marks; `?` stands for any character"
                ));
            }
            options.push(format!("{name}=\"{value}\""));
        }
        Ok(format!("override{{{}}}", options.join(" ")))
    }
}

/// Reads a recipe; `place` is what to call it.
///
/// # Errors
/// When it is no TOML, or has a key or value that no recipe has.
pub fn parse(text: &str, place: &str) -> Result<Recipe, Failure> {
    toml::from_str(text).map_err(|error| {
        let line =
            error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let message = error.message();
        Failure::input(format!("{place}:{line}: {message}{}", nearest(message)))
    })
}

/// The hint for serde's "unknown field `a`, expected one of `b`, `c`", whose words stand between backquotes.
fn nearest(message: &str) -> String {
    if !message.starts_with("unknown ") {
        return String::new();
    }
    let mut words = message.split('`').skip(1).step_by(2);
    words.next().map_or_else(String::new, |unknown| qcc_ir::names::near_match(unknown, words))
}
