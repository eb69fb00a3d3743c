//! Whole files to damage: a tiny checkpoint made here, the tokenizer and graphs of the suites, an artifact compiled from the checkpoint.

use std::path::{Path, PathBuf};

use serde_json::Value;

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

/// The repository's `test` folder.
pub fn suite() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test")
}

/// Writes a Mamba checkpoint of one small layer, its tokenizer included.
pub fn checkpoint(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let (hidden, inner, states, rank, taps, vocabulary) = (8, 16, 2, 1, 4, 2048);
    let config = format!(
        r#"{{"architectures": ["MambaForCausalLM"], "model_type": "mamba", "hidden_size": {hidden}, "num_hidden_layers": 1,
"intermediate_size": {inner}, "state_size": {states}, "conv_kernel": {taps}, "time_step_rank": {rank}, "expand": 2,
"vocab_size": {vocabulary}, "use_bias": false, "use_conv_bias": true, "hidden_act": "silu", "layer_norm_epsilon": 1e-05,
"tie_word_embeddings": true}}"#
    );
    std::fs::write(folder.join("config.json"), config).expect("written");
    let shapes: [(&str, Vec<usize>); 12] = [
        ("embeddings.weight", vec![vocabulary, hidden]),
        ("norm_f.weight", vec![hidden]),
        ("layers.0.norm.weight", vec![hidden]),
        ("layers.0.mixer.in_proj.weight", vec![2 * inner, hidden]),
        ("layers.0.mixer.conv1d.weight", vec![inner, 1, taps]),
        ("layers.0.mixer.conv1d.bias", vec![inner]),
        ("layers.0.mixer.x_proj.weight", vec![rank + 2 * states, inner]),
        ("layers.0.mixer.dt_proj.weight", vec![inner, rank]),
        ("layers.0.mixer.dt_proj.bias", vec![inner]),
        ("layers.0.mixer.A_log", vec![inner, states]),
        ("layers.0.mixer.D", vec![inner]),
        ("layers.0.mixer.out_proj.weight", vec![hidden, inner]),
    ];
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let n: usize = shape.iter().product();
            let bytes = (0..n).flat_map(|i| (((i * 37) % 19) as f32 / 19.0 - 0.4).to_le_bytes()).collect();
            (format!("backbone.{name}"), shape, bytes)
        })
        .collect();
    let views: Vec<(&str, TensorView<'_>)> = data
        .iter()
        .map(|(name, shape, bytes)| {
            (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("sizes agree"))
        })
        .collect();
    serialize_to_file(views, None, &folder.join("model.safetensors")).expect("written");
    std::fs::write(folder.join("tokenizer.json"), tokenizer()).expect("written");
}

/// The tokenizer of the committed model with its first merges alone, so that reading it takes no time.
fn tokenizer() -> String {
    const MERGES: usize = 40;
    let text =
        std::fs::read(suite().join("models/mamba-tiny/tokenizer.json")).expect("the tokenizer is there");
    let mut json: Value = serde_json::from_slice(&text).expect("it is JSON");
    let merges: Vec<Value> =
        json["model"]["merges"].as_array().expect("merges").iter().take(MERGES).cloned().collect();
    let made: Vec<String> = merges
        .iter()
        .map(|merge| match merge {
            Value::String(pair) => pair.replace(' ', ""),
            pair => {
                format!("{}{}", pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default())
            }
        })
        .collect();
    let vocabulary = json["model"]["vocab"].as_object_mut().expect("a vocabulary");
    vocabulary
        .retain(|token, _| token.chars().count() == 1 || token.starts_with('<') || made.contains(token));
    json["model"]["merges"] = merges.into();
    json.to_string()
}
