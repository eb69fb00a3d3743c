//! Transforms of imported models keep logits and states, whatever the sizes, and are found without a look at names.

use std::path::Path;

use qcc_huggingface::import;
use qcc_params::Imported;

use crate::checkpoint::{Checkpoint, Llama, Mamba, ODD, Stored};
use crate::transformed::{Transformed, renamed, spelled};

/// The passes, each with formats under which it has something to do.
const PASSES: [&str; 7] = [
    "rotate-residual",
    "rotate-heads",
    "rotate-online",
    "smooth",
    "shift",
    "permute{weights=int4:block=8 activations=int8:token:dynamic}",
    "transform{weights=int4:block=8}",
];

/// What acts inside a block.
const INSIDE: [&str; 5] = [
    "smooth-window",
    "smooth-state",
    "smooth-state{axis=channel}",
    "rotate-state",
    "rotate-state{axis=channel}",
];

/// What makes a layer a sum of layers.
const SUMS: [&str; 3] = ["split", "low-rank{rank=1}", "outlier-columns{columns=2}"];

/// Before any pass, each slice of a projection becomes a layer.
const SPLIT: &str = "split-projections,canonicalize";

/// Sizes that are no powers of two, and a rank that no Hadamard matrix has.
const UNTIED: Mamba = Mamba {
    hidden: 40,
    layers: 2,
    inner: 80,
    state: 4,
    kernel: 4,
    rank: 3,
    vocabulary: 24,
    bias: false,
    convolution_bias: true,
    tied: false,
};
const TIED: Mamba = Mamba { tied: true, ..UNTIED };
/// 18 and 26 channels: the largest Hadamard matrices that fit have order 2.
const AWKWARD: Mamba = Mamba { hidden: 18, inner: 26, rank: 2, state: 5, kernel: 3, bias: true, ..TIED };

fn made_up(m: Mamba) -> Imported {
    import(Checkpoint::mamba(m, Stored::F32).write().path()).expect("it is imported")
}

fn assert_all_keep_the_function(m: Mamba) {
    let imported = made_up(m);
    for pass in PASSES {
        Transformed::by(&imported, pass).assert_keeps(&imported, 1e-5);
    }
    let all = PASSES[..6].join(",canonicalize,");
    Transformed::by(&imported, &all).assert_keeps(&imported, 1e-5);
    for pass in PASSES.iter().chain(&INSIDE).chain(&SUMS) {
        Transformed::by(&imported, &format!("{SPLIT},{pass}")).assert_keeps(&imported, 1e-5);
    }
    // The paper's order: smoothing first; the product of states and C is one operation until it is rotated.
    let all = format!("{SPLIT},{},{},{all},{}", INSIDE[0], INSIDE[1], INSIDE[3]);
    Transformed::by(&imported, &all).assert_keeps(&imported, 1e-5);
    for sum in SUMS {
        Transformed::by(&imported, &format!("{all},canonicalize,{sum}")).assert_keeps(&imported, 1e-5);
    }
}

#[test]
fn with_a_tied_head() {
    assert_all_keep_the_function(TIED);
}

#[test]
fn with_an_untied_head() {
    assert_all_keep_the_function(UNTIED);
}

#[test]
fn with_biases_and_channels_that_hadamard_matrices_hardly_divide() {
    assert_all_keep_the_function(AWKWARD);
}

#[test]
fn with_odd_sizes() {
    assert_all_keep_the_function(ODD);
    let online = Transformed::by(&made_up(ODD), "rotate-online");
    let reason = "no Hadamard matrix is known of a size that divides its 11 features";
    assert!(online.refused("backbone.layers.0.mixer.out_proj").contains(&reason.to_string()));
}

#[test]
fn of_llama() {
    const UNTIED: Llama = Llama { hidden: 24, inner: 40, tied: false, ..Llama::PLAIN };
    for m in [UNTIED, Llama { tied: true, ..UNTIED }, Llama::ODD] {
        let imported = import(Checkpoint::llama(m, Stored::F32).write().path()).expect("it is imported");
        for pass in PASSES {
            Transformed::by(&imported, pass).assert_keeps(&imported, 1e-5);
        }
        let all = PASSES[..6].join(",canonicalize,");
        Transformed::by(&imported, &all).assert_keeps(&imported, 1e-5);
    }
    let imported = import(Checkpoint::llama(UNTIED, Stored::F32).write().path()).expect("it is imported");
    let rotated = Transformed::by(&imported, "rotate-residual");
    for part in ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"] {
        assert_eq!(rotated.chosen(&format!("model.layers.1.{part}")), "rotate-residual", "{part}");
    }
    let scaled = Transformed::by(&imported, "smooth");
    assert_eq!(scaled.chosen("model.layers.1.mlp.down_proj"), "smooth");
}

/// What is done to each projection of a block and to the head.
fn done(imported: &Imported, pass: &str) -> Vec<String> {
    let transformed = Transformed::by(imported, pass);
    let layer = |part: &str| transformed.chosen(&format!("backbone.layers.1.mixer.{part}"));
    let mut done: Vec<String> = ["in_proj", "x_proj", "dt_proj", "out_proj"].map(layer).into();
    done.push(transformed.chosen("lm_head"));
    done
}

#[test]
fn each_pass_finds_its_layers() {
    let imported = made_up(TIED);
    let none = "as it is";
    let stream = "rotate-residual";
    for (pass, expected) in PASSES.into_iter().zip([
        [stream, none, none, none, stream],
        [none; 5],
        [none, "rotate-online", none, "rotate-online", none],
        ["smooth", none, none, none, none],
        [none; 5],
        [none; 5],
    ]) {
        assert_eq!(done(&imported, pass), expected, "{pass}");
    }
    // The scan needs the input of `x_proj` without its scale, and the halves of `in_proj` are not told apart.
    for (pass, layer, reason) in [
        (PASSES[3], "x_proj", "it would be work while the model runs"),
        (PASSES[5], "out_proj", "a permutation does not pass `backbone.layers.1.mixer.in_proj` (qcc.slice)"),
    ] {
        let refused = Transformed::by(&imported, pass).refused(&format!("backbone.layers.1.mixer.{layer}"));
        assert!(refused.iter().any(|r| r.contains(reason)), "{pass}: {refused:?}");
    }
}

#[test]
fn what_is_inside_a_block_is_reached_once_projections_are_split() {
    let imported = made_up(TIED);
    for pass in ["smooth-window", "smooth-state"] {
        let whole = Transformed::by(&imported, pass);
        assert!(whole.choices().is_empty(), "{pass}");
        let split = Transformed::by(&imported, &format!("{SPLIT},{pass}"));
        assert_eq!(split.choices().len(), 2, "{pass}: one for each block");
    }
    // R5 of MambaQuant: between the time step's two layers.
    let split = Transformed::by(&imported, &format!("{SPLIT},rotate-heads"));
    assert_eq!(split.chosen("backbone.layers.1.mixer.dt_proj"), "rotate-heads");
    // S2: the gate's rows take up what out-projection's columns do not.
    let split = Transformed::by(&imported, &format!("{SPLIT},smooth"));
    assert_eq!(split.chosen("backbone.layers.1.mixer.out_proj"), "smooth");
    // Another order of channels would move the caller's states about.
    let split = Transformed::by(&imported, &format!("{SPLIT},{}", PASSES[5]));
    let refused = split.refused("backbone.layers.1.mixer.out_proj");
    assert!(refused.iter().any(|r| r.contains("conv_state")), "{refused:?}");
}

/// The first block of the committed model.
fn trained() -> Imported {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/models/mamba-tiny");
    let folder = tempfile::tempdir().expect("a folder");
    let config = std::fs::read_to_string(model.join("config.json")).expect("a configuration");
    let config = config.replace("\"num_hidden_layers\": 6", "\"num_hidden_layers\": 1");
    std::fs::write(folder.path().join("config.json"), config).expect("written");
    let weights = "model.safetensors";
    std::fs::copy(model.join(weights), folder.path().join(weights)).expect("copied");
    import(folder.path()).expect("it is imported")
}

#[test]
fn names_do_not_matter() {
    let imported = made_up(TIED);
    let whole = PASSES[..6].iter().map(ToString::to_string);
    let split = PASSES[..6].iter().chain(&INSIDE).chain(&SUMS).map(|pass| format!("{SPLIT},{pass}"));
    for pass in whole.chain(split) {
        let as_named = Transformed::by(&imported, &pass);
        // What finds nothing in this model says nothing about names.
        let finds_nothing =
            [&PASSES[1], &PASSES[4], &PASSES[5]].iter().any(|p| ***p == *pass) || pass.ends_with(PASSES[5]);
        let found = as_named.choices().iter().any(|(chosen, ..)| *chosen != "as it is");
        assert_eq!(found, !finds_nothing, "{pass}: {:?}", as_named.choices());
        for seed in 1..3 {
            let other = Transformed::by(&renamed(&imported, seed), &pass);
            assert_eq!(other.choices(), as_named.choices(), "{pass}");
            assert_eq!(spelled(&other.module), spelled(&as_named.module), "{pass}");
        }
    }
    // Of random weights it leaves all as they are.
    let imported = trained();
    for pass in [PASSES[6].to_string(), format!("{SPLIT},{}", PASSES[6])] {
        let as_named = Transformed::by(&imported, &pass);
        assert!(as_named.choices().iter().any(|(chosen, ..)| *chosen != "as it is"), "{pass}");
        let other = Transformed::by(&renamed(&imported, 1), &pass);
        assert_eq!(other.choices(), as_named.choices(), "{pass}");
        assert_eq!(spelled(&other.module), spelled(&as_named.module), "{pass}");
    }
}
