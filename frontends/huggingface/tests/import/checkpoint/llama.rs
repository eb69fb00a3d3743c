//! Llama checkpoints.

use serde_json::json;

use super::{Checkpoint, Stored};

/// What a made-up Llama has.
#[derive(Clone, Copy)]
pub struct Llama {
    pub hidden: usize,
    pub layers: usize,
    pub inner: usize,
    pub heads: usize,
    /// Heads of keys and values.
    pub shared: usize,
    /// Features of a head.
    pub features: usize,
    pub vocabulary: usize,
    pub bias: bool,
    /// Whether queries, keys and values have biases in any case.
    pub query_bias: bool,
    /// Whether queries and keys are normalised.
    pub norms: bool,
    /// How many keys a token sees, in layers from this one on.
    pub window: Option<(usize, usize)>,
    pub tied: bool,
}

impl Llama {
    /// Odd sizes, heads wider together than the stream, three to a head of keys and values, and every option the other way round than in
    /// `llama-tiny`.
    pub const ODD: Llama = Llama {
        hidden: 7,
        layers: 2,
        inner: 11,
        heads: 6,
        shared: 2,
        features: 6,
        vocabulary: 13,
        bias: true,
        query_bias: false,
        norms: false,
        window: None,
        tied: false,
    };
    /// As `llama-tiny`, but small.
    pub const PLAIN: Llama = Llama {
        hidden: 16,
        layers: 2,
        inner: 24,
        heads: 4,
        shared: 2,
        features: 4,
        vocabulary: 13,
        bias: false,
        query_bias: false,
        norms: false,
        window: None,
        tied: true,
    };
}

impl Checkpoint {
    /// A Llama checkpoint.
    pub fn llama(m: Llama, stored: Stored) -> Checkpoint {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": m.hidden,
            "num_hidden_layers": m.layers, "intermediate_size": m.inner, "num_attention_heads": m.heads,
            "num_key_value_heads": m.shared, "head_dim": m.features, "vocab_size": m.vocabulary,
            "attention_bias": m.bias, "mlp_bias": m.bias, "tie_word_embeddings": m.tied, "hidden_act": "silu",
            "rms_norm_eps": 1e-5, "rope_theta": 100.0
        });
        let mut checkpoint = Checkpoint::new(config, stored);
        let linear = |checkpoint: &mut Checkpoint, module: String, rows: usize, columns: usize| {
            checkpoint.add(&format!("{module}.weight"), &[rows, columns], 0.8);
            let queries = ["q_proj", "k_proj", "v_proj"].iter().any(|part| module.ends_with(part));
            if m.bias || m.query_bias && queries {
                checkpoint.add(&format!("{module}.bias"), &[rows], 0.3);
            }
        };
        checkpoint.add("model.embed_tokens.weight", &[m.vocabulary, m.hidden], 1.0);
        for layer in 0..m.layers {
            let block = format!("model.layers.{layer}");
            checkpoint.add(&format!("{block}.input_layernorm.weight"), &[m.hidden], 1.0);
            checkpoint.add(&format!("{block}.post_attention_layernorm.weight"), &[m.hidden], 1.0);
            if m.norms {
                checkpoint.add(&format!("{block}.self_attn.q_norm.weight"), &[m.features], 1.0);
                checkpoint.add(&format!("{block}.self_attn.k_norm.weight"), &[m.features], 1.0);
            }
            for (part, rows, columns) in [
                ("self_attn.q_proj", m.heads * m.features, m.hidden),
                ("self_attn.k_proj", m.shared * m.features, m.hidden),
                ("self_attn.v_proj", m.shared * m.features, m.hidden),
                ("self_attn.o_proj", m.hidden, m.heads * m.features),
                ("mlp.gate_proj", m.inner, m.hidden),
                ("mlp.up_proj", m.inner, m.hidden),
                ("mlp.down_proj", m.hidden, m.inner),
            ] {
                linear(&mut checkpoint, format!("{block}.{part}"), rows, columns);
            }
        }
        checkpoint.add("model.norm.weight", &[m.hidden], 1.0);
        if !m.tied {
            checkpoint.add("lm_head.weight", &[m.vocabulary, m.hidden], 1.0);
        }
        checkpoint
    }
}
