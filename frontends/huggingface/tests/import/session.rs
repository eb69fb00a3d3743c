//! An imported language model in the interpreter: tokens in, logits out, states kept.

use qcc_huggingface::import;
use qcc_interpreter::{Interpreter, Precision, Session};
use qcc_ir::verify::{Options, verify};
use qcc_ir::{Dim, Function};
use qcc_params::{Imported, Parameters, Tensor};

use crate::checkpoint::Checkpoint;

/// A checkpoint, imported and verified.
pub fn imported(checkpoint: &Checkpoint) -> Imported {
    let imported = import(checkpoint.write().path()).expect("it is imported");
    let names = imported.parameters.iter().map(|(name, _)| name.to_string()).collect();
    verify(&imported.module, Options { parameters: Some(&names), source: None }).expect("it verifies");
    imported
}

/// A model and the states of `batch` sequences.
pub struct Model {
    function: Function,
    session: Session<Parameters>,
    states: Vec<Tensor>,
    batch: usize,
}

impl Model {
    /// A model at the start of its sequences.
    pub fn new(imported: &Imported, precision: Precision, batch: usize) -> Model {
        let function = imported.module.entry().expect("it has an entry").clone();
        let states = function.states.iter().map(|state| {
            let mut ty = function.ty(function.arguments()[state.argument]).clone();
            let size = |symbol: &str| Some(if symbol == "B" { batch as i64 } else { 0 });
            for dim in &mut ty.dims {
                *dim = Dim::Const(dim.evaluate(&size).expect("a size"));
            }
            Tensor::zeros(&ty).expect("its sizes are constant")
        });
        let states = states.collect();
        let session = Interpreter::new(precision).session(imported.parameters.clone());
        Model { function, session, states, batch }
    }

    /// Logits `[batch, tokens of each, vocabulary]` of further tokens, sequence after sequence.
    pub fn logits(&mut self, tokens: &[i64]) -> Vec<f64> {
        let dims = [self.batch, tokens.len() / self.batch];
        let mut inputs = vec![Tensor::i64(&dims, tokens.to_vec()).expect("it fills its sizes")];
        inputs.append(&mut self.states);
        let mut results = self.session.run(&self.function, &inputs).expect("it runs");
        self.states = results.split_off(1);
        results[0].to_f64_vec()
    }
}

/// `max|a − b| / max|b|`.
pub fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    // NaN must not get lost in a maximum.
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs() / largest)
        .fold(0.0, |m, e| if e > m || e.is_nan() { e } else { m })
}

/// That reading all tokens at once, one by one, and in two pieces gives the same logits (in f32).
pub fn assert_decodes_as_it_prefills(imported: &Imported, sequences: &[&[i64]], vocabulary: usize) {
    let (batch, length) = (sequences.len(), sequences[0].len());
    let all = Model::new(imported, Precision::F32, batch).logits(&sequences.concat());
    for piece in [1, length / 2 + 1] {
        let mut model = Model::new(imported, Precision::F32, batch);
        let mut pieces = vec![0.0; all.len()];
        for start in (0..length).step_by(piece) {
            let end = length.min(start + piece);
            let tokens: Vec<i64> = sequences.iter().flat_map(|s| &s[start..end]).copied().collect();
            let logits = model.logits(&tokens);
            for (sequence, rows) in logits.chunks((end - start) * vocabulary).enumerate() {
                let at = (sequence * length + start) * vocabulary;
                pieces[at..at + rows.len()].copy_from_slice(rows);
            }
        }
        let error = relative_error(&pieces, &all);
        assert!(error < 1e-5, "pieces of {piece} tokens: relative error {error:e}");
    }
}
