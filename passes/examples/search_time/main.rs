//! How the search for transforms grows with depth: time to saturate the e-graphs and to extract all plans among which `transform` chooses,
//! for LLaMA- and Mamba-shaped models of small width with random weights.
//!
//! `cargo run --release -p qcc-passes --example search_time [FILE.svg]`
//!
//! Prints a table; draws it too where a file is given.

mod models;
mod plot;

use std::error::Error;

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Function, Module};
use qcc_params::Tensor;
use qcc_passes::{Context, Instrumentation, Pipeline, Registry, Samples};

use models::{Model, llama, mamba};

/// Runs of each, of which the fastest counts.
const RUNS: usize = 3;
const PIPELINE: &str =
    "canonicalize,split-projections,canonicalize,transform{weights=int4:block=32 activations=int8:tensor}";

/// One sequence of tokens.
struct OneSequence;

impl Samples for OneSequence {
    fn len(&self) -> usize {
        1
    }

    fn inputs(&self, _: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        qcc_passes::verify_each::random_inputs(function)
    }
}

/// What a search took.
struct Cost {
    operations: usize,
    shapes: usize,
    nodes: usize,
    iterations: usize,
    saturation: f64,
    search: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut lines = Vec::new();
    println!(
        "{:<8} {:>6} {:>10} {:>8} {:>8} {:>10} {:>12} {:>8}",
        "model", "layers", "operations", "e-graphs", "e-nodes", "iterations", "saturate, s", "all, s"
    );
    for (name, build, depths) in [
        ("LLaMA", llama as fn(usize) -> Result<Model, String>, &[8, 16, 32, 48, 64, 80]),
        ("Mamba", mamba, &[8, 16, 24, 32, 48, 64]),
    ] {
        let mut points = Vec::new();
        for &layers in depths {
            let mut best: Option<Cost> = None;
            for _ in 0..RUNS {
                let cost = search(build(layers)?)?;
                if best.as_ref().is_none_or(|b| cost.search < b.search) {
                    best = Some(cost);
                }
            }
            let cost = best.ok_or("nothing was run")?;
            let Cost { operations, shapes, nodes, iterations, saturation, search } = cost;
            println!(
                "{name:<8} {layers:>6} {operations:>10} {shapes:>8} {nodes:>8} {iterations:>10} {saturation:>12.3} {search:>8.3}"
            );
            points.push((layers, search));
        }
        lines.push((name, points));
    }
    if let Some(file) = std::env::args().nth(1) {
        plot::draw(file.as_ref(), &lines)?;
    }
    Ok(())
}

fn search(model: Model) -> Result<Cost, Box<dyn Error>> {
    let interpreter = Interpreter::new(Precision::F32);
    let mut module = Module { functions: vec![model.function] };
    let mut context = Context::new(model.parameters, &interpreter);
    context.executor = Some(&interpreter);
    context.samples = Some(&OneSequence);
    let operations = module.functions[0].order().len();
    let pipeline = Pipeline::parse(PIPELINE, &Registry::builtin())?;
    pipeline.run(&mut module, &mut context, &mut Instrumentation::default())?;
    let told = context.explanations.pop().ok_or("`transform` did not run")?;
    if told.trade_offs.iter().all(|t| t.layers == 0) {
        return Err("no plan transforms anything: the model does not show what a search costs".into());
    }
    Ok(Cost {
        operations,
        shapes: told.saturations.len(),
        nodes: told.saturations.iter().map(|s| s.nodes).sum(),
        iterations: told.saturations.iter().map(|s| s.iterations).max().unwrap_or(0),
        saturation: told.saturations.iter().map(|s| s.time.as_secs_f64()).sum(),
        search: told.search.as_secs_f64(),
    })
}
