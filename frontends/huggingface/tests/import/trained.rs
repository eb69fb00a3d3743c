//! The trained checkpoints beside the repository, measured against other people's software.

use std::path::PathBuf;

use qcc_data::{TokenWindows, Tokenizer};
use qcc_huggingface::import;
use qcc_interpreter::Precision;
use qcc_ir::verify::{Options, verify};

use crate::session::{Model, assert_decodes_as_it_prefills};

const VOCABULARY: usize = 2048;

/// The path of `name` in the folder of shared models and data beside the checkout, or `None` (and a line that says so) where it is absent.
fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: shared/{name} is not beside this checkout");
    None
}

#[test]
fn models_decode_as_they_prefill() {
    for model in ["mamba-tiny", "llama-tiny"] {
        let Some(folder) = shared(&format!("models/trained-here/{model}")) else { return };
        let imported = import(&folder).expect("it is imported");
        let names = imported.parameters.iter().map(|(name, _)| name.to_string()).collect();
        verify(&imported.module, Options { parameters: Some(&names), source: None }).expect("it verifies");
        assert_decodes_as_it_prefills(&imported, &[&[489, 557, 538, 79, 632, 84, 352, 346]], VOCABULARY);
    }
}

#[test]
fn perplexity_is_that_of_the_reference() {
    // Mean NLL of two windows of 256 tokens on the same weights. Mamba: by its equations in NumPy and f64; over all 160 windows the same
    // program gives perplexity 33.997933, PyTorch with transformers 33.99793. Llama: by PyTorch with transformers in f32, 36.40787 over all
    // windows. An outlier twin is the same function.
    for (model, expected) in [("mamba-tiny", 3.259911760811), ("llama-tiny", 3.302351446676)] {
        for model in [model.to_string(), format!("{model}-outlier")] {
            let Some(nll) = nll_of_two_windows(&model) else { return };
            assert!((nll / expected - 1.0).abs() < 1e-4, "{model}: {nll}");
        }
    }
}

fn nll_of_two_windows(model: &str) -> Option<f64> {
    let text = shared("data/text/wikitext2-test.txt")?;
    let folder = shared(&format!("models/trained-here/{model}"))?;
    let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).expect("it has a tokenizer");
    let windows = TokenWindows::from_text(&text, &tokenizer, 256, Some(2)).expect("the text is long enough");
    let tokens: Vec<i64> = windows.ids().iter().map(|id| i64::from(*id)).collect();
    let imported = import(&folder).expect("it is imported");
    let logits = Model::new(&imported, Precision::F32, windows.len()).logits(&tokens);
    let rows = logits.chunks(VOCABULARY).zip(&tokens[1..]).enumerate();
    let losses = rows.filter(|(at, _)| (at + 1) % 256 != 0).map(|(_, (row, next))| {
        let largest = row.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
        largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln() - row[*next as usize]
    });
    Some(losses.sum::<f64>() / windows.predicted_tokens() as f64)
}

#[test]
fn stories_go_on_as_with_transformers() {
    // Last logits, among them the largest three, by PyTorch with transformers in f32.
    const EXPECTED: [(usize, f64); 6] =
        [(286, 15.54328), (397, 12.3173), (383, 11.84236), (0, -11.36754), (255, -11.36796), (511, -9.36553)];
    let Some(folder) = shared("models/stories260K") else { return };
    let imported = import(&folder).expect("it is imported");
    let tokens = [1, 403, 407, 261, 378, 432, 286, 383];
    let logits = Model::new(&imported, Precision::F32, 1).logits(&tokens);
    let last = &logits[7 * 512..];
    for (id, expected) in EXPECTED {
        assert!((last[id] - expected).abs() < 1e-4, "{id}: {} and not {expected}", last[id]);
    }
}
