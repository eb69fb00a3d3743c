//! Made-up checkpoints: a configuration, and weights of pseudo-random numbers in the shapes it asks for.

use std::collections::BTreeMap;

use half::{bf16, f16};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

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

/// What a made-up Mamba has.
#[derive(Clone, Copy)]
pub struct Mamba {
    pub hidden: usize,
    pub layers: usize,
    pub inner: usize,
    pub state: usize,
    pub kernel: usize,
    pub rank: usize,
    pub vocabulary: usize,
    pub bias: bool,
    pub convolution_bias: bool,
    pub tied: bool,
}

/// Odd sizes everywhere, and every option the other way round than in `mamba-tiny`.
pub const ODD: Mamba = Mamba {
    hidden: 7,
    layers: 3,
    inner: 11,
    state: 5,
    kernel: 3,
    rank: 2,
    vocabulary: 13,
    bias: true,
    convolution_bias: false,
    tied: false,
};

impl Checkpoint {
    /// A Mamba checkpoint.
    pub fn mamba(m: Mamba, stored: Stored) -> Checkpoint {
        let config = json!({
            "architectures": ["MambaForCausalLM"], "model_type": "mamba", "hidden_size": m.hidden,
            "num_hidden_layers": m.layers, "intermediate_size": m.inner, "state_size": m.state,
            "conv_kernel": m.kernel, "time_step_rank": m.rank, "vocab_size": m.vocabulary, "use_bias": m.bias,
            "use_conv_bias": m.convolution_bias, "tie_word_embeddings": m.tied, "hidden_act": "silu",
            "layer_norm_epsilon": 1e-5
        });
        let Value::Object(config) = config else { unreachable!("it is an object") };
        let mut checkpoint = Checkpoint { config, tensors: BTreeMap::new(), stored };
        checkpoint.add("backbone.embeddings.weight", &[m.vocabulary, m.hidden], 1.0);
        for layer in 0..m.layers {
            let block = format!("backbone.layers.{layer}");
            let mixer = |part: &str| format!("{block}.mixer.{part}");
            checkpoint.add(&format!("{block}.norm.weight"), &[m.hidden], 1.0);
            checkpoint.add(&mixer("in_proj.weight"), &[2 * m.inner, m.hidden], 0.6);
            checkpoint.add(&mixer("conv1d.weight"), &[m.inner, 1, m.kernel], 0.8);
            checkpoint.add(&mixer("x_proj.weight"), &[m.rank + 2 * m.state, m.inner], 0.6);
            checkpoint.add(&mixer("dt_proj.weight"), &[m.inner, m.rank], 0.5);
            checkpoint.add(&mixer("dt_proj.bias"), &[m.inner], 0.5);
            checkpoint.add(&mixer("A_log"), &[m.inner, m.state], 1.0);
            checkpoint.add(&mixer("D"), &[m.inner], 1.0);
            checkpoint.add(&mixer("out_proj.weight"), &[m.hidden, m.inner], 0.6);
            if m.bias {
                checkpoint.add(&mixer("in_proj.bias"), &[2 * m.inner], 0.3);
                checkpoint.add(&mixer("out_proj.bias"), &[m.hidden], 0.3);
            }
            if m.convolution_bias {
                checkpoint.add(&mixer("conv1d.bias"), &[m.inner], 0.3);
            }
        }
        checkpoint.add("backbone.norm_f.weight", &[m.hidden], 1.0);
        if !m.tied {
            checkpoint.add("lm_head.weight", &[m.vocabulary, m.hidden], 1.0);
        }
        checkpoint
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
