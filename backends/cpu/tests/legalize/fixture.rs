//! Small functions, run through the backend's pipeline with each pass compared in f64, then lowered for a machine without any feature.

use qcc_cpu::kernels::TargetCaps;
use qcc_cpu::lower::lower;
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Dim, ElementType, Function, Module, Op, TensorType, ValueId, ops::ImageLayout};
use qcc_params::{Parameters, Tensor};
use qcc_passes::{Context, Instrumentation, Pipeline, Registry};

/// The backend's pipeline, without the decoding of weights.
const PIPELINE: &str = "canonicalize,legalize,canonicalize,channels-last,legalize,canonicalize";

/// A function under construction and its weights.
pub struct Fixture {
    pub function: Function,
    pub parameters: Parameters,
    state: u64,
}

/// `B, 3, 8` as sizes.
pub fn dims(text: &str) -> Vec<Dim> {
    text.split(',').filter(|d| !d.trim().is_empty()).map(|d| Dim::parse(d.trim()).expect("a size")).collect()
}

/// A convolution with the same stride and padding along all axes.
pub fn conv(spatial: usize, stride: i64, pad: i64, groups: i64, layout: ImageLayout) -> Op {
    Op::Conv {
        strides: vec![stride; spatial],
        pads: vec![pad; 2 * spatial],
        dilations: vec![1; spatial],
        groups,
        layout,
    }
}

impl Fixture {
    pub fn new() -> Fixture {
        Fixture { function: Function::new("main"), parameters: Parameters::new(), state: 1 }
    }

    pub fn input(&mut self, name: &str, sizes: &str) -> ValueId {
        self.typed_input(name, sizes, ElementType::F32)
    }

    pub fn typed_input(&mut self, name: &str, sizes: &str, element: ElementType) -> ValueId {
        self.function.add_argument(name, TensorType::new(dims(sizes), element))
    }

    /// Uniform in [−1, 1) (an LCG; quality does not matter).
    pub fn unit(&mut self) -> f32 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// A weight with elements in [−1, 1).
    pub fn weight(&mut self, name: &str, sizes: &[usize]) -> ValueId {
        let data = (0..sizes.iter().product()).map(|_| self.unit()).collect();
        self.tensor(name, Tensor::f32(sizes, data).expect("counts agree"))
    }

    /// A weight with elements in [0.1, 2.1).
    pub fn positive(&mut self, name: &str, sizes: &[usize]) -> ValueId {
        let data = (0..sizes.iter().product()).map(|_| self.unit() + 1.1).collect();
        self.tensor(name, Tensor::f32(sizes, data).expect("counts agree"))
    }

    pub fn tensor(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let ty = tensor.ty();
        self.parameters.insert_tensor(name, tensor).expect("new name");
        self.function.add_parameter(name, ty)
    }

    pub fn op(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let name = format!("{}.{}", op.name(), self.function.node_count());
        self.function.add_one(op, operands.iter().copied(), &name).expect("well-typed")
    }

    pub fn result(&mut self, value: ValueId) {
        let name = format!("y{}", self.function.results.len());
        self.function.add_result(&name, value);
    }

    /// Legalizes with proofs and lowers; the names of the operations left, or the first error.
    pub fn try_lower(self) -> Result<Vec<&'static str>, String> {
        self.legalized(true)
    }

    /// As [`Fixture::try_lower`], without running anything: for functions that are too large to run.
    pub fn lowered_without_proof(self) -> Result<Vec<&'static str>, String> {
        self.legalized(false)
    }

    fn legalized(self, verify_each: bool) -> Result<Vec<&'static str>, String> {
        let mut registry = Registry::builtin();
        registry.register(qcc_cpu::legalize::INFO).expect("new name");
        let pipeline = Pipeline::parse(PIPELINE, &registry).expect("parses");
        let mut module = Module { functions: vec![self.function] };
        let (evaluator, reference) = (Interpreter::new(Precision::F32), Interpreter::new(Precision::F64));
        let mut context = Context::new(self.parameters, &evaluator);
        context.reference = Some(&reference);
        let mut instrumentation = Instrumentation { verify_each, ..Instrumentation::default() };
        pipeline.run(&mut module, &mut context, &mut instrumentation).map_err(|e| e.to_string())?;
        let function = &module.functions[0];
        lower([function], &TargetCaps::default(), Vec::new()).map_err(|e| e.to_string())?;
        let names = function.order().iter().map(|id| function.node(*id).op.name());
        Ok(names.filter(|name| !["parameter", "constant"].contains(name)).collect())
    }

    /// As [`Fixture::try_lower`], which must succeed.
    pub fn lower(self) -> Vec<&'static str> {
        self.try_lower().unwrap_or_else(|e| panic!("{e}"))
    }
}
