//! A made-up Mamba checkpoint, small enough to compile in no time, with the tokenizer of the committed model.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use tempfile::TempDir;

const VOCABULARY: usize = 2048;
const HIDDEN: usize = 16;
const INNER: usize = 24;
const STATE: usize = 4;
const RANK: usize = 2;

/// A checkpoint of one block with this activation.
pub fn mamba(activation: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/models/mamba-tiny/tokenizer.json");
    std::fs::copy(tokenizer, folder.path().join("tokenizer.json")).expect("copied");
    let config = json!({
        "architectures": ["MambaForCausalLM"], "hidden_size": HIDDEN, "num_hidden_layers": 1,
        "intermediate_size": INNER, "state_size": STATE, "conv_kernel": 4, "time_step_rank": RANK,
        "vocab_size": VOCABULARY, "tie_word_embeddings": true, "hidden_act": activation,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    let block = "backbone.layers.0";
    let shapes = [
        ("backbone.embeddings.weight".to_string(), vec![VOCABULARY, HIDDEN]),
        (format!("{block}.norm.weight"), vec![HIDDEN]),
        (format!("{block}.mixer.in_proj.weight"), vec![2 * INNER, HIDDEN]),
        (format!("{block}.mixer.conv1d.weight"), vec![INNER, 1, 4]),
        (format!("{block}.mixer.conv1d.bias"), vec![INNER]),
        (format!("{block}.mixer.x_proj.weight"), vec![RANK + 2 * STATE, INNER]),
        (format!("{block}.mixer.dt_proj.weight"), vec![INNER, RANK]),
        (format!("{block}.mixer.dt_proj.bias"), vec![INNER]),
        (format!("{block}.mixer.A_log"), vec![INNER, STATE]),
        (format!("{block}.mixer.D"), vec![INNER]),
        (format!("{block}.mixer.out_proj.weight"), vec![HIDDEN, INNER]),
        ("backbone.norm_f.weight".to_string(), vec![HIDDEN]),
    ];
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let bytes: Vec<Vec<u8>> = shapes
        .iter()
        .map(|(_, shape)| (0..shape.iter().product()).flat_map(|_: usize| next().to_le_bytes()).collect())
        .collect();
    let views = shapes.iter().zip(&bytes).map(|((name, shape), bytes)| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("it fills its shape"))
    });
    let file = folder.path().join("model.safetensors");
    safetensors::serialize_to_file(views, None, &file).expect("written");
    folder
}
