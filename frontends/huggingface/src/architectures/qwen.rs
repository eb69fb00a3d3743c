//! Qwen2 (arXiv 2407.10671), whose queries, keys and values have biases, and Qwen3 (arXiv 2505.09388), which normalises queries and keys
//! instead. Some layers of either may see a window.

use super::Architecture;
use super::transformer::{self, Bias, Family, Window};

pub(super) const QWEN2: Architecture = Architecture {
    name: "Qwen2ForCausalLM",
    model_type: "qwen2",
    build: |config, graph| transformer::build(config, graph, &FAMILY),
};

pub(super) const QWEN3: Architecture = Architecture {
    name: "Qwen3ForCausalLM",
    model_type: "qwen3",
    build: |config, graph| {
        let family = Family { features: Some(128), bias: Bias::Asked, norms: true, ..FAMILY };
        transformer::build(config, graph, &family)
    },
};

const FAMILY: Family = Family {
    shared: Some(32),
    features: None,
    bias: Bias::Inputs,
    mlp_bias: false,
    norms: false,
    window: Window::Some { window: 4096, first: 28 },
};
