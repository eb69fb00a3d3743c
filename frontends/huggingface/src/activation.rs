//! Activation functions by their name in `transformers` (`ACT2FN`).

use qcc_ir::Op;

use crate::config::Config;
use crate::error::ImportError;

const NAMES: &str = "silu, swish, gelu, gelu_new, gelu_pytorch_tanh, relu, sigmoid, tanh";

/// The activation that field `name` says; SiLU where there is no such field.
pub(crate) fn activation(config: &Config, name: &str) -> Result<Op, ImportError> {
    Ok(match config.text(name)?.unwrap_or("silu") {
        "silu" | "swish" => Op::Silu {},
        "gelu" => Op::Gelu { tanh: false },
        "gelu_new" | "gelu_pytorch_tanh" => Op::Gelu { tanh: true },
        "relu" => Op::Relu {},
        "sigmoid" => Op::Sigmoid {},
        "tanh" => Op::Tanh {},
        other => {
            let other: String = other.chars().take(40).collect();
            return Err(config.error(name, format!("is `{other}`; known activations are {NAMES}")));
        }
    })
}
