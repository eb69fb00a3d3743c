//! Mistral (Jiang et al., arXiv 2310.06825): each token sees the last `sliding_window` ones.

use super::Architecture;
use super::transformer::{self, Bias, Family, Window};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "MistralForCausalLM",
    model_type: "mistral",
    build: |config, graph| transformer::build(config, graph, &FAMILY),
};

const FAMILY: Family = Family {
    shared: Some(8),
    features: None,
    bias: Bias::Never,
    mlp_bias: false,
    norms: false,
    window: Window::All(4096),
};
