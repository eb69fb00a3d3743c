//! Made-up Llama checkpoints against the plain reference, and what their modules look like.

use qcc_huggingface::import;
use qcc_interpreter::Precision;
use qcc_ir::Op;
use qcc_params::Tensor;
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, Llama, Stored};
use crate::reference;
use crate::session::{Model, assert_decodes_as_it_prefills, imported, relative_error};

const TOKENS: [i64; 6] = [3, 11, 0, 12, 5, 3];

/// `θ^(−2·i/D)` for `rope_theta` 100 of the made-up checkpoints, as f32.
fn plain_frequencies(m: Llama) -> Vec<f64> {
    let frequency = |i: usize| 100f64.powf(-2.0 * i as f64 / m.features as f64);
    (0..m.features / 2).map(|i| f64::from(frequency(i) as f32)).collect()
}

fn assert_computes_the_reference(checkpoint: &Checkpoint, m: Llama) {
    let got = Model::new(&imported(checkpoint), Precision::F64, 1).logits(&TOKENS);
    let expected = reference::llama::logits(checkpoint, m, &plain_frequencies(m), &TOKENS);
    let error = relative_error(&got, &expected);
    assert!(error < 1e-12, "relative error {error:e}");
}

#[test]
fn odd_sizes_biases_and_an_untied_head() {
    let checkpoint = Checkpoint::llama(Llama::ODD, Stored::F32);
    assert_computes_the_reference(&checkpoint, Llama::ODD);
    let sequences: [&[i64]; 2] = [&TOKENS, &[1, 2, 3, 4, 5, 6]];
    assert_decodes_as_it_prefills(&imported(&checkpoint), &sequences, Llama::ODD.vocabulary);
}

#[test]
fn every_storage_of_weights() {
    for stored in [Stored::F32, Stored::F16, Stored::Bf16] {
        assert_computes_the_reference(&Checkpoint::llama(Llama::PLAIN, stored), Llama::PLAIN);
    }
}

#[test]
fn one_head_of_keys_for_all_and_one_for_each() {
    for shared in [1, 4] {
        let m = Llama { shared, ..Llama::PLAIN };
        assert_computes_the_reference(&Checkpoint::llama(m, Stored::F32), m);
    }
}

#[test]
fn absent_fields_have_the_defaults_of_transformers() {
    let m = Llama { shared: Llama::PLAIN.heads, tied: false, ..Llama::PLAIN };
    let mut checkpoint = Checkpoint::llama(m, Stored::F32).with("num_key_value_heads", Value::Null);
    for field in ["head_dim", "attention_bias", "mlp_bias", "tie_word_embeddings", "hidden_act"] {
        checkpoint = checkpoint.without(field);
    }
    assert_computes_the_reference(&checkpoint, m);
    let imported = imported(&checkpoint.without("rms_norm_eps"));
    let function = imported.module.entry().expect("it has an entry");
    let mut epsilons = function.order().iter().filter_map(|id| match function.node(*id).op {
        Op::RmsNorm { epsilon } => Some(epsilon.0),
        _ => None,
    });
    assert!(epsilons.all(|epsilon| epsilon == 1e-6));
}

/// A checkpoint of another architecture of the kind.
fn of_kind(name: &str, m: Llama) -> Checkpoint {
    let kind = name.trim_end_matches("ForCausalLM").to_lowercase();
    let checkpoint = Checkpoint::llama(m, Stored::F32)
        .with("architectures", json!([name]))
        .with("model_type", json!(kind));
    ["attention_bias", "mlp_bias"].iter().fold(checkpoint, |c, field| c.without(field))
}

#[test]
fn mistral_sees_a_window() {
    let plain = Llama { shared: 2, ..Llama::PLAIN };
    let m = Llama { window: Some((3, 0)), ..plain };
    let checkpoint = of_kind("MistralForCausalLM", m).with("sliding_window", json!(3));
    assert_computes_the_reference(&checkpoint, m);
    let sequences: [&[i64]; 2] = [&TOKENS, &[1, 2, 3, 4, 5, 6]];
    assert_decodes_as_it_prefills(&imported(&checkpoint), &sequences, m.vocabulary);
    assert_computes_the_reference(&checkpoint.clone().with("sliding_window", Value::Null), plain);
    assert_computes_the_reference(&checkpoint.without("sliding_window"), plain);
}

#[test]
fn qwen2_has_biases_and_windows_in_later_layers() {
    let m = Llama { query_bias: true, ..Llama::PLAIN };
    let checkpoint = of_kind("Qwen2ForCausalLM", m).with("sliding_window", json!(2));
    assert_computes_the_reference(&checkpoint, m);
    let windows = checkpoint.with("use_sliding_window", json!(true));
    let m = Llama { window: Some((2, 1)), ..m };
    assert_computes_the_reference(&windows.clone().with("max_window_layers", json!(1)), m);
    let types = |types: Value| windows.clone().with("layer_types", types);
    assert_computes_the_reference(&types(json!(["full_attention", "sliding_attention"])), m);
    for wrong in [json!(["full_attention"]), json!(["full_attention", "linear_attention"]), json!("full")] {
        let error = import(types(wrong).write().path()).expect_err("it must be refused").to_string();
        assert!(
            error.contains("`layer_types`") && error.contains("2 times \"full_attention\" or"),
            "{error}"
        );
    }
    assert_decodes_as_it_prefills(&imported(&windows), &[&TOKENS], m.vocabulary);
}

#[test]
fn qwen3_normalises_queries_and_keys() {
    let m = Llama { norms: true, features: 6, ..Llama::PLAIN };
    let checkpoint = of_kind("Qwen3ForCausalLM", m);
    assert_computes_the_reference(&checkpoint, m);
    assert_decodes_as_it_prefills(&imported(&checkpoint), &[&TOKENS], m.vocabulary);
}

/// Fields of `config.json`.
type Fields = Vec<(&'static str, Value)>;

/// `inv_freq` of `transformers`' LlamaRotaryEmbedding for heads of 16 features, by `rope_theta`.
const THETA_100: [f64; 8] =
    [1.0, 0.562341325, 0.316227766, 0.177827941, 0.1, 0.0562341325, 0.0316227766, 0.0177827941];
const THETA_10000: [f64; 8] =
    [1.0, 0.316227766, 0.1, 0.0316227766, 0.01, 0.00316227766, 0.001, 0.000316227766];
const THETA_500000: [f64; 8] = [
    1.0,
    0.193922745,
    0.0376060309,
    0.00729266474,
    0.00141421356,
    0.000274248176,
    5.3182959e-05,
    1.03133854e-05,
];
/// The same for `rope_theta` 100, stretched by 8 from 32 positions.
const LLAMA3: [f64; 8] =
    [1.0, 0.376015759, 0.0958399859, 0.0222284926, 0.0125, 0.00702926656, 0.00395284708, 0.00222284926];

/// The frequencies that a checkpoint's module turns queries and keys with.
fn frequencies(checkpoint: &Checkpoint) -> Vec<f64> {
    let imported = imported(checkpoint);
    let function = imported.module.entry().expect("it has an entry");
    let mut nodes = function.order().iter().map(|id| function.node(*id));
    nodes
        .find_map(|node| match &node.op {
            Op::Constant { value } => Some(Tensor::from_dense(value).expect("it fits").to_f64_vec()),
            _ => None,
        })
        .expect("a constant")
}

#[test]
fn rotary_positions_of_every_kind() {
    let m = Llama { features: 16, ..Llama::PLAIN };
    let plain = Checkpoint::llama(m, Stored::F32);
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32
    });
    let mut llama3_of_model = llama3.clone();
    llama3_of_model["original_max_position_embeddings"] = Value::Null;
    let cases: [(Fields, [f64; 8]); 10] = [
        (vec![], THETA_100),
        (vec![("rope_scaling", Value::Null)], THETA_100),
        (vec![("rope_scaling", json!({ "type": "default" }))], THETA_100),
        (vec![("rope_theta", json!(500_000.0))], THETA_500000),
        (vec![("rope_theta", Value::Null)], THETA_10000),
        (vec![("rope_parameters", json!({ "rope_type": "default", "rope_theta": 500_000.0 }))], THETA_500000),
        (vec![("rope_scaling", json!({ "type": "linear", "factor": 4.0 }))], THETA_100.map(|f| f / 4.0)),
        (vec![("rope_scaling", llama3.clone())], LLAMA3),
        (vec![("rope_parameters", llama3)], LLAMA3),
        (vec![("rope_scaling", llama3_of_model), ("max_position_embeddings", json!(32))], LLAMA3),
    ];
    for (fields, expected) in cases {
        let checkpoint = fields.iter().fold(plain.clone(), |c, (name, value)| c.with(name, value.clone()));
        let error = relative_error(&frequencies(&checkpoint), &expected);
        assert!(error < 1e-6, "{fields:?}: {:?}", frequencies(&checkpoint));
    }
}

#[test]
fn fields_that_mean_nothing() {
    let refused = |checkpoint: &Checkpoint| {
        import(checkpoint.write().path()).expect_err("it must be refused").to_string()
    };
    let plain = || Checkpoint::llama(Llama::PLAIN, Stored::F32);
    let scaling = |value: Value| ("rope_scaling", value);
    for ((field, value), at, expected) in [
        (
            ("num_key_value_heads", json!(3)),
            "num_key_value_heads",
            "is 3; it must divide `num_attention_heads`, 4",
        ),
        (("num_key_value_heads", json!(0)), "num_key_value_heads", "is 0; it must be"),
        (("head_dim", json!(5)), "head_dim", "is 5; rotary positions need an even number"),
        (("rope_theta", json!(-1)), "rope_theta", "is -1; it must be a number above 0"),
        (
            ("partial_rotary_factor", json!(0.5)),
            "partial_rotary_factor",
            "is 0.5; heads that are rotated in part",
        ),
        (scaling(json!("linear")), "rope_scaling", "is \"linear\"; it must be an object"),
        (
            scaling(json!({ "rope_type": "yarn", "factor": 2.0 })),
            "rope_scaling.rope_type",
            "is \"yarn\"; known kinds are default, linear and llama3",
        ),
        (scaling(json!({ "type": "linear" })), "rope_scaling.factor", "is missing; give a number above 0"),
        (
            scaling(json!({ "type": "linear", "factor": 0 })),
            "rope_scaling.factor",
            "is 0; it must be a number above 0",
        ),
        (scaling(json!({ "type": 7 })), "rope_scaling.type", "is 7; it must be a string"),
        (
            scaling(json!({ "type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4 })),
            "rope_scaling.high_freq_factor",
            "is 4; it must be above `low_freq_factor`, 4",
        ),
        (
            scaling(json!({ "type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4 })),
            "max_position_embeddings",
            "is missing; give a number above 0",
        ),
    ] {
        let error = refused(&plain().with(field, value));
        assert!(error.contains(&format!("config.json: `{at}` {expected}")), "{error}");
    }
    let error = refused(&plain().without("head_dim").with("num_attention_heads", json!(6)));
    let expected = "`num_attention_heads` is 6; it must divide `hidden_size`, 16, unless there is `head_dim`";
    assert!(error.contains(expected), "{error}");
    let error =
        refused(&plain().with("num_attention_heads", json!(1 << 24)).with("head_dim", json!(1 << 24)));
    assert!(error.contains("weights do not fit config.json"), "{error}");
}

#[test]
fn keys_and_values_are_states_that_grow() {
    let imported = imported(&Checkpoint::llama(Llama { layers: 1, ..Llama::PLAIN }, Stored::F32));
    let function = imported.module.entry().expect("it has an entry");
    let of = |values: &[qcc_ir::ValueId]| {
        values.iter().map(|v| format!("{:?}", function.ty(*v))).collect::<Vec<_>>()
    };
    let past = "tensor<[B, P, 2, 4] x f32>";
    let grown = "tensor<[B, P + T, 2, 4] x f32>";
    assert_eq!(of(function.arguments()), ["tensor<[B, T] x i64>", past, past]);
    assert_eq!(of(&function.results), ["tensor<[B, T, 13] x f32>", grown, grown]);
    let names: Vec<_> = function.result_names.iter().map(|n| &**n).collect();
    let cache = |part: &str| format!("model.layers.0.self_attn.{part}_cache");
    assert_eq!(names, ["logits", &cache("key"), &cache("value")]);
    let bindings: Vec<_> = function.states.iter().map(|s| (s.argument, s.result)).collect();
    assert_eq!(bindings, [(1, 1), (2, 2)]);
}

#[test]
fn operations_lie_at_module_paths() {
    let imported = imported(&Checkpoint::llama(Llama { layers: 1, ..Llama::PLAIN }, Stored::Bf16));
    let function = imported.module.entry().expect("it has an entry");
    let nodes = function.order().iter().map(|id| function.node(*id));
    let operations: Vec<_> = nodes
        .filter(|node| !matches!(node.op, Op::Parameter { .. }))
        .map(|node| format!("{} {}", node.op.name(), node.location.replace("model.layers.0", "0")))
        .collect();
    assert_eq!(
        operations,
        [
            "embedding model.embed_tokens",
            "constant model.rotary_emb",
            "rms_norm 0.input_layernorm",
            "positions model.rotary_emb",
            "linear 0.self_attn.q_proj",
            "reshape 0.self_attn.q_proj",
            "rotary_embedding 0.self_attn",
            "linear 0.self_attn.k_proj",
            "reshape 0.self_attn.k_proj",
            "rotary_embedding 0.self_attn",
            "linear 0.self_attn.v_proj",
            "reshape 0.self_attn.v_proj",
            "concat 0.self_attn",
            "concat 0.self_attn",
            "attention 0.self_attn",
            "reshape 0.self_attn",
            "linear 0.self_attn.o_proj",
            "add 0",
            "rms_norm 0.post_attention_layernorm",
            "linear 0.mlp.gate_proj",
            "silu 0.mlp.act_fn",
            "linear 0.mlp.up_proj",
            "mul 0.mlp",
            "linear 0.mlp.down_proj",
            "add 0",
            "rms_norm model.norm",
            "linear lm_head",
        ]
    );
}
