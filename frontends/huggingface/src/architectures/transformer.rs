//! The transformers of Llama's kind (Touvron et al., arXiv 2302.13971 and 2307.09288) as `transformers` has them: a residual stream of
//! layers, each an RMSNorm and attention with rotary positions, then an RMSNorm and a gated MLP; then a norm and the head. What a
//! [`Family`] has otherwise is data.
//!
//! Sizes: `B` sequences, `T` tokens of each after `P` tokens that were read before, `H` heads of queries that share `G` heads of keys and
//! values (grouped-query attention), `D` features of a head. The states of a layer are its keys and values `[B, P, G, D]`, which grow to
//! `[B, P + T, G, D]`; keys are kept after the rotation.

use qcc_ir::format::CacheFormat;
use qcc_ir::{Dim, ElementType, Float, Op, TensorType, ValueId};

use crate::activation::activation;
use crate::config::{Config, shown};
use crate::error::ImportError;
use crate::graph::{Graph, f32_type};
use crate::rope;

/// What models of one architecture have in common, and the defaults of their configuration in `transformers`.
pub(super) struct Family {
    /// Heads of keys and values; as many as of queries where there is no number.
    pub shared: Option<i64>,
    /// Features of a head; those of the stream over heads where there is no number.
    pub features: Option<i64>,
    /// Biases of the projections of attention.
    pub bias: Bias,
    /// Whether `mlp_bias` counts.
    pub mlp_bias: bool,
    /// Whether queries and keys of a head are normalised before they are turned.
    pub norms: bool,
    pub window: Window,
}

/// Biases of the projections of attention.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Bias {
    Never,
    /// All four as `attention_bias` says.
    Asked,
    /// Queries, keys and values always have one, the output none.
    Inputs,
}

/// Whether layers see only so many of the last keys.
#[derive(Clone, Copy)]
pub(super) enum Window {
    Never,
    /// All of them, `sliding_window` keys, which is this unless it is `null`.
    All(i64),
    /// With `use_sliding_window`, those that `layer_types` names, or from layer `max_window_layers` on.
    Some {
        window: i64,
        first: i64,
    },
}

const TABLE: &str = "model.embed_tokens.weight";
/// The module that knows positions.
const ROTATION: &str = "model.rotary_emb";

/// What `config.json` says.
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
    /// Of queries, keys and values; of the output.
    biases: [bool; 2],
    mlp_bias: bool,
    norms: bool,
    /// Of each layer; 0 for none.
    windows: Vec<i64>,
    /// Whether the head is the embedding table.
    tied: bool,
    epsilon: Float,
    activation: Op,
}

impl Sizes {
    fn of(config: &Config, family: &Family) -> Result<Sizes, ImportError> {
        let hidden = config.size(&["hidden_size"], None)?;
        let heads = config.size(&["num_attention_heads"], None)?;
        // `null` stands for as many as of queries.
        let default = family.shared.filter(|_| !config.is_null("num_key_value_heads")).unwrap_or(heads);
        let shared = config.size(&["num_key_value_heads"], Some(default))?;
        if heads % shared != 0 {
            let reason = format!("is {shared}; it must divide `num_attention_heads`, {heads}");
            return Err(config.error("num_key_value_heads", reason));
        }
        let features = match config.find(&["head_dim"]) {
            Some(_) => config.size(&["head_dim"], None)?,
            None if family.features.is_some() => family.features.unwrap_or(1),
            None if hidden % heads == 0 => hidden / heads,
            None => {
                let reason =
                    format!("is {heads}; it must divide `hidden_size`, {hidden}, unless there is `head_dim`");
                return Err(config.error("num_attention_heads", reason));
            }
        };
        let asked = || config.flag("attention_bias", false);
        let layers = config.layers(&["num_hidden_layers"])?;
        Ok(Sizes {
            hidden,
            layers,
            vocabulary: config.size(&["vocab_size"], None)?,
            inner: config.size(&["intermediate_size"], None)?,
            heads,
            shared,
            features,
            biases: match family.bias {
                Bias::Never => [false, false],
                Bias::Asked => [asked()?, asked()?],
                Bias::Inputs => [true, false],
            },
            mlp_bias: family.mlp_bias && config.flag("mlp_bias", false)?,
            norms: family.norms,
            windows: windows(config, family.window, layers)?,
            tied: config.flag("tie_word_embeddings", false)?,
            epsilon: Float(config.positive(&["rms_norm_eps"], 1e-6)?),
            activation: activation(config, "hidden_act")?,
        })
    }
}

/// The window of each layer, 0 for none.
fn windows(config: &Config, window: Window, layers: i64) -> Result<Vec<i64>, ImportError> {
    let (size, first) = match window {
        Window::Never => (None, 0),
        Window::All(_) if config.is_null("sliding_window") => (None, 0),
        Window::All(default) => (Some(default), 0),
        Window::Some { .. } if !config.flag("use_sliding_window", false)? => (None, 0),
        Window::Some { .. } if config.is_null("sliding_window") => (None, 0),
        Window::Some { window, first } => {
            let named = config.find(&["max_window_layers"]).map(|(_, value)| value.as_i64());
            let wrong = || config.error("max_window_layers", "is no whole number");
            (Some(window), named.map_or(Ok(first), |n| n.ok_or_else(wrong))?)
        }
    };
    let Some(default) = size else { return Ok(vec![0; usize::try_from(layers).unwrap_or(0)]) };
    let size = config.size(&["sliding_window"], Some(default))?;
    let types = match (window, config.find(&["layer_types"])) {
        (Window::Some { .. }, Some((_, value))) => Some(value),
        _ => None,
    };
    let Some(types) = types else {
        return Ok((0..layers).map(|layer| if layer >= first { size } else { 0 }).collect());
    };
    let named: Option<Vec<i64>> = types.as_array().and_then(|types| {
        let window = |kind: &serde_json::Value| match kind.as_str()? {
            "full_attention" => Some(0),
            "sliding_attention" => Some(size),
            _ => None,
        };
        types.iter().map(window).collect()
    });
    named.filter(|windows| windows.len() as i64 == layers).ok_or_else(|| {
        let reason = format!(
            "is {}; it must be {layers} times \"full_attention\" or \"sliding_attention\", one for each layer",
            shown(types)
        );
        config.error("layer_types", reason)
    })
}

/// What turns queries and keys.
struct Rotation {
    /// Of the tokens of this call; known once there is a cache to go on from.
    positions: Option<ValueId>,
    frequencies: ValueId,
}

pub(super) fn build(config: &Config, graph: &mut Graph<'_>, family: &Family) -> Result<(), ImportError> {
    let sizes = Sizes::of(config, family)?;
    let frequencies = rope::frequencies(config, sizes.features)?;
    let tokens = TensorType::new(["B", "T"].map(Dim::symbol), ElementType::I64);
    let tokens = graph.argument("tokens", tokens);
    let table = graph.weight(TABLE, &[sizes.vocabulary, sizes.hidden])?;
    let mut residual = graph.op(Op::Embedding {}, [table, tokens], "model.embed_tokens")?;
    let mut rotation = Rotation { positions: None, frequencies: graph.vector(&frequencies, ROTATION)? };
    for (layer, window) in (0..sizes.layers).zip(&sizes.windows) {
        let block = format!("model.layers.{layer}");
        let x = norm(graph, &sizes, residual, sizes.hidden, &format!("{block}.input_layernorm"))?;
        let x = attention(graph, &sizes, [x, tokens], *window, &mut rotation, &format!("{block}.self_attn"))?;
        residual = graph.op(Op::Add {}, [residual, x], &block)?;
        let x = norm(graph, &sizes, residual, sizes.hidden, &format!("{block}.post_attention_layernorm"))?;
        let x = mlp(graph, &sizes, x, &format!("{block}.mlp"))?;
        residual = graph.op(Op::Add {}, [residual, x], &block)?;
    }
    let x = norm(graph, &sizes, residual, sizes.hidden, "model.norm")?;
    let logits = if sizes.tied {
        graph.op(Op::Linear {}, [x, table], "lm_head")?
    } else {
        graph.linear(x, "lm_head", [sizes.vocabulary, sizes.hidden], false)?
    };
    graph.result("logits", logits);
    Ok(())
}

fn norm(
    graph: &mut Graph<'_>,
    sizes: &Sizes,
    x: ValueId,
    width: i64,
    module: &str,
) -> Result<ValueId, ImportError> {
    let weight = graph.weight(&format!("{module}.weight"), &[width])?;
    graph.op(Op::RmsNorm { epsilon: sizes.epsilon }, [x, weight], module)
}

/// `[B, T, hidden]` to the same. Functions without a module of their own have the location of attention.
fn attention(
    graph: &mut Graph<'_>,
    sizes: &Sizes,
    [x, tokens]: [ValueId; 2],
    window: i64,
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
        let y = graph.linear(x, &module, [heads * features, hidden], sizes.biases[0])?;
        let shape = ["B", "T"].map(Dim::symbol).into_iter().chain([heads, features].map(Dim::Const));
        graph.op(Op::Reshape { shape: shape.collect() }, [y], &module)
    };
    let [q, k] = [("q", heads), ("k", shared)].map(|(part, heads)| {
        let mut y = split(graph, &format!("{part}_proj"), heads)?;
        if sizes.norms {
            y = norm(graph, sizes, y, features, &format!("{module}.{part}_norm"))?;
        }
        graph.op(Op::RotaryEmbedding { interleaved: false }, [y, positions, rotation.frequencies], module)
    });
    let v = split(graph, "v_proj", shared)?;
    let k = graph.op(Op::Concat { axis: 1 }, [past_keys, k?], module)?;
    graph.next_state(keys, k);
    let v = graph.op(Op::Concat { axis: 1 }, [past_values, v], module)?;
    graph.next_state(values, v);

    #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    let scale = Float(1.0 / (features as f64).sqrt());
    let y = graph.op(
        Op::Attention { scale, causal: true, window, keys: CacheFormat::F32, values: CacheFormat::F32 },
        [q?, k, v],
        module,
    )?;
    let shape = vec![Dim::symbol("B"), Dim::symbol("T"), Dim::Const(heads * features)];
    let y = graph.op(Op::Reshape { shape }, [y], module)?;
    graph.linear(y, &format!("{module}.o_proj"), [hidden, heads * features], sizes.biases[1])
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
