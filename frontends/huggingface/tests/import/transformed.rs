//! Imported models, transformed and compared with what they were; and the same models under other names.

use std::collections::HashMap;

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Dim, ElementType, Function, Module, Op, OpId, Str, ValueId};
use qcc_params::{Imported, Parameters, Tensor};
use qcc_passes::transform::Explanation;
use qcc_passes::verify_each::relative_error;
use qcc_passes::{Context, Executor, Instrumentation, Pipeline, Registry, Samples};

const BATCH: i64 = 2;
const TIME: i64 = 6;
/// What states that grow hold already.
const PAST: i64 = 3;

/// Seeded random inputs; the first half of them at the start of a sequence, where states are zero.
struct Inputs;

impl Samples for Inputs {
    fn len(&self) -> usize {
        2
    }

    fn inputs(&self, index: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        let mut random = Random(index as u64 + 1);
        let started = index >= self.len() / 2;
        let input = |&argument: &ValueId| {
            let ty = function.ty(argument);
            let sizes: Vec<usize> = ty.dims.iter().map(size).collect();
            let n = sizes.iter().product();
            let tensor = match ty.element {
                ElementType::I64 => Tensor::i64(&sizes, (0..n).map(|_| random.below(12) as i64).collect()),
                _ if started => Tensor::f32(&sizes, (0..n).map(|_| random.unit()).collect()),
                _ => Tensor::f32(&sizes, vec![0.0; n]),
            };
            tensor.map_err(|e| e.to_string())
        };
        function.arguments().iter().map(input).collect()
    }
}

fn size(dim: &Dim) -> usize {
    let size = |symbol: &str| match symbol {
        "B" => Some(BATCH),
        "T" => Some(TIME),
        "P" => Some(PAST),
        _ => None,
    };
    dim.evaluate(&size).and_then(|n| usize::try_from(n).ok()).expect("no other symbols")
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
}

/// A model after a pipeline.
pub struct Transformed {
    pub module: Module,
    parameters: Parameters,
    explanations: Vec<Explanation>,
    pipeline: String,
}

impl Transformed {
    /// Runs these passes.
    pub fn by(imported: &Imported, passes: &str) -> Transformed {
        let pipeline = format!("canonicalize,{passes},canonicalize");
        let (fast, reference) = (Interpreter::new(Precision::F32), Interpreter::new(Precision::F64));
        let mut context = Context::new(imported.parameters.clone(), &fast);
        context.executor = Some(&fast);
        context.reference = Some(&reference);
        context.samples = Some(&Inputs);
        let mut module = imported.module.clone();
        let mut instrumentation = Instrumentation { verify_each: true, ..Instrumentation::default() };
        let passes = Pipeline::parse(&pipeline, &Registry::builtin()).expect("it parses");
        passes
            .run(&mut module, &mut context, &mut instrumentation)
            .unwrap_or_else(|e| panic!("{pipeline}: {e}"));
        let Context { parameters, explanations, .. } = context;
        Transformed { module, parameters, explanations, pipeline }
    }

    /// That every output is what it was: to 1e-9 in f64, to this in f32.
    pub fn assert_keeps(&self, imported: &Imported, in_f32: f64) {
        for (precision, tolerance) in [(Precision::F64, 1e-9), (Precision::F32, in_f32)] {
            let executor = Interpreter::new(precision);
            let before = executor.prepare(&imported.module, &imported.parameters);
            let after = executor.prepare(&self.module, &self.parameters);
            let (mut before, mut after) = (before.expect("it runs"), after.expect("it runs"));
            let function = imported.module.entry().expect("it has an entry");
            for sample in 0..Inputs.len() {
                let inputs = Inputs.inputs(sample, function).expect("inputs");
                let (a, b) = (after.run(&inputs).expect("it runs"), before.run(&inputs).expect("it runs"));
                for ((a, b), name) in a.iter().zip(&b).zip(&function.result_names) {
                    let error = relative_error(a, b);
                    let Transformed { pipeline, .. } = self;
                    assert!(error <= tolerance, "{pipeline}: {precision:?} {sample} {name}: {error:e}");
                }
            }
        }
    }

    /// What was done to each layer by the last pass, and its error before and after.
    pub fn choices(&self) -> Vec<(&str, Option<f64>, Option<f64>)> {
        let layers = self.explanations.last().into_iter().flat_map(|e| &e.layers);
        layers.map(|l| (l.chosen.as_str(), l.before, l.after)).collect()
    }

    /// What was done to a layer.
    pub fn chosen(&self, layer: &str) -> String {
        let mut layers = self.explanations.iter().rev().flat_map(|e| &e.layers);
        let layer = layers.find(|l| l.layer == layer).unwrap_or_else(|| panic!("no layer {layer}"));
        layer.chosen.clone()
    }

    /// Why a layer is not transformed.
    pub fn refused(&self, site: &str) -> Vec<String> {
        let refused = self.explanations.iter().flat_map(|e| &e.refused);
        refused.filter(|r| r.site() == site).map(|r| r.reason.clone()).collect()
    }
}

/// The same model with random names everywhere.
pub fn renamed(imported: &Imported, seed: u64) -> Imported {
    let mut random = Random(seed);
    let mut name = || -> Str { format!("{:016x}", random.bits()).into() };
    let evaluator = Interpreter::new(Precision::F32);
    let mut module = imported.module.clone();
    let mut parameters = Parameters::new();
    let mut names: HashMap<Str, Str> = HashMap::new();
    let function = &mut module.functions[0];
    for result in &mut function.result_names {
        *result = name();
    }
    for value in (0..function.value_count()).map(ValueId::new) {
        function.set_value_name(value, &name());
    }
    for id in (0..function.node_count()).map(OpId::new) {
        let node = function.node_mut(id);
        node.location = name();
        if let Op::Parameter { name: key } = &mut node.op {
            let new = names.entry(key.clone()).or_insert_with(&mut name).clone();
            if parameters.ty(&new).is_none() {
                let tensor = imported.parameters.evaluate(key, &evaluator).expect("a weight");
                parameters.insert_tensor(&new, Tensor::clone(&tensor)).expect("a new name");
            }
            *key = new;
        }
    }
    Imported { module, parameters, files: Vec::new(), warnings: Vec::new() }
}

/// The text of a module with a number for each weight and without other names.
pub fn spelled(module: &Module) -> String {
    let text = qcc_ir::print::print_module(module, qcc_ir::print::Options { locations: false });
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut parts = text.split("name = \"");
    let mut spelled = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let (name, rest) = part.split_once('"').expect("a name ends");
        let next = numbers.len();
        let weight = !spelled.ends_with("qcc.");
        let number = if weight { *numbers.entry(name.to_string()).or_insert(next) } else { 0 };
        spelled.push_str(&format!("name = {number}{rest}"));
    }
    spelled
}
