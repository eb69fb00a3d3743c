//! Calibration samples: windows of a text for language models, images for the others.

use std::path::Path;

use qcc_data::{ImageEntry, ImageInput, TokenWindows, Tokenizer, images};
use qcc_ir::{Function, TensorType};
use qcc_params::Tensor;
use qcc_passes::Samples;
use qcc_runtime::program::{Expr, Port};

use crate::recipe::Settings;
use crate::vision;
use crate::{Failure, source};

/// Windows taken where no number is given.
const WINDOWS: usize = 16;
/// Images taken where no number is given.
const IMAGES: usize = 64;
/// Samples that nothing is calibrated on, to compare with: so many where there are.
const HELD_OUT: usize = 8;

/// Data to calibrate with.
pub struct Calibration {
    /// What is measured on.
    pub samples: Box<dyn Samples>,
    /// What plans are compared on; none where no data is left.
    pub held_out: Option<Box<dyn Samples>>,
}

/// The samples for a function in a file or folder; `model` is where the tokenizer is.
///
/// # Errors
/// When the data cannot be read, or the function takes another kind.
pub fn read(
    data: &Path,
    function: &Function,
    settings: &Settings,
    model: &Path,
) -> Result<Calibration, Failure> {
    let inputs = plain_inputs(function);
    let [(name, ty)] = inputs.as_slice() else {
        return Err(Failure::not_yet(format!("calibrating a model of {} inputs", inputs.len())));
    };
    if *name == "tokens" {
        let samples = settings.samples.unwrap_or(WINDOWS);
        let limit = samples.checked_add(HELD_OUT);
        let windows = if data.extension().is_some_and(|e| e == "npy") {
            TokenWindows::from_npy(data, settings.seq_len, limit)?
        } else {
            let tokenizer = source::tokenizer(model).ok_or_else(|| {
                Failure::file(
                    model,
                    "no tokenizer.json, which a calibration text needs; pass token ids (.npy) instead",
                )
            })?;
            TokenWindows::from_text(data, &Tokenizer::from_file(tokenizer)?, settings.seq_len, limit)?
        };
        return Ok(split(&windows, samples));
    }
    let (input, batch) = vision::image_port(&port(name, ty), settings.input.preprocess(None)?)?;
    let all = images::list(data)?;
    let entries = images::every_nth(&all, settings.samples.unwrap_or(IMAGES));
    let rest: Vec<ImageEntry> =
        all.into_iter().filter(|e| entries.iter().all(|c| c.path != e.path)).collect();
    let copies = batch.unwrap_or(1);
    let held_out = Images { entries: images::every_nth(&rest, HELD_OUT), input, copies };
    Ok(Calibration {
        samples: Box::new(Images { entries, input, copies }),
        held_out: (!held_out.is_empty()).then(|| Box::new(held_out) as _),
    })
}

/// The first `samples` windows to calibrate with, the others to compare on.
fn split(windows: &TokenWindows, samples: usize) -> Calibration {
    let all: Vec<Vec<u32>> = windows.iter().map(<[u32]>::to_vec).collect();
    let (first, rest) = all.split_at(samples.min(all.len()));
    let held_out = (!rest.is_empty()).then(|| Box::new(Windows(rest.to_vec())) as _);
    Calibration { samples: Box::new(Windows(first.to_vec())), held_out }
}

/// Arguments that are no states.
fn plain_inputs(function: &Function) -> Vec<(&str, &TensorType)> {
    let is_state = |i: usize| function.states.iter().any(|s| s.argument == i);
    let arguments = function.arguments().iter().enumerate().filter(|(i, _)| !is_state(*i));
    arguments.map(|(_, &v)| (&*function.value(v).name, function.ty(v))).collect()
}

/// An argument as the runtime will see it.
fn port(name: &str, ty: &TensorType) -> Port {
    let size = |d: &qcc_ir::Dim| match d.constant().and_then(|n| u64::try_from(n).ok()) {
        Some(n) => Expr::Const(n),
        None => Expr::Symbol(0),
    };
    Port { name: name.into(), element: ty.element.to_string(), dims: ty.dims.iter().map(size).collect() }
}

/// All arguments of a function: `input` where one is no state, zeros for states. Symbols are bound by `input`; those that only states have
/// stand for what they have seen so far, nothing.
fn with_states(function: &Function, input: &Tensor) -> Result<Vec<Tensor>, String> {
    let is_state = |i: usize| function.states.iter().any(|s| s.argument == i);
    let plain = function.arguments().iter().enumerate().find(|(i, _)| !is_state(*i));
    let declared = plain.map(|(_, &v)| function.ty(v).dims.as_slice()).unwrap_or_default();
    let bind = |symbol: &str| match declared.iter().position(|d| d.as_symbol() == Some(symbol)) {
        Some(at) => i64::try_from(*input.dims.get(at)?).ok(),
        None => Some(0),
    };
    let argument = |(i, &v): (usize, &qcc_ir::ValueId)| {
        if !is_state(i) {
            return Ok(input.clone());
        }
        let ty = function.ty(v);
        let dims: Option<Vec<i64>> = ty.dims.iter().map(|d| d.evaluate(&bind)).collect();
        let dims =
            dims.ok_or_else(|| format!("the size of state `{}` is not known", function.value(v).name))?;
        Tensor::zeros(&TensorType::new(dims, ty.element)).map_err(|e| e.to_string())
    };
    function.arguments().iter().enumerate().map(argument).collect()
}

struct Windows(Vec<Vec<u32>>);

impl Samples for Windows {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn inputs(&self, index: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        let window = self.0.get(index).ok_or("no such window")?;
        let ids = window.iter().map(|&id| i64::from(id)).collect();
        with_states(function, &Tensor::i64(&[1, window.len()], ids).map_err(|e| e.to_string())?)
    }
}

struct Images {
    entries: Vec<ImageEntry>,
    input: ImageInput,
    /// How often an image is repeated for a model that takes several at a time.
    copies: usize,
}

impl Samples for Images {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn inputs(&self, index: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        let one = self.input.read(&self.entries[index].path).map_err(|e| e.to_string())?;
        let dims = vision::shape(&self.input, self.copies).map(|d| d as usize);
        let image = Tensor::f32(&dims, one.repeat(self.copies)).map_err(|e| e.to_string())?;
        with_states(function, &image)
    }
}

#[cfg(test)]
mod tests {
    use qcc_ir::{Dim, ElementType, StateBinding};

    use super::*;

    #[test]
    fn states_are_zeros_of_the_batchs_size() {
        let mut function = Function::new("main");
        let tokens = TensorType::new(vec![Dim::symbol("B"), Dim::symbol("T")], ElementType::I64);
        function.add_argument("tokens", tokens);
        let state = TensorType::new(vec![Dim::symbol("B"), Dim::Const(3)], ElementType::F32);
        let value = function.add_argument("h", state);
        function.add_result("h", value);
        function.states = vec![StateBinding { argument: 1, result: 0 }];
        assert_eq!(plain_inputs(&function).len(), 1);
        let windows = TokenWindows::new(vec![5, 6, 7, 8], 2, None).expect("enough");
        assert!(split(&windows, 2).held_out.is_none());
        assert_eq!(split(&windows, 1).held_out.expect("one is left").len(), 1);
        let samples = split(&windows, 2).samples;
        let inputs = samples.inputs(1, &function).expect("it fits");
        assert_eq!(inputs[0].as_i64(), Some(&[7, 8][..]));
        assert_eq!((inputs[1].dims.as_slice(), inputs[1].as_f32()), (&[1, 3][..], Some(&[0.0; 3][..])));
        let keys = TensorType::new(["B", "P"].map(Dim::symbol), ElementType::F32);
        let value = function.add_argument("keys", keys);
        function.add_result("keys", value);
        function.states.push(StateBinding { argument: 2, result: 1 });
        assert_eq!(samples.inputs(1, &function).expect("it fits")[2].dims, [1, 0]);
    }
}
