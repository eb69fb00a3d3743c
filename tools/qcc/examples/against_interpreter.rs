//! Compiled code against the interpreter, end to end: the perplexity of a quantized language model, or the answers of a quantized
//! classifier, from both.
//!
//! `cargo run --release -p qcc --example against_interpreter -- MODEL PIPELINE DATA COUNT [PREPROCESS]`
//!
//! `MODEL` is a checkpoint and `DATA` a text, of which `COUNT` windows of 256 tokens are read; or an `.onnx` file and a folder of images
//! with `labels.txt` beside it, of which 64 calibrate and `COUNT`, spread evenly, are classified. The interpreter takes seconds each.

use std::path::Path;

use qcc_cpu::CpuExecutor;
use qcc_data::{ImageEntry, ImageInput, Layout, Preprocess, TokenWindows, Tokenizer, images};
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::Function;
use qcc_params::{Imported, Tensor};
use qcc_passes::{Context, Executor, Instrumentation, Pipeline, Registry, Samples};
use rayon::prelude::*;

type Outcome<T> = Result<T, String>;

fn say(e: impl std::fmt::Display) -> String {
    e.to_string()
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, pipeline, data, count, rest @ ..] = args.as_slice() else {
        return Err("usage: against_interpreter MODEL PIPELINE DATA COUNT [PREPROCESS]".into());
    };
    let (model, data) = (Path::new(model), Path::new(data));
    let count: usize = count.parse().map_err(say)?;
    if model.is_dir() {
        let tokenizer = Tokenizer::from_file(model.join("tokenizer.json")).map_err(say)?;
        let windows = TokenWindows::from_text(data, &tokenizer, 256, Some(count)).map_err(say)?;
        let module = passed(qcc_huggingface::import(model).map_err(say)?, pipeline, None)?;
        return perplexity(&module, &windows);
    }
    let preprocess =
        Preprocess::from_name_or_file(rest.first().map_or("imagenet", String::as_str)).map_err(say)?;
    let imported = qcc_onnx::import(model).map_err(say)?;
    let function = imported.module.entry().ok_or("no function")?;
    let dims = &function.ty(function.arguments()[0]).dims;
    let size = |i: usize| dims.get(i).and_then(qcc_ir::Dim::constant).unwrap_or(0) as u32;
    let layout = if size(1) == 3 { Layout::Chw } else { Layout::Hwc };
    let (height, width) = if layout == Layout::Chw { (size(2), size(3)) } else { (size(1), size(2)) };
    let input = ImageInput { width, height, layout, preprocess };
    let labelled = images::labelled(data, &data.with_file_name("labels.txt")).map_err(say)?;
    let calibration = Images { entries: images::every_nth(&labelled, 64), input };
    let module = passed(imported, pipeline, Some(&calibration))?;
    classify(&module, &Images { entries: images::every_nth(&labelled, count), input })
}

/// A model after a pipeline.
fn passed(mut imported: Imported, pipeline: &str, samples: Option<&dyn Samples>) -> Outcome<Imported> {
    let interpreter = Interpreter::new(Precision::F32);
    let executor = CpuExecutor { threads: 0 };
    let mut context = Context::new(std::mem::take(&mut imported.parameters), &interpreter);
    context.executor = Some(&executor);
    context.samples = samples;
    Pipeline::parse(pipeline, &Registry::builtin())
        .and_then(|p| p.run(&mut imported.module, &mut context, &mut Instrumentation::default()))
        .map_err(say)?;
    imported.parameters = context.parameters;
    Ok(imported)
}

/// The first result for each input, from an executor.
fn results(model: &Imported, executor: &dyn Executor, inputs: &[Vec<Tensor>]) -> Outcome<Vec<Tensor>> {
    let mut prepared = executor.prepare(&model.module, &model.parameters)?;
    inputs.iter().map(|inputs| Ok(prepared.run(inputs)?.swap_remove(0))).collect()
}

/// Results of compiled code and of the interpreter.
fn both(model: &Imported, inputs: &[Vec<Tensor>]) -> Outcome<[Vec<Tensor>; 2]> {
    let compiled = results(model, &CpuExecutor { threads: 0 }, inputs)?;
    let each = inputs.len().div_ceil(rayon::current_num_threads()).max(1);
    let interpreted: Outcome<Vec<Vec<Tensor>>> = inputs
        .par_chunks(each)
        .map(|inputs| results(model, &Interpreter::new(Precision::F32), inputs))
        .collect();
    Ok([compiled, interpreted?.concat()])
}

fn perplexity(model: &Imported, windows: &TokenWindows) -> Outcome<()> {
    let function = model.module.entry().ok_or("no function")?;
    let windows: Vec<Vec<i64>> =
        windows.iter().map(|w| w.iter().map(|&id| i64::from(id)).collect()).collect();
    let inputs = windows.iter().map(|window| {
        let tokens = Tensor::i64(&[1, window.len()], window.clone()).map_err(say)?;
        std::iter::once(Ok(tokens)).chain(states(function)).collect()
    });
    let inputs = inputs.collect::<Outcome<Vec<Vec<Tensor>>>>()?;
    let [compiled, interpreted] = both(model, &inputs)?.map(|logits| {
        let losses = logits.iter().zip(&windows).map(|(logits, window)| loss(logits, window));
        (losses.sum::<f64>() / windows.len() as f64).exp()
    });
    let difference = 100.0 * (compiled / interpreted - 1.0);
    println!("perplexity compiled {compiled:.6} interpreted {interpreted:.6} difference {difference:+.4} %");
    Ok(())
}

/// Zeros for the states of one sequence.
fn states(function: &Function) -> impl Iterator<Item = Outcome<Tensor>> + '_ {
    function.states.iter().map(|state| {
        let ty = function.ty(function.arguments()[state.argument]);
        let dims: Option<Vec<i64>> =
            ty.dims.iter().map(|d| d.evaluate(&|symbol| Some(i64::from(symbol == "B")))).collect();
        let dims = dims.ok_or("a state of unknown size")?;
        Tensor::zeros(&qcc_ir::TensorType::new(dims, ty.element)).map_err(say)
    })
}

/// Mean negative log-likelihood of each next token.
fn loss(logits: &Tensor, tokens: &[i64]) -> f64 {
    let width = logits.dims.last().copied().unwrap_or(1);
    let logits = logits.to_f32_vec();
    let each = logits.chunks_exact(width).zip(&tokens[1..]).map(|(row, &next)| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
        sum.ln() - f64::from(row[next as usize] - most)
    });
    each.sum::<f64>() / (tokens.len() - 1) as f64
}

struct Images {
    entries: Vec<ImageEntry>,
    input: ImageInput,
}

impl Samples for Images {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn inputs(&self, index: usize, function: &Function) -> Outcome<Vec<Tensor>> {
        let mut dims: Vec<usize> = Vec::new();
        for d in &function.ty(function.arguments()[0]).dims {
            dims.push(d.constant().unwrap_or(1) as usize);
        }
        let image = self.input.read(&self.entries[index].path).map_err(say)?;
        Ok(vec![Tensor::f32(&dims, image).map_err(say)?])
    }
}

fn classify(model: &Imported, images: &Images) -> Outcome<()> {
    let function = model.module.entry().ok_or("no function")?;
    let inputs = (0..images.len()).map(|i| images.inputs(i, function)).collect::<Outcome<Vec<_>>>()?;
    let [compiled, interpreted] = both(model, &inputs)?.map(|scores| {
        let best = |scores: Tensor| {
            let scores = scores.to_f32_vec();
            (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
        };
        scores.into_iter().map(best).collect::<Vec<_>>()
    });
    let top1 = |best: &[Option<usize>], offset: usize| {
        let right = images
            .entries
            .iter()
            .zip(best)
            .filter(|(entry, best)| entry.class.map(|c| c as usize + offset) == **best);
        100.0 * right.count() as f64 / best.len() as f64
    };
    let agreement = compiled.iter().zip(&interpreted).filter(|(a, b)| a == b).count();
    // Models with a background class count from 1.
    let offset = usize::from(top1(&interpreted, 1) > top1(&interpreted, 0));
    println!(
        "top-1 compiled {:.2} % interpreted {:.2} %, {agreement} of {} answers agree",
        top1(&compiled, offset),
        top1(&interpreted, offset),
        images.len()
    );
    Ok(())
}
