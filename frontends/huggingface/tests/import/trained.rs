//! The trained checkpoint beside the repository, measured against other people's software.

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
fn mamba_tiny_decodes_as_it_prefills() {
    let Some(folder) = shared("models/trained-here/mamba-tiny") else { return };
    let imported = import(&folder).expect("it is imported");
    let names = imported.parameters.iter().map(|(name, _)| name.to_string()).collect();
    verify(&imported.module, Options { parameters: Some(&names), source: None }).expect("it verifies");
    assert_decodes_as_it_prefills(&imported, &[&[489, 557, 538, 79, 632, 84, 352, 346]], VOCABULARY);
}

#[test]
fn mamba_tiny_has_the_perplexity_of_the_reference() {
    // Mean NLL of two windows of 256 tokens by the Mamba equations in NumPy and f64 on the same weights; over all 160 windows the same
    // program gives perplexity 33.997933, PyTorch with transformers 33.99793. The outlier twin is the same function.
    const EXPECTED: f64 = 3.259911760811;
    let Some(text) = shared("data/text/wikitext2-test.txt") else { return };
    for model in ["mamba-tiny", "mamba-tiny-outlier"] {
        let Some(folder) = shared(&format!("models/trained-here/{model}")) else { return };
        let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).expect("it has a tokenizer");
        let windows =
            TokenWindows::from_text(&text, &tokenizer, 256, Some(2)).expect("the text is long enough");
        let tokens: Vec<i64> = windows.ids().iter().map(|id| i64::from(*id)).collect();
        let imported = import(&folder).expect("it is imported");
        let logits = Model::new(&imported, Precision::F32, windows.len()).logits(&tokens);
        let rows = logits.chunks(VOCABULARY).zip(&tokens[1..]).enumerate();
        let losses = rows.filter(|(at, _)| (at + 1) % 256 != 0).map(|(_, (row, next))| {
            let largest = row.iter().fold(f64::NEG_INFINITY, |m, x| m.max(*x));
            largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln() - row[*next as usize]
        });
        let nll = losses.sum::<f64>() / windows.predicted_tokens() as f64;
        assert!((nll / EXPECTED - 1.0).abs() < 1e-4, "{model}: {nll}");
    }
}
