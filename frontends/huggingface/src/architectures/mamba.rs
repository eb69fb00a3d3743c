//! Mamba (Gu and Dao, arXiv 2312.00752) as `transformers` has it: a residual stream of blocks, each an RMSNorm and a mixer (in-projection,
//! causal depthwise convolution, selective scan, gate, out-projection), then a norm and the head.
//!
//! Sizes: `B` sequences, `T` tokens of each, `D` inner channels, `N` states a channel, `K` kernel taps, `R` rank of the time step.
//! The states of a block are the last K − 1 inputs of its convolution `[B, D, K − 1]` and the scan's `[B, D, N]`.

use qcc_ir::{Dim, ElementType, Float, Op, TensorType, ValueId};

use super::Architecture;
use crate::activation::activation;
use crate::config::{Config, shown};
use crate::error::ImportError;
use crate::graph::{Graph, f32_type};

pub(super) const ARCHITECTURE: Architecture =
    Architecture { name: "MambaForCausalLM", model_type: "mamba", build };

/// The embedding table, and its name in the authors' own checkpoints.
const TABLE: &str = "backbone.embeddings.weight";
const OLD_TABLE: &str = "backbone.embedding.weight";

/// What `config.json` says; defaults are those of `transformers`' `MambaConfig`.
struct Sizes {
    /// Width of the residual stream.
    hidden: i64,
    layers: i64,
    vocabulary: i64,
    /// D.
    inner: i64,
    /// N.
    state: i64,
    /// K.
    kernel: i64,
    /// R.
    rank: i64,
    /// Whether in- and out-projection have a bias.
    bias: bool,
    convolution_bias: bool,
    /// Whether the head is the embedding table.
    tied: bool,
    epsilon: Float,
    /// After the convolution and on the gate.
    activation: Op,
}

impl Sizes {
    fn of(config: &Config) -> Result<Sizes, ImportError> {
        let hidden = config.size(&["hidden_size", "d_model"], None)?;
        let inner = match config.find(&["intermediate_size", "d_inner"]) {
            Some((name, _)) => config.size(&[name], None)?,
            None => config.scaled_size("expand", 2.0, hidden)?,
        };
        let automatic = (hidden + 15) / 16;
        let rank = match config.find(&["time_step_rank", "dt_rank"]) {
            Some((_, value)) if value.as_str() == Some("auto") => automatic,
            Some((name, value)) if value.is_string() => {
                let reason = format!("is {}; it must be \"auto\" or a whole number", shown(value));
                return Err(config.error(name, reason));
            }
            Some((name, _)) => config.size(&[name], None)?,
            None => automatic,
        };
        if !config.flag("rms_norm", true)? {
            return Err(config.error("rms_norm", "is false; Mamba with LayerNorm cannot be imported"));
        }
        Ok(Sizes {
            hidden,
            layers: config.layers(&["num_hidden_layers", "n_layer"])?,
            vocabulary: config.size(&["vocab_size"], None)?,
            inner,
            state: config.size(&["state_size", "d_state"], Some(16))?,
            kernel: config.size(&["conv_kernel", "d_conv"], Some(4))?,
            rank,
            bias: config.flag("use_bias", false)?,
            convolution_bias: config.flag("use_conv_bias", true)?,
            tied: config.flag("tie_word_embeddings", true)?,
            epsilon: Float(config.positive(&["layer_norm_epsilon"], 1e-5)?),
            activation: activation(config, "hidden_act")?,
        })
    }
}

fn build(config: &Config, graph: &mut Graph<'_>) -> Result<(), ImportError> {
    let sizes = Sizes::of(config)?;
    let (batch, time) = (Dim::symbol("B"), Dim::symbol("T"));
    let tokens = graph.argument("tokens", TensorType::new([batch, time], ElementType::I64));
    let stored = graph.first_present(&[TABLE, OLD_TABLE]);
    let table = graph.derived(TABLE, stored, &[sizes.vocabulary, sizes.hidden], &[])?;
    let mut residual = graph.op(Op::Embedding {}, [table, tokens], "backbone.embeddings")?;
    for layer in 0..sizes.layers {
        let block = format!("backbone.layers.{layer}");
        let x = norm(graph, &sizes, residual, &format!("{block}.norm"))?;
        let x = mixer(graph, &sizes, x, &format!("{block}.mixer"))?;
        residual = graph.op(Op::Add {}, [residual, x], &block)?;
    }
    let x = norm(graph, &sizes, residual, "backbone.norm_f")?;
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

/// One mixer, `[B, T, hidden]` to the same. Functions without a module of their own have the mixer's location.
fn mixer(graph: &mut Graph<'_>, sizes: &Sizes, x: ValueId, module: &str) -> Result<ValueId, ImportError> {
    let Sizes { hidden, inner, state, kernel, rank, .. } = *sizes;
    let [in_proj, conv1d, x_proj, dt_proj, out_proj, act] =
        ["in_proj", "conv1d", "x_proj", "dt_proj", "out_proj", "act"].map(|part| format!("{module}.{part}"));

    let x = graph.linear(x, &in_proj, [2 * inner, hidden], sizes.bias)?;
    let [x, gate] = graph.split(x, [inner, inner], &in_proj)?;

    let state_type = |width: i64| f32_type([Dim::symbol("B"), Dim::Const(inner), Dim::Const(width)]);
    let (window, before) = graph.state(&format!("{module}.conv_state"), state_type(kernel - 1));
    let taps = Op::Reshape { shape: vec![Dim::Const(inner), Dim::Const(kernel)] };
    let name = format!("{conv1d}.weight");
    let weight = graph.derived(&name, &name, &[inner, 1, kernel], &[taps])?;
    let bias = match sizes.convolution_bias {
        true => Some(graph.weight(&format!("{conv1d}.bias"), &[inner])?),
        false => None,
    };
    let convolved = graph.ops(Op::CausalConv {}, [Some(x), Some(weight), Some(before), bias], &conv1d)?;
    graph.next_state(window, convolved[1]);
    let u = graph.op(sizes.activation.clone(), [convolved[0]], &act)?;

    let parameters = graph.linear(u, &x_proj, [rank + 2 * state, inner], false)?;
    let [time_step, b, c] = graph.split(parameters, [rank, state, state], &x_proj)?;
    let delta = graph.linear(time_step, &dt_proj, [inner, rank], true)?;
    let delta = graph.op(Op::Softplus {}, [delta], module)?;

    let (scan, before) = graph.state(&format!("{module}.ssm_state"), state_type(state));
    let log = format!("{module}.A_log");
    let a = graph.derived(&format!("{module}.A"), &log, &[inner, state], &[Op::Exp {}, Op::Neg {}])?;
    let d = graph.weight(&format!("{module}.D"), &[inner])?;
    let scanned = graph.ops(Op::SelectiveScan {}, [u, delta, a, b, c, d, before].map(Some), module)?;
    graph.next_state(scan, scanned[1]);

    let gate = graph.op(sizes.activation.clone(), [gate], &act)?;
    let x = graph.op(Op::Mul {}, [scanned[0], gate], module)?;
    graph.linear(x, &out_proj, [hidden, inner], sizes.bias)
}
