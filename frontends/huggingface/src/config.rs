//! `config.json`, field by field. Every number is checked against what it stands for before it is used, so no later arithmetic on sizes
//! overflows; names are those of `transformers`, with the older ones as alternatives.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::ImportError;

/// The longest `config.json` that is read, in bytes (real ones have a few thousand).
const LONGEST: u64 = 16 << 20;

/// The largest size of an axis: products of two sizes and a small factor fit an `i64` with room.
const LARGEST_SIZE: i64 = 1 << 24;

/// The most layers of a model; the deepest published ones have some hundreds.
const MOST_LAYERS: i64 = 4096;

/// A checkpoint's `config.json`, or an object in it.
pub(crate) struct Config {
    path: PathBuf,
    /// The names of the objects around it, each with a dot: `rope_parameters.`
    within: String,
    fields: Map<String, Value>,
}

impl Config {
    /// Reads the `config.json` of a checkpoint.
    pub fn read(folder: &Path) -> Result<Config, ImportError> {
        let path = folder.join("config.json");
        let fail = |reason: String| ImportError::Config { path: path.clone(), reason };
        let read = |source| ImportError::Read { path: path.clone(), source };
        let mut bytes = Vec::new();
        File::open(&path).map_err(read)?.take(LONGEST + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > LONGEST {
            return Err(fail(format!("longer than {LONGEST} bytes; this is no model configuration")));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(fields)) => Ok(Config { path, within: String::new(), fields }),
            Ok(_) => Err(fail("not a JSON object; this is no model configuration".into())),
            Err(error) => Err(fail(format!("not valid JSON: {error}"))),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error in a field.
    pub fn error(&self, field: &str, reason: impl Into<String>) -> ImportError {
        let field = format!("{}{field}", self.within);
        ImportError::Field { path: self.path.clone(), field, reason: reason.into() }
    }

    /// The object in a field.
    pub fn group(&self, name: &str) -> Result<Option<Config>, ImportError> {
        match self.find(&[name]) {
            None => Ok(None),
            Some((_, Value::Object(fields))) => Ok(Some(Config {
                path: self.path.clone(),
                within: format!("{}{name}.", self.within),
                fields: fields.clone(),
            })),
            Some((_, value)) => Err(self.error(name, format!("is {}; it must be an object", shown(value)))),
        }
    }

    /// The first of these fields that there is, with its value; `null` counts as absent.
    pub fn find<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &Value)> {
        names.iter().find_map(|name| Some((*name, self.fields.get(*name).filter(|v| !v.is_null())?)))
    }

    /// Whether a field is there and `null`.
    pub fn is_null(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(Value::is_null)
    }

    /// The size of an axis, at least 1. The first of `names` that there is counts; without a default one must be there.
    pub fn size(&self, names: &[&str], default: Option<i64>) -> Result<i64, ImportError> {
        self.whole(names, default, LARGEST_SIZE)
    }

    /// A number of layers, at least 1.
    pub fn layers(&self, names: &[&str]) -> Result<i64, ImportError> {
        self.whole(names, None, MOST_LAYERS)
    }

    fn whole(&self, names: &[&str], default: Option<i64>, most: i64) -> Result<i64, ImportError> {
        let Some((name, value)) = self.find(names) else {
            return default.ok_or_else(|| {
                self.error(names[0], format!("is missing; give a whole number from 1 to {most}"))
            });
        };
        value.as_i64().filter(|n| (1..=most).contains(n)).ok_or_else(|| {
            self.error(name, format!("is {}; it must be a whole number from 1 to {most}", shown(value)))
        })
    }

    /// `factor · size`, rounded down, where field `name` is the factor (of type float in some checkpoints).
    pub fn scaled_size(&self, name: &str, default: f64, size: i64) -> Result<i64, ImportError> {
        let factor = self.positive(&[name], default)?;
        #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
        let scaled = (factor * size as f64).floor();
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "in range of an axis"
        )]
        if (1.0..=LARGEST_SIZE as f64).contains(&scaled) { Some(scaled as i64) } else { None }.ok_or_else(
            || {
                self.error(
                    name,
                    format!("is {factor}; times {size} it must give a size from 1 to {LARGEST_SIZE}"),
                )
            },
        )
    }

    /// A number above 0.
    pub fn positive(&self, names: &[&str], default: f64) -> Result<f64, ImportError> {
        let Some((name, value)) = self.find(names) else { return Ok(default) };
        value
            .as_f64()
            .filter(|x| x.is_finite() && *x > 0.0)
            .ok_or_else(|| self.error(name, format!("is {}; it must be a number above 0", shown(value))))
    }

    /// A number above 0 that must be there.
    pub fn required(&self, name: &str) -> Result<f64, ImportError> {
        match self.find(&[name]) {
            Some(_) => self.positive(&[name], 1.0),
            None => Err(self.error(name, "is missing; give a number above 0")),
        }
    }

    /// Yes or no.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, ImportError> {
        let Some((_, value)) = self.find(&[name]) else { return Ok(default) };
        let wrong = || self.error(name, format!("is {}; it must be true or false", shown(value)));
        value.as_bool().ok_or_else(wrong)
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ImportError> {
        let Some((_, value)) = self.find(&[name]) else { return Ok(None) };
        let wrong = || self.error(name, format!("is {}; it must be a string", shown(value)));
        value.as_str().map(Some).ok_or_else(wrong)
    }
}

/// A value as a message shows it: long ones cut.
pub(crate) fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::Object(_) => return "an object".into(),
        Value::Array(items) if items.len() > 4 => return format!("a list of {} items", items.len()),
        _ => {}
    }
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
