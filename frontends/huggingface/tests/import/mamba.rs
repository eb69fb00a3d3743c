//! Made-up Mamba checkpoints against the plain reference, and what their modules look like.

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::Op;
use qcc_params::Source;
use qcc_passes::{Context, Instrumentation, Pipeline, Registry};
use serde_json::json;

use crate::checkpoint::{Checkpoint, Mamba, ODD, Stored};
use crate::reference;
use crate::session::{Model, assert_decodes_as_it_prefills, imported, relative_error};

const TOKENS: [i64; 6] = [3, 11, 0, 12, 5, 3];

/// As `mamba-tiny`, but small.
const PLAIN: Mamba = Mamba {
    hidden: 8,
    inner: 16,
    rank: 1,
    kernel: 4,
    bias: false,
    convolution_bias: true,
    tied: true,
    ..ODD
};

fn assert_computes_the_reference(checkpoint: &Checkpoint, m: Mamba) {
    let got = Model::new(&imported(checkpoint), Precision::F64, 1).logits(&TOKENS);
    let error = relative_error(&got, &reference::mamba::logits(checkpoint, m, &TOKENS));
    assert!(error < 1e-12, "relative error {error:e}");
}

#[test]
fn odd_sizes_biases_and_an_untied_head() {
    let checkpoint = Checkpoint::mamba(ODD, Stored::F32);
    assert_computes_the_reference(&checkpoint, ODD);
    let sequences: [&[i64]; 2] = [&TOKENS, &[1, 2, 3, 4, 5, 6]];
    assert_decodes_as_it_prefills(&imported(&checkpoint), &sequences, ODD.vocabulary);
}

#[test]
fn every_storage_of_weights() {
    for stored in [Stored::F32, Stored::F16, Stored::Bf16] {
        assert_computes_the_reference(&Checkpoint::mamba(PLAIN, stored), PLAIN);
    }
}

#[test]
fn one_tap_and_one_of_everything() {
    let m = Mamba { hidden: 1, layers: 1, inner: 1, state: 1, kernel: 1, rank: 1, ..ODD };
    assert_computes_the_reference(&Checkpoint::mamba(m, Stored::F32), m);
}

#[test]
fn older_names_and_defaults() {
    // 8 · 2 inner channels; ⌈8 / 16⌉ = 1, the rank of the time step; state 5 and kernel 4 by their older names.
    let mut checkpoint = Checkpoint::mamba(PLAIN, Stored::F32);
    for (name, older) in
        [("hidden_size", "d_model"), ("num_hidden_layers", "n_layer"), ("state_size", "d_state")]
    {
        let value = checkpoint.config.remove(name).expect("it has the field");
        checkpoint.config.insert(older.into(), value);
    }
    let table = checkpoint.tensors.remove("backbone.embeddings.weight").expect("it has a table");
    let mut renamed = checkpoint.clone();
    renamed.tensors.insert("backbone.embedding.weight".into(), table.clone());
    checkpoint.tensors.insert("backbone.embeddings.weight".into(), table);
    for field in
        ["architectures", "intermediate_size", "conv_kernel", "use_bias", "tie_word_embeddings", "hidden_act"]
    {
        renamed = renamed.without(field);
    }
    let renamed = renamed
        .with("time_step_rank", json!("auto"))
        .with("expand", json!(2.0))
        .with("use_conv_bias", json!(null));
    let got = Model::new(&imported(&renamed), Precision::F64, 1).logits(&TOKENS);
    assert!(relative_error(&got, &reference::mamba::logits(&checkpoint, PLAIN, &TOKENS)) < 1e-12);
}

#[test]
fn the_ir_does_not_tell_how_weights_are_stored() {
    let text = |stored| {
        let imported = imported(&Checkpoint::mamba(PLAIN, stored));
        qcc_ir::print::print_module(&imported.module, qcc_ir::print::Options::default())
    };
    assert_eq!(text(Stored::F32), text(Stored::Bf16));
}

#[test]
fn a_tied_table_is_one_parameter() {
    let imported = imported(&Checkpoint::mamba(PLAIN, Stored::Bf16));
    let function = imported.module.entry().expect("it has an entry");
    let table = |op: &Op| matches!(op, Op::Parameter { name } if &**name == "backbone.embeddings.weight");
    let tables: Vec<_> = function.order().iter().filter(|id| table(&function.node(**id).op)).collect();
    let &[table] = tables.as_slice() else { panic!("{tables:?}") };
    let uses = &function.uses()[&function.node(*table).results[0]];
    let users: Vec<_> = uses.iter().map(|(op, slot)| (function.node(*op).op.name(), *slot)).collect();
    assert_eq!(users, [("embedding", 0), ("linear", 1)]);
    let raw = imported.parameters.source("checkpoint::backbone.embeddings.weight");
    assert!(matches!(raw, Some(Source::Bytes(_))), "{raw:?}");
}

#[test]
fn arguments_results_and_states_are_named_and_bound() {
    let imported = imported(&Checkpoint::mamba(Mamba { layers: 2, ..ODD }, Stored::F32));
    let function = imported.module.entry().expect("it has an entry");
    assert_eq!(function.name, "main");
    let arguments: Vec<_> = function
        .arguments()
        .iter()
        .map(|a| format!("{}: {:?}", function.value(*a).name, function.ty(*a)))
        .collect();
    assert_eq!(
        arguments,
        [
            "tokens: tensor<[B, T] x i64>",
            "backbone.layers.0.mixer.conv_state: tensor<[B, 11, 2] x f32>",
            "backbone.layers.0.mixer.ssm_state: tensor<[B, 11, 5] x f32>",
            "backbone.layers.1.mixer.conv_state: tensor<[B, 11, 2] x f32>",
            "backbone.layers.1.mixer.ssm_state: tensor<[B, 11, 5] x f32>",
        ]
    );
    assert_eq!(&*function.result_names[0], "logits");
    assert_eq!(format!("{:?}", function.ty(function.results[0])), "tensor<[B, T, 13] x f32>");
    for (i, state) in function.states.iter().enumerate() {
        assert_eq!((state.argument, state.result), (i + 1, i + 1));
        assert_eq!(function.result_names[i + 1], function.value(function.arguments()[i + 1]).name);
    }
    let files: Vec<_> = imported.files.iter().filter_map(|f| f.file_name()?.to_str()).collect();
    assert_eq!(files, ["config.json", "model.safetensors"]);
}

#[test]
fn nothing_is_left_to_fold() {
    let mut imported = imported(&Checkpoint::mamba(ODD, Stored::Bf16));
    let before = qcc_ir::print::print_module(&imported.module, qcc_ir::print::Options::default());
    let interpreter = Interpreter::new(Precision::F64);
    let mut context = Context::new(imported.parameters, &interpreter);
    let pipeline = Pipeline::parse("canonicalize", &Registry::builtin()).expect("it parses");
    pipeline.run(&mut imported.module, &mut context, &mut Instrumentation::default()).expect("it runs");
    assert_eq!(qcc_ir::print::print_module(&imported.module, qcc_ir::print::Options::default()), before);
}

#[test]
fn operations_lie_at_module_paths() {
    let imported = imported(&Checkpoint::mamba(Mamba { layers: 1, ..PLAIN }, Stored::Bf16));
    let function = imported.module.entry().expect("it has an entry");
    let nodes = function.order().iter().map(|id| function.node(*id));
    let operations: Vec<_> = nodes
        .filter(|node| !matches!(node.op, Op::Parameter { .. }))
        .map(|node| format!("{} {}", node.op.name(), node.location))
        .collect();
    assert_eq!(
        operations,
        [
            "embedding backbone.embeddings",
            "rms_norm backbone.layers.0.norm",
            "linear backbone.layers.0.mixer.in_proj",
            "slice backbone.layers.0.mixer.in_proj",
            "slice backbone.layers.0.mixer.in_proj",
            "causal_conv backbone.layers.0.mixer.conv1d",
            "silu backbone.layers.0.mixer.act",
            "linear backbone.layers.0.mixer.x_proj",
            "slice backbone.layers.0.mixer.x_proj",
            "slice backbone.layers.0.mixer.x_proj",
            "slice backbone.layers.0.mixer.x_proj",
            "linear backbone.layers.0.mixer.dt_proj",
            "softplus backbone.layers.0.mixer",
            "selective_scan backbone.layers.0.mixer",
            "silu backbone.layers.0.mixer.act",
            "mul backbone.layers.0.mixer",
            "linear backbone.layers.0.mixer.out_proj",
            "add backbone.layers.0",
            "rms_norm backbone.norm_f",
            "linear lm_head",
        ]
    );
}
