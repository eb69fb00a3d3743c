//! Inputs to compare two models on: token windows, images, named arrays, or seeded random numbers.

use std::path::{Path, PathBuf};

use qcc_data::{ImageEntry, NpyArray, Preprocess, TokenWindows, Tokenizer, images};
use qcc_runtime::program::{Entry, Expr, Port};

use crate::Failure;
use crate::cli::NamedFile;
use crate::tensor::Tensor;
use crate::vision;

/// Random cases where no inputs are given.
const RANDOM_CASES: usize = 4;

/// Cases, made one at a time.
pub enum Cases {
    /// Windows of text.
    Windows(TokenWindows),
    /// Images.
    Images(Vec<ImageEntry>, Preprocess),
    /// One case of arrays by name.
    Arrays(Vec<NamedFile>),
    /// So many cases of random numbers; symbols but for the batch have this size, and token ids are below the vocabulary.
    Random {
        /// Cases.
        cases: usize,
        /// Value of symbols.
        length: usize,
        /// Largest token id plus 1.
        vocabulary: usize,
    },
}

impl Cases {
    /// The cases that `--inputs` names.
    ///
    /// # Errors
    /// When they are mixed, unreadable, or need a tokenizer that is not there.
    pub fn new(
        inputs: &[String],
        seq_len: usize,
        limit: Option<usize>,
        preprocess: Preprocess,
        tokenizer: impl FnOnce() -> Result<Tokenizer, Failure>,
        entry: &Entry,
    ) -> Result<Cases, Failure> {
        let [first, rest @ ..] = inputs else {
            let vocabulary = entry.outputs.iter().filter_map(|port| match port.dims.last() {
                Some(Expr::Const(n)) => Some(*n as usize),
                _ => None,
            });
            let vocabulary = vocabulary.min().unwrap_or(1).max(1);
            return Ok(Cases::Random { cases: limit.unwrap_or(RANDOM_CASES), length: seq_len, vocabulary });
        };
        let path = PathBuf::from(first);
        if !path.exists() && inputs.iter().all(|text| text.contains('=')) {
            let files = inputs.iter().map(|text| text.parse().map_err(Failure::usage));
            return Ok(Cases::Arrays(files.collect::<Result<_, _>>()?));
        }
        if !rest.is_empty() {
            return Err(Failure::usage("`--inputs` takes one file or folder, or several NAME=FILE.npy"));
        }
        if path.is_dir() {
            let mut entries = images::list(&path)?;
            entries.truncate(limit.unwrap_or(usize::MAX));
            return Ok(Cases::Images(entries, preprocess));
        }
        let windows = if path.extension().is_some_and(|e| e == "npy") {
            TokenWindows::from_npy(&path, seq_len, limit)?
        } else {
            TokenWindows::from_text(&path, &tokenizer()?, seq_len, limit)?
        };
        Ok(Cases::Windows(windows))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Cases::Windows(windows) => windows.len(),
            Cases::Images(entries, _) => entries.len(),
            Cases::Arrays(_) => 1,
            Cases::Random { cases, .. } => *cases,
        }
    }

    /// The inputs of case `index` for an entry point.
    ///
    /// # Errors
    /// When they do not fit it, or a file cannot be read.
    pub fn inputs(&self, index: usize, entry: &Entry) -> Result<Vec<Tensor>, Failure> {
        match self {
            Cases::Windows(windows) => {
                let window = windows.iter().nth(index).unwrap_or_default();
                let ids: Vec<i64> = window.iter().map(|&id| i64::from(id)).collect();
                only(entry).map(|_| vec![Tensor::i64(vec![1, ids.len() as u64], &ids)])
            }
            Cases::Images(entries, preprocess) => {
                let (input, batch) = vision::image_port(only(entry)?, *preprocess)?;
                let one = input.read(&entries[index].path)?;
                let copies = batch.unwrap_or(1);
                let shape = vision::shape(&input, copies).to_vec();
                Ok(vec![Tensor::f32(shape, &one.repeat(copies))])
            }
            Cases::Arrays(files) => arrays(files, entry),
            Cases::Random { length, vocabulary, .. } => {
                let mut random = Random(index as u64);
                entry.inputs.iter().map(|port| random.tensor(port, *length, *vocabulary)).collect()
            }
        }
    }
}

fn only(entry: &Entry) -> Result<&Port, Failure> {
    match entry.inputs.as_slice() {
        [port] => Ok(port),
        ports => {
            Err(Failure::input(format!("the model takes {} inputs; pass each as NAME=FILE.npy", ports.len())))
        }
    }
}

/// One array for each input of an entry point, in its order.
///
/// # Errors
/// When one is missing, unknown, unreadable, or does not fit.
pub fn arrays(files: &[NamedFile], entry: &Entry) -> Result<Vec<Tensor>, Failure> {
    let names = || entry.inputs.iter().map(|port| port.name.as_str());
    if let Some(unknown) = files.iter().find(|file| names().all(|name| name != file.name)) {
        let hint = qcc_ir::names::near_match(&unknown.name, names());
        let known: Vec<_> = names().collect();
        return Err(Failure::input(format!(
            "the model has no input `{}`{hint}; it takes {}",
            unknown.name,
            known.join(", ")
        )));
    }
    let of = |port: &Port| {
        let mut named = files.iter().filter(|file| file.name == port.name);
        let file = named.next().ok_or_else(|| {
            Failure::input(format!("input `{}` is missing; pass `{0}=FILE.npy`", port.name))
        })?;
        if named.next().is_some() {
            return Err(Failure::usage(format!("input `{}` is given twice", port.name)));
        }
        read(&file.path, port)
    };
    entry.inputs.iter().map(of).collect()
}

fn read(path: &Path, port: &Port) -> Result<Tensor, Failure> {
    let array = NpyArray::read(path)?;
    Tensor::from_npy(&array, port).map_err(|e| Failure::file(path, format!("input `{}`: {e}", port.name)))
}

/// A linear congruential sequence (Knuth's MMIX constants), its high bits used: the same inputs on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn tensor(&mut self, port: &Port, length: usize, vocabulary: usize) -> Result<Tensor, Failure> {
        let size = |(axis, dim): (usize, &Expr)| match dim {
            Expr::Const(n) => *n,
            _ if axis == 0 => 1,
            _ => length as u64,
        };
        let shape: Vec<u64> = port.dims.iter().enumerate().map(size).collect();
        let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).filter(|n| *n < 1 << 32);
        let Some(count) = count else {
            return Err(Failure::input(format!(
                "input `{}` of shape {shape:?} is too large to make up",
                port.name
            )));
        };
        match port.element.as_str() {
            "f32" => {
                let values: Vec<f32> =
                    (0..count).map(|_| self.next() as f32 / (1u32 << 30) as f32 - 1.0).collect();
                Ok(Tensor::f32(shape, &values))
            }
            "i64" => {
                let values: Vec<i64> = (0..count).map(|_| (self.next() % vocabulary as u64) as i64).collect();
                Ok(Tensor::i64(shape, &values))
            }
            other => Err(Failure::input(format!(
                "no random inputs of type {other}; pass `--inputs {}=FILE.npy`",
                port.name
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(inputs: Vec<Port>) -> Entry {
        Entry {
            name: "main".into(),
            inputs,
            outputs: vec![],
            states: vec![],
            growth: None,
            limits: Vec::new(),
            slots: vec![],
            steps: vec![],
        }
    }

    fn port(name: &str, element: &str, dims: Vec<Expr>) -> Port {
        Port { name: name.into(), element: element.into(), dims }
    }

    #[test]
    fn random_inputs_are_the_same_each_time() {
        let entry = entry(vec![port("tokens", "i64", vec![Expr::Symbol(0), Expr::Symbol(1)])]);
        let cases = Cases::Random { cases: 2, length: 5, vocabulary: 7 };
        let first = cases.inputs(0, &entry).expect("it can be made up");
        assert_eq!(first[0].shape, [1, 5]);
        assert_eq!(cases.inputs(0, &entry).ok(), Some(first.clone()));
        assert_ne!(cases.inputs(1, &entry).ok(), Some(first));
    }

    #[test]
    fn arrays_go_by_name() {
        let entry = entry(vec![port("data", "f32", vec![Expr::Const(1)])]);
        let file = |name: &str| NamedFile { name: name.into(), path: "x.npy".into() };
        let error = arrays(&[file("date")], &entry).expect_err("unknown");
        assert!(error.message().is_some_and(|m| m.contains("did you mean `data`?")), "{error:?}");
        let error = arrays(&[], &entry).expect_err("missing");
        assert!(error.message().is_some_and(|m| m.contains("pass `data=FILE.npy`")), "{error:?}");
        assert_eq!(arrays(&[file("data"), file("data")], &entry).expect_err("twice").exit_code(), 2);
    }
}
