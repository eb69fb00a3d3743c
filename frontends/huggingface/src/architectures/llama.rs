//! Llama (Touvron et al., arXiv 2302.13971 and 2307.09288).

use super::Architecture;
use super::transformer::{self, Bias, Family, Window};

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "LlamaForCausalLM",
    model_type: "llama",
    build: |config, graph| transformer::build(config, graph, &FAMILY),
};

const FAMILY: Family = Family {
    shared: None,
    features: None,
    bias: Bias::Asked,
    mlp_bias: true,
    norms: false,
    window: Window::Never,
};
