//! Llama (Touvron et al., arXiv 2302.13971 and 2307.09288) as `transformers` has it: a residual stream of layers, each an RMSNorm and
//! attention with rotary positions, then an RMSNorm and a gated MLP; then a norm and the head.
//!
//! Sizes: `B` sequences, `T` tokens of each after `P` tokens that were read before, `H` heads of queries that share `G` heads of keys and
//! values (grouped-query attention), `D` features of a head. The states of a layer are its keys and values `[B, P, G, D]`, which grow to
//! `[B, P + T, G, D]`; keys are kept after the rotation.

use qcc_ir::{Dim, ElementType, Float, Op, TensorType, ValueId};

use super::Architecture;
use crate::activation::activation;
use crate::config::Config;
use crate::error::ImportError;
use crate::graph::{Graph, f32_type};
use crate::rope;

pub(super) const ARCHITECTURE: Architecture =
    Architecture { name: "LlamaForCausalLM", model_type: "llama", build };

const TABLE: &str = "model.embed_tokens.weight";
/// The module that knows positions.
const ROTATION: &str = "model.rotary_emb";

/// What `config.json` says; defaults are those of `transformers`' `LlamaConfig`.
struct Sizes {
    /// Width of the residual stream.
    hidden: i64,
    layers: i64,
    vocabulary: i64,
    /// Width of the MLP.
    inner: i64,
    /// H.
    heads: i64,
    /// G.
    shared: i64,
    /// D.
    features: i64,
    attention_bias: bool,
    mlp_bias: bool,
    /// Whether the head is the embedding table.
    tied: bool,
    epsilon: Float,
    activation: Op,
}

impl Sizes {
    fn of(config: &Config) -> Result<Sizes, ImportError> {
        let hidden = config.size(&["hidden_size"], None)?;
        let heads = config.size(&["num_attention_heads"], None)?;
        let shared = config.size(&["num_key_value_heads"], Some(heads))?;
        if heads % shared != 0 {
            let reason = format!("is {shared}; it must divide `num_attention_heads`, {heads}");
            return Err(config.error("num_key_value_heads", reason));
        }
        let features = match config.find(&["head_dim"]) {
            Some(_) => config.size(&["head_dim"], None)?,
            None if hidden % heads == 0 => hidden / heads,
            None => {
                let reason =
                    format!("is {heads}; it must divide `hidden_size`, {hidden}, unless there is `head_dim`");
                return Err(config.error("num_attention_heads", reason));
            }
        };
        Ok(Sizes {
            hidden,
            layers: config.layers(&["num_hidden_layers"])?,
            vocabulary: config.size(&["vocab_size"], None)?,
            inner: config.size(&["intermediate_size"], None)?,
            heads,
            shared,
            features,
            attention_bias: config.flag("attention_bias", false)?,
            mlp_bias: config.flag("mlp_bias", false)?,
            tied: config.flag("tie_word_embeddings", false)?,
            epsilon: Float(config.positive(&["rms_norm_eps"], 1e-6)?),
            activation: activation(config, "hidden_act")?,
        })
    }
}

/// What turns queries and keys.
struct Rotation {
    /// Of the tokens of this call; known once there is a cache to go on from.
    positions: Option<ValueId>,
    frequencies: ValueId,
}

fn build(config: &Config, graph: &mut Graph<'_>) -> Result<(), ImportError> {
    let sizes = Sizes::of(config)?;
    let frequencies = rope::frequencies(config, sizes.features)?;
    let tokens = TensorType::new(["B", "T"].map(Dim::symbol), ElementType::I64);
    let tokens = graph.argument("tokens", tokens);
    let table = graph.weight(TABLE, &[sizes.vocabulary, sizes.hidden])?;
    let mut residual = graph.op(Op::Embedding {}, [table, tokens], "model.embed_tokens")?;
    let mut rotation = Rotation { positions: None, frequencies: graph.vector(&frequencies, ROTATION)? };
    for layer in 0..sizes.layers {
        let block = format!("model.layers.{layer}");
        let x = norm(graph, &sizes, residual, &format!("{block}.input_layernorm"))?;
        let x = attention(graph, &sizes, [x, tokens], &mut rotation, &format!("{block}.self_attn"))?;
        residual = graph.op(Op::Add {}, [residual, x], &block)?;
        let x = norm(graph, &sizes, residual, &format!("{block}.post_attention_layernorm"))?;
        let x = mlp(graph, &sizes, x, &format!("{block}.mlp"))?;
        residual = graph.op(Op::Add {}, [residual, x], &block)?;
    }
    let x = norm(graph, &sizes, residual, "model.norm")?;
    let logits = if sizes.tied {
        graph.op(Op::Linear {}, [x, table], "lm_head")?
    } else {
        graph.linear(x, "lm_head", [sizes.vocabulary, sizes.hidden], false)?
    };
    graph.result("logits", logits);
    Ok(())
}

fn norm(graph: &mut Graph<'_>, sizes: &Sizes, x: ValueId, module: &str) -> Result<ValueId, ImportError> {
    let weight = graph.weight(&format!("{module}.weight"), &[sizes.hidden])?;
    graph.op(Op::RmsNorm { epsilon: sizes.epsilon }, [x, weight], module)
}

/// `[B, T, hidden]` to the same. Functions without a module of their own have the location of attention.
fn attention(
    graph: &mut Graph<'_>,
    sizes: &Sizes,
    [x, tokens]: [ValueId; 2],
    rotation: &mut Rotation,
    module: &str,
) -> Result<ValueId, ImportError> {
    let Sizes { hidden, heads, shared, features, .. } = *sizes;
    let past = ["B", "P"].map(Dim::symbol).into_iter().chain([shared, features].map(Dim::Const));
    let past = f32_type(past.collect::<Vec<_>>());
    let mut cache = |name: &str| graph.state(&format!("{module}.{name}_cache"), past.clone());
    let ((keys, past_keys), (values, past_values)) = (cache("key"), cache("value"));
    let positions = match rotation.positions {
        Some(positions) => positions,
        None => {
            let positions = graph.op(Op::Positions { axis: 1 }, [tokens, past_keys], ROTATION)?;
            *rotation.positions.insert(positions)
        }
    };

    let split = |graph: &mut Graph<'_>, part: &str, heads: i64| {
        let module = format!("{module}.{part}");
        let y = graph.linear(x, &module, [heads * features, hidden], sizes.attention_bias)?;
        let shape = ["B", "T"].map(Dim::symbol).into_iter().chain([heads, features].map(Dim::Const));
        graph.op(Op::Reshape { shape: shape.collect() }, [y], &module)
    };
    let [q, k] = [("q_proj", heads), ("k_proj", shared)].map(|(part, heads)| {
        let y = split(graph, part, heads)?;
        graph.op(Op::RotaryEmbedding { interleaved: false }, [y, positions, rotation.frequencies], module)
    });
    let v = split(graph, "v_proj", shared)?;
    let k = graph.op(Op::Concat { axis: 1 }, [past_keys, k?], module)?;
    graph.next_state(keys, k);
    let v = graph.op(Op::Concat { axis: 1 }, [past_values, v], module)?;
    graph.next_state(values, v);

    #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let scale = Float(1.0 / (features as f64).sqrt());
    let y = graph.op(Op::Attention { scale, causal: true, window: 0 }, [q?, k, v], module)?;
    let shape = vec![Dim::symbol("B"), Dim::symbol("T"), Dim::Const(heads * features)];
    let y = graph.op(Op::Reshape { shape }, [y], module)?;
    graph.linear(y, &format!("{module}.o_proj"), [hidden, heads * features], sizes.attention_bias)
}

/// The gated MLP, `[B, T, hidden]` to the same.
fn mlp(graph: &mut Graph<'_>, sizes: &Sizes, x: ValueId, module: &str) -> Result<ValueId, ImportError> {
    let Sizes { hidden, inner, mlp_bias, .. } = *sizes;
    let [gate_proj, up_proj, down_proj, act_fn] =
        ["gate_proj", "up_proj", "down_proj", "act_fn"].map(|part| format!("{module}.{part}"));
    let gate = graph.linear(x, &gate_proj, [inner, hidden], mlp_bias)?;
    let gate = graph.op(sizes.activation.clone(), [gate], &act_fn)?;
    let up = graph.linear(x, &up_proj, [inner, hidden], mlp_bias)?;
    let x = graph.op(Op::Mul {}, [gate, up], module)?;
    graph.linear(x, &down_proj, [hidden, inner], mlp_bias)
}
