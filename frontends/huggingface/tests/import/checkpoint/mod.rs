//! Made-up checkpoints: a configuration, and weights of pseudo-random numbers in the shapes it asks for.

mod llama;
mod mamba;

use std::collections::BTreeMap;

use half::{bf16, f16};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

pub use llama::Llama;
pub use mamba::{Mamba, ODD};

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    F32,
    F16,
    Bf16,
}

/// A checkpoint before it is written.
#[derive(Clone)]
pub struct Checkpoint {
    pub config: Map<String, Value>,
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    pub stored: Stored,
}

impl Checkpoint {
    /// One with a configuration, without weights.
    fn new(config: Value, stored: Stored) -> Checkpoint {
        let Value::Object(config) = config else { unreachable!("it is an object") };
        Checkpoint { config, tensors: BTreeMap::new(), stored }
    }

    /// Sets a field of the configuration.
    pub fn with(mut self, field: &str, value: Value) -> Checkpoint {
        self.config.insert(field.into(), value);
        self
    }

    /// Takes a field out of the configuration.
    pub fn without(mut self, field: &str) -> Checkpoint {
        self.config.remove(field);
        self
    }

    /// Adds a weight of numbers between −`scale` and `scale`, as they can be stored.
    pub fn add(&mut self, name: &str, dims: &[usize], scale: f32) {
        // Numerical Recipes' generator, seeded by the name.
        let mut state = name.bytes().fold(17u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
        let mut next = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            let unit = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            match self.stored {
                Stored::F32 => scale * unit,
                Stored::F16 => f16::from_f32(scale * unit).to_f32(),
                Stored::Bf16 => bf16::from_f32(scale * unit).to_f32(),
            }
        };
        let values = (0..dims.iter().product()).map(|_| next()).collect();
        self.tensors.insert(name.into(), (dims.to_vec(), values));
    }

    /// A weight.
    pub fn tensor(&self, name: &str) -> Vec<f64> {
        self.tensors[name].1.iter().map(|x| f64::from(*x)).collect()
    }

    /// Writes `config.json` and `model.safetensors` to a new folder.
    pub fn write(&self) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut header, mut data) = (Map::new(), Vec::new());
        for (name, (dims, values)) in &self.tensors {
            let start = data.len();
            let dtype = match self.stored {
                Stored::F32 => {
                    data.extend(values.iter().flat_map(|x| x.to_le_bytes()));
                    "F32"
                }
                Stored::F16 => {
                    data.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
                    "F16"
                }
                Stored::Bf16 => {
                    data.extend(values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()));
                    "BF16"
                }
            };
            let entry = json!({ "dtype": dtype, "shape": dims, "data_offsets": [start, data.len()] });
            header.insert(name.clone(), entry);
        }
        let mut text = Value::Object(header).to_string();
        text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.into_bytes());
        bytes.extend(data);
        std::fs::write(folder.path().join("model.safetensors"), bytes).expect("written");
        let config = Value::Object(self.config.clone()).to_string();
        std::fs::write(folder.path().join("config.json"), config).expect("written");
        folder
    }
}
