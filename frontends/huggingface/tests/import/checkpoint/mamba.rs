//! Mamba checkpoints.

use serde_json::json;

use super::{Checkpoint, Stored};

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
        let mut checkpoint = Checkpoint::new(config, stored);
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
}
