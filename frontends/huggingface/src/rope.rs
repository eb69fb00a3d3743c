//! Frequencies of rotary positions (RoPE, arXiv 2104.09864), by `rope_theta` and `rope_scaling` of `config.json`; newer files have both in
//! `rope_parameters`.

use std::f64::consts::TAU;

use serde_json::Value;

use crate::config::{Config, shown};
use crate::error::ImportError;

/// Radians a position, for each of the `features / 2` pairs of a head.
///
/// # Errors
/// When `features` is odd, or a field has no meaning or is of a kind that is not known.
pub(crate) fn frequencies(config: &Config, features: i64) -> Result<Vec<f32>, ImportError> {
    if features % 2 != 0 {
        return Err(config.error("head_dim", format!("is {features}; rotary positions need an even number")));
    }
    let new = config.group("rope_parameters")?;
    let scaling = match &new {
        Some(_) => None,
        None => config.group("rope_scaling")?,
    };
    let theta = match &new {
        Some(parameters) if parameters.find(&["rope_theta"]).is_some() => {
            parameters.positive(&["rope_theta"], 10000.0)?
        }
        _ => config.positive(&["rope_theta"], 10000.0)?,
    };
    let partial = new.as_ref().unwrap_or(config);
    if let Some((name, value)) =
        partial.find(&["partial_rotary_factor"]).filter(|(_, v)| v.as_f64() != Some(1.0))
    {
        return Err(partial
            .error(name, format!("is {}; heads that are rotated in part cannot be imported", shown(value))));
    }
    #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let plain = (0..features / 2).map(|i| theta.powf(-2.0 * i as f64 / features as f64));
    let scaled = match new.or(scaling) {
        Some(group) => scaling_of(config, &group)?.apply(plain),
        None => plain.collect(),
    };
    #[allow(clippy::cast_possible_truncation, reason = "f32 is what they are kept in")]
    Ok(scaled.into_iter().map(|f| f as f32).collect())
}

/// How a model was made to read longer texts than it was first trained on.
enum Scaling {
    None,
    /// Positions are closer together by this factor (arXiv 2306.15595).
    Linear(f64),
    /// Llama 3: only long waves are, short ones stay, with a ramp between.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        trained: f64,
    },
}

impl Scaling {
    fn apply(&self, frequencies: impl Iterator<Item = f64>) -> Vec<f64> {
        frequencies
            .map(|f| match *self {
                Scaling::None => f,
                Scaling::Linear(factor) => f / factor,
                Scaling::Llama3 { factor, low, high, trained } => {
                    // How many times the wave turns in the trained length, from `low` (and fewer) to `high` (and more).
                    let turns = trained * f / TAU;
                    let short = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - short) * f / factor + short * f
                }
            })
            .collect()
    }
}

fn scaling_of(config: &Config, group: &Config) -> Result<Scaling, ImportError> {
    let (field, kind) = match group.find(&["rope_type", "type"]) {
        Some((field, _)) => (field, group.text(field)?.unwrap_or("default")),
        None => ("rope_type", "default"),
    };
    match kind {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear(group.required("factor")?)),
        "llama3" => {
            let [factor, low, high] =
                ["factor", "low_freq_factor", "high_freq_factor"].map(|name| group.required(name));
            let (factor, low, high) = (factor?, low?, high?);
            if high <= low {
                let reason = format!("is {high}; it must be above `low_freq_factor`, {low}");
                return Err(group.error("high_freq_factor", reason));
            }
            let trained = "original_max_position_embeddings";
            let trained = match group.find(&[trained]) {
                Some(_) => group.required(trained)?,
                None => config.required("max_position_embeddings")?,
            };
            Ok(Scaling::Llama3 { factor, low, high, trained })
        }
        _ => {
            let value = Value::from(kind);
            let reason = format!("is {}; known kinds are default, linear and llama3", shown(&value));
            Err(group.error(field, reason))
        }
    }
}
