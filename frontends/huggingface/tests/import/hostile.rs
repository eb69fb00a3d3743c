//! Configurations and weights that nobody should write: each ends in an error that says where and what to do.

use qcc_huggingface::{ImportError, import};
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, Mamba, ODD, Stored};

fn refused(checkpoint: &Checkpoint) -> ImportError {
    import(checkpoint.write().path()).expect_err("it must be refused")
}

fn odd() -> Checkpoint {
    Checkpoint::mamba(ODD, Stored::F32)
}

#[test]
fn sizes_that_are_none() {
    let sizes = [
        "hidden_size",
        "num_hidden_layers",
        "intermediate_size",
        "state_size",
        "conv_kernel",
        "time_step_rank",
        "vocab_size",
    ];
    let values = [
        json!(-1),
        json!(0),
        json!(1u64 << 62),
        json!(u64::MAX),
        json!(1e300),
        json!(2.5),
        json!("7"),
        json!([7]),
        json!(true),
    ];
    for field in sizes {
        for value in &values {
            let error = refused(&odd().with(field, value.clone())).to_string();
            assert!(
                error.contains("config.json: `")
                    && error.contains(&format!("`{field}` is {value}; it must be")),
                "{error}"
            );
        }
    }
}

#[test]
fn large_but_possible_sizes_are_compared_with_the_weights() {
    for field in
        ["hidden_size", "intermediate_size", "state_size", "conv_kernel", "time_step_rank", "vocab_size"]
    {
        let error = refused(&odd().with(field, json!(1 << 24)));
        assert!(matches!(error, ImportError::Weights { .. }), "{error}");
    }
    let ImportError::Weights { problems, .. } = refused(&odd().with("num_hidden_layers", json!(4096))) else {
        panic!("weights are missing")
    };
    assert_eq!(problems.len(), 11 * (4096 - ODD.layers));
}

#[test]
fn fields_of_another_kind() {
    for (field, value, expected) in [
        ("layer_norm_epsilon", json!("1e-5"), "is \"1e-5\"; it must be a number above 0"),
        ("layer_norm_epsilon", json!(-0.5), "is -0.5; it must be a number above 0"),
        ("use_bias", json!(1), "is 1; it must be true or false"),
        ("use_conv_bias", json!("yes"), "is \"yes\"; it must be true or false"),
        ("tie_word_embeddings", json!({}), "is an object; it must be true or false"),
        ("time_step_rank", json!("seven"), "is \"seven\"; it must be \"auto\" or a whole number"),
        ("hidden_act", json!("quick"), "is `quick`; known activations are silu, "),
        ("hidden_act", json!(3), "is 3; it must be a string"),
        ("rms_norm", json!(false), "is false; Mamba with LayerNorm cannot be imported"),
    ] {
        let error = refused(&odd().with(field, value)).to_string();
        assert!(error.contains(&format!("config.json: `{field}` {expected}")), "{error}");
    }
    for expand in [json!(1e300), json!(-2), json!(0.0001), json!("2")] {
        let error = refused(&odd().without("intermediate_size").with("expand", expand)).to_string();
        assert!(error.contains("config.json: `expand` is "), "{error}");
    }
}

#[test]
fn absent_fields() {
    for field in ["hidden_size", "num_hidden_layers", "vocab_size"] {
        for checkpoint in [odd().without(field), odd().with(field, Value::Null)] {
            let error = refused(&checkpoint).to_string();
            assert!(
                error.contains(&format!("config.json: `{field}` is missing; give a whole number from 1 to ")),
                "{error}"
            );
        }
    }
}

#[test]
fn unknown_architectures_name_the_known_ones() {
    let known = "known architectures are MambaForCausalLM (model type `mamba`)";
    for (checkpoint, expected) in [
        (
            odd().with("architectures", json!(["MambaModel"])),
            "`architectures` is [\"MambaModel\"], which cannot be imported",
        ),
        (odd().with("architectures", json!([])), "`architectures` is [], which cannot be imported"),
        (odd().with("architectures", json!(7)), "`architectures` is 7, which cannot be imported"),
        (
            odd().without("architectures").with("model_type", json!("gpt2")),
            "`model_type` is \"gpt2\", which cannot be imported",
        ),
        (
            odd().without("architectures").without("model_type"),
            "`architectures` is missing, and so is `model_type`",
        ),
    ] {
        let error = refused(&checkpoint).to_string();
        assert!(error.contains(expected) && error.contains(known), "{error}");
    }
    let long = refused(&odd().with("architectures", json!("x".repeat(1 << 20)))).to_string();
    assert!(long.len() < 1000, "{} bytes", long.len());
}

#[test]
fn a_config_that_is_no_json_object() {
    let deep = "[".repeat(100_000);
    for (text, expected) in [
        ("", "not valid JSON: EOF"),
        ("{\"hidden_size\": NaN}", "not valid JSON: expected value at line 1 column 17"),
        ("{\"hidden_size\": 1e999}", "not valid JSON: number out of range at line 1"),
        ("[1]", "not a JSON object"),
        ("\u{0}", "not valid JSON"),
        (deep.as_str(), "not valid JSON: recursion limit"),
    ] {
        let folder = odd().write();
        std::fs::write(folder.path().join("config.json"), text).expect("written");
        let error = import(folder.path()).expect_err("it is no configuration").to_string();
        assert!(error.contains(&format!("config.json: {expected}")), "{error}");
    }
    let folder = odd().write();
    std::fs::remove_file(folder.path().join("config.json")).expect("removed");
    assert!(matches!(import(folder.path()), Err(ImportError::Read { .. })));
}

#[test]
fn all_weights_that_do_not_fit_are_named_at_once() {
    let mut checkpoint = odd();
    checkpoint.tensors.remove("lm_head.weight");
    checkpoint.tensors.remove("backbone.layers.1.mixer.A_log");
    checkpoint.add("backbone.layers.2.mixer.conv1d.weight", &[11, 3], 1.0);
    let error = refused(&checkpoint).to_string();
    let lines: Vec<_> = error.lines().collect();
    assert!(lines[0].ends_with(": 3 weights do not fit config.json; is the checkpoint complete?"), "{error}");
    assert_eq!(
        lines[1..],
        [
            "  `backbone.layers.1.mixer.A_log` is missing; expected sizes [11, 5]",
            "  `backbone.layers.2.mixer.conv1d.weight` has sizes [11, 3]; expected [11, 1, 3]",
            "  `lm_head.weight` is missing; expected sizes [13, 7]",
        ]
    );
}

#[test]
fn weights_that_nothing_uses_are_a_warning() {
    // One layer fewer, and a head of its own beside a tied table.
    let m = Mamba { layers: 1, bias: false, ..ODD };
    let mut checkpoint = Checkpoint::mamba(m, Stored::F32).with("tie_word_embeddings", json!(true));
    checkpoint.add("backbone.layers.1.norm.weight", &[7], 1.0);
    let imported = import(checkpoint.write().path()).expect("it is imported");
    let [warning] = imported.warnings.as_slice() else { panic!("{:?}", imported.warnings) };
    let expected = "MambaForCausalLM does not use 2 of the checkpoint's weights: backbone.layers.1.norm.weight, lm_head.weight";
    assert!(warning.ends_with(expected), "{warning}");
}
