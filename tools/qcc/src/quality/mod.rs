//! How well each layer survived quantization: signal-to-noise ratios of its weight, of its output where it alone is quantized, and of its output
//! in the whole quantized model; and how values were distributed before and after.
//!
//! Layers are compared in the quantize–dequantize form, in which they still stand one by one; what they are lowered to gives the same codes.

mod measure;
mod page;

use std::collections::{HashMap, VecDeque};

use qcc_cpu::CpuExecutor;
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Function, Module, Op, OpId};
use qcc_params::{Parameters, Tensor};
use qcc_passes::assign::Requested;
use qcc_passes::context::{Executor, Prepared};
use qcc_passes::{Progress, Samples, cut};

use crate::html_report::Pair;
use crate::layers::Layer;
use measure::{Distribution, Noise};
pub use page::Facts;

/// Samples that outputs are compared on.
const SAMPLES: usize = 2;

/// A model at some point of its compilation.
pub struct Snapshot {
    /// The functions.
    pub module: Module,
    /// The weights.
    pub parameters: Parameters,
}

/// What is known of one layer.
#[derive(Clone, Debug, Default)]
pub struct LayerQuality {
    /// What was asked for this layer alone.
    pub own: Requested,
    /// Signal-to-noise ratio of the weight, in dB.
    pub weight_sqnr_db: Option<f64>,
    /// Of the output, where nothing else is quantized.
    pub output_sqnr_db: Option<f64>,
    /// Of the output in the quantized model.
    pub depth_sqnr_db: Option<f64>,
    /// Of the weight.
    pub weight_histograms: Option<Pair>,
    /// Of the input.
    pub activation_histograms: Option<Pair>,
}

/// Layers by name, in order where several share one.
#[derive(Clone, Debug, Default)]
pub struct Quality(HashMap<String, VecDeque<LayerQuality>>);

impl Quality {
    /// Writes the ratios beside layers.
    pub fn remember(&self, layers: &mut [Layer]) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for layer in layers {
            let at = seen.entry(layer.name.clone()).or_default();
            if let Some(found) = self.0.get(&layer.name).and_then(|all| all.get(*at)) {
                layer.sqnr_db = (found.weight_sqnr_db, found.output_sqnr_db);
            }
            *at += 1;
        }
    }

    /// The next layer of this name.
    pub fn take(&mut self, name: &str) -> Option<LayerQuality> {
        self.0.get_mut(name)?.pop_front()
    }
}

/// Compares the layers of the model right before and right after `quantize`; outputs where there are samples.
///
/// # Errors
/// When a part of a model does not run.
pub fn measure(
    float: &Snapshot,
    quantized: &Snapshot,
    threads: usize,
    samples: Option<&dyn Samples>,
    progress: &dyn Progress,
) -> Result<Quality, String> {
    let (before, after) = (&float.module.functions[0], &quantized.module.functions[0]);
    let layers: Vec<OpId> = before.order().iter().copied().filter(|id| is_layer(before, *id)).collect();
    let mut all = Vec::new();
    for (done, &id) in layers.iter().enumerate() {
        progress.report("comparing weights", done, layers.len());
        let mut quality = LayerQuality { own: Requested::of(after.node(id))?, ..LayerQuality::default() };
        if before.node(id).operands[1] != after.node(id).operands[1] {
            weight(float, quantized, id, &mut quality)?;
        }
        all.push(quality);
    }
    if let Some(samples) = samples.filter(|s| !s.is_empty()) {
        outputs(float, quantized, &layers, &mut all, &CpuExecutor { threads }, samples, progress)?;
    }
    let mut quality = Quality::default();
    for (id, layer) in layers.iter().zip(all) {
        quality.0.entry(before.node(*id).location.to_string()).or_default().push_back(layer);
    }
    Ok(quality)
}

fn is_layer(function: &Function, id: OpId) -> bool {
    let node = function.node(id);
    let on_weight = || node.operands[1].is_some_and(|w| function.parameter_name(w).is_some());
    matches!(node.op, Op::Linear {} | Op::Conv { .. }) && on_weight()
}

fn weight(
    float: &Snapshot,
    quantized: &Snapshot,
    id: OpId,
    quality: &mut LayerQuality,
) -> Result<(), String> {
    let interpreter = Interpreter::new(Precision::F32);
    let function = &float.module.functions[0];
    let name =
        function.node(id).operands[1].and_then(|w| function.parameter_name(w)).ok_or("it has no weight")?;
    let before = float.parameters.evaluate(name, &interpreter).map_err(|e| e.to_string())?.to_f32_vec();
    let after = &quantized.module.functions[0];
    let decoded = after.node(id).operands[1].ok_or("it has no weight")?;
    let alone = cut(after, &[decoded], &[])?;
    let after = interpreter.run(&alone, &quantized.parameters, &[]).map_err(|e| e.to_string())?;
    let after = after.into_iter().next().ok_or("it has no weight")?.to_f32_vec();
    let mut noise = Noise::default();
    noise.see(&before, &after);
    quality.weight_sqnr_db = noise.decibels();
    quality.weight_histograms = Distribution::of(&before).zip(&before, &after);
    Ok(())
}

/// A layer of its own.
struct Alone<'a> {
    run: Box<dyn Prepared + 'a>,
    output: Noise,
    depth: Noise,
    input: Option<Distribution>,
    seen: Option<Pair>,
}

fn outputs(
    float: &Snapshot,
    quantized: &Snapshot,
    layers: &[OpId],
    all: &mut [LayerQuality],
    executor: &CpuExecutor,
    samples: &dyn Samples,
    progress: &dyn Progress,
) -> Result<(), String> {
    let (before, after) = (&float.module.functions[0], &quantized.module.functions[0]);
    let mut alone = Vec::new();
    for (done, &id) in layers.iter().enumerate() {
        progress.report("preparing layers", done, layers.len());
        let x = before.node(id).operands[0].ok_or("a layer has no input")?;
        let node = after.node(id);
        let read = node.operands[0].ok_or("a layer has no input")?;
        let function = cut(after, &[node.results[0], read], &[x])?;
        let module = Module { functions: vec![function] };
        let run = executor.prepare(&module, &quantized.parameters)?;
        alone.push(Alone { run, output: Noise::default(), depth: Noise::default(), input: None, seen: None });
    }
    let ends =
        |function: &Function| layers.iter().map(|id| function.node(*id).results[0]).collect::<Vec<_>>();
    let mut taps = ends(before);
    taps.extend(layers.iter().filter_map(|id| before.node(*id).operands[0]));
    let float_taps = tapped(&float.module, &taps);
    let quantized_taps = tapped(&quantized.module, &ends(after));
    let mut float_run = executor.prepare(&float_taps, &float.parameters)?;
    let mut quantized_run = executor.prepare(&quantized_taps, &quantized.parameters)?;
    let count = samples.len().min(SAMPLES);
    for i in 0..count {
        progress.report("comparing layers", i, count);
        let inputs = samples.inputs(i, before)?;
        let expected = float_run.run(&inputs)?;
        let got = quantized_run.run(&inputs)?;
        let (expected, read) = expected[before.results.len()..].split_at(layers.len());
        for (at, layer) in alone.iter_mut().enumerate() {
            layer.see(&expected[at], &read[at], &got[after.results.len() + at])?;
        }
    }
    for ((quality, layer), id) in all.iter_mut().zip(alone).zip(layers) {
        let quantized = before.node(*id).operands[..2] != after.node(*id).operands[..2];
        quality.output_sqnr_db = layer.output.decibels().filter(|_| quantized);
        quality.depth_sqnr_db = layer.depth.decibels();
        quality.activation_histograms = layer.seen;
    }
    Ok(())
}

impl Alone<'_> {
    fn see(&mut self, expected: &Tensor, x: &Tensor, in_model: &Tensor) -> Result<(), String> {
        let got = self.run.run(std::slice::from_ref(x))?;
        let [y, read] = got.as_slice() else {
            return Err("a layer alone has another number of results".into());
        };
        let floats = |tensor: &Tensor| tensor.to_f32_vec();
        self.output.see(&floats(expected), &floats(y));
        self.depth.see(&floats(expected), &floats(in_model));
        let (x, read) = (floats(x), floats(read));
        let distribution = self.input.get_or_insert_with(|| Distribution::of(&x));
        // The last sample stands for all.
        self.seen = distribution.zip(&x, &read);
        Ok(())
    }
}

/// A copy of the module whose entry function also returns these values.
fn tapped(module: &Module, values: &[qcc_ir::ValueId]) -> Module {
    let mut tapped = module.clone();
    for (i, &value) in values.iter().enumerate() {
        tapped.functions[0].add_result(&format!("tap.{i}"), value);
    }
    tapped
}
