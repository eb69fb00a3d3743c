//! Small functions for unit tests: built by name, with random weights, and run through a pipeline that must prove itself in f64.

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Dim, ElementType, Float, Function, Module, Op, Str, TensorType, ValueId, ops::ImageLayout};
use qcc_params::{Parameters, Tensor};

use crate::context::Context;
use crate::instrument::Instrumentation;
use crate::pass::{Outcome, PassError};
use crate::pipeline::Pipeline;
use crate::random::Random;
use crate::registry::Registry;

/// A function under construction and its weights.
pub(crate) struct Fixture {
    pub function: Function,
    pub parameters: Parameters,
    random: Random,
}

/// What a pipeline made of a fixture.
pub(crate) struct Transformed {
    pub function: Function,
    pub outcomes: Vec<Outcome>,
}

/// `B, 3, 8` as dimensions.
pub(crate) fn dims(text: &str) -> Vec<Dim> {
    text.split(',').filter(|d| !d.trim().is_empty()).map(|d| Dim::parse(d.trim()).expect("a size")).collect()
}

/// A convolution of `spatial` axes with the same stride and padding everywhere.
pub(crate) fn conv(spatial: usize, stride: i64, pad: i64, groups: i64) -> Op {
    Op::Conv {
        strides: vec![stride; spatial],
        pads: vec![pad; 2 * spatial],
        dilations: vec![1; spatial],
        groups,
        layout: ImageLayout::ChannelsFirst,
    }
}

/// A batch normalisation.
pub(crate) fn batch_norm(epsilon: f64) -> Op {
    Op::BatchNorm { epsilon: Float(epsilon) }
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        Fixture { function: Function::new("main"), parameters: Parameters::new(), random: Random::new(1) }
    }

    pub(crate) fn input(&mut self, name: &str, sizes: &str) -> ValueId {
        self.function.add_argument(name, TensorType::new(dims(sizes), ElementType::F32))
    }

    /// A weight with elements in [−1, 1).
    pub(crate) fn weight(&mut self, name: &str, sizes: &[usize]) -> ValueId {
        let data = (0..sizes.iter().product()).map(|_| self.random.unit()).collect();
        self.tensor(name, Tensor::f32(sizes, data).expect("counts agree"))
    }

    /// A weight with elements in [0.1, 2.1).
    pub(crate) fn positive(&mut self, name: &str, sizes: &[usize]) -> ValueId {
        let data = (0..sizes.iter().product()).map(|_| self.random.unit() + 1.1).collect();
        self.tensor(name, Tensor::f32(sizes, data).expect("counts agree"))
    }

    pub(crate) fn tensor(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let ty = tensor.ty();
        if self.parameters.ty(name).is_none() {
            self.parameters.insert_tensor(name, tensor).expect("new name");
        }
        self.function.add_parameter(name, ty)
    }

    pub(crate) fn op(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let name = format!("{}.{}", op.name(), self.function.node_count());
        self.function.add_one(op, operands.iter().copied(), &name).expect("well-typed")
    }

    /// Batch normalisation of `x`, with random statistics of `channels` channels.
    pub(crate) fn normalized(&mut self, name: &str, x: ValueId, channels: usize) -> ValueId {
        let scale = self.weight(&format!("{name}.scale"), &[channels]);
        let bias = self.weight(&format!("{name}.bias"), &[channels]);
        let mean = self.weight(&format!("{name}.mean"), &[channels]);
        let variance = self.positive(&format!("{name}.variance"), &[channels]);
        self.function.add_one(batch_norm(1e-5), [x, scale, bias, mean, variance], name).expect("well-typed")
    }

    pub(crate) fn result(&mut self, value: ValueId) {
        let name = format!("y{}", self.function.results.len());
        self.function.add_result(&name, value);
    }

    /// Runs a pipeline under `--verify-each` with the interpreter in f64.
    pub(crate) fn try_run(self, pipeline: &str) -> Result<Transformed, PassError> {
        let registry = Registry::builtin();
        let pipeline = Pipeline::parse(pipeline, &registry)?;
        let mut module = Module { functions: vec![self.function] };
        let (evaluator, reference) = (Interpreter::new(Precision::F32), Interpreter::new(Precision::F64));
        let mut context = Context::new(self.parameters, &evaluator);
        context.reference = Some(&reference);
        let mut instrumentation = Instrumentation { verify_each: true, ..Instrumentation::default() };
        let outcomes = pipeline.run(&mut module, &mut context, &mut instrumentation)?;
        Ok(Transformed {
            function: module.functions.remove(0),
            outcomes: outcomes.into_iter().map(|(_, o)| o).collect(),
        })
    }

    pub(crate) fn run(self, pipeline: &str) -> Transformed {
        self.try_run(pipeline).unwrap_or_else(|e| panic!("{e}"))
    }
}

impl Transformed {
    /// The names of the operations in order, without parameters and constants.
    pub(crate) fn ops(&self) -> Vec<&'static str> {
        let names = self.function.order().iter().map(|id| self.function.node(*id).op.name());
        names.filter(|name| !["parameter", "constant"].contains(name)).collect()
    }

    /// The names of the parameters used.
    pub(crate) fn weights(&self) -> Vec<Str> {
        let nodes = self.function.order().iter().map(|id| &self.function.node(*id).op);
        nodes
            .filter_map(|op| if let Op::Parameter { name } = op { Some(name.clone()) } else { None })
            .collect()
    }

    /// A counter of the last pass.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.outcomes.last().and_then(|o| o.statistics.get(name)).copied().unwrap_or(0)
    }
}
