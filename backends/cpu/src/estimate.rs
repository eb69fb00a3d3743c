//! What layers take at least, by their roofline on a described machine: in the form that they have, and in f32. Says where a format does not
//! pay: its codes are expanded at each call, or its products are slower than those of floats.

use std::collections::HashMap;

use qcc_ir::{Dim, ElementType, Function, Node, Op, Str, TensorType, ValueId};
use qcc_passes::transform::Target;

use crate::lower::{KernelForm, kernel_form};

/// What bounds the time of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Its products.
    Arithmetic,
    /// Reading its weights from memory.
    Memory,
    /// Expanding its weights to those of a kernel.
    Decoding,
}

/// A layer's times.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Name of its source.
    pub name: Str,
    /// Type of its weight's elements.
    pub element: ElementType,
    /// Seconds of a token or image.
    pub seconds: f64,
    /// The same in f32.
    pub float_seconds: f64,
    /// What takes the time.
    pub bound: Bound,
}

impl Estimate {
    /// By how much it is slower than in f32; 1 where it is not.
    pub fn slowdown(&self) -> f64 {
        (self.seconds / self.float_seconds.max(f64::MIN_POSITIVE)).max(1.0)
    }
}

/// The quantized layers of a function, in order.
pub fn estimates(function: &Function, target: &Target) -> Vec<Estimate> {
    let uses = function.uses();
    let layers: Vec<Layer<'_>> =
        function.order().iter().filter_map(|id| Layer::of(function, &uses, function.node(*id))).collect();
    let total =
        |bits: &dyn Fn(&Layer<'_>) -> f64| layers.iter().map(|l| bits(l) * l.elements / 8.0).sum::<f64>();
    // What caches hold is read from memory but once.
    let in_memory = total(&|l| l.bits) > target.cached_bytes;
    let floats_in_memory = total(&|_| 32.0) > target.cached_bytes;
    let quantized = layers.iter().filter(|l| l.bits < 32.0);
    quantized.map(|layer| layer.estimate(target, (in_memory, floats_in_memory))).collect()
}

struct Layer<'f> {
    node: &'f Node,
    element: ElementType,
    form: KernelForm,
    /// Elements of the weight, and bits of each.
    elements: f64,
    bits: f64,
    /// How often each is used for a token or image.
    rows: f64,
}

impl<'f> Layer<'f> {
    fn of(
        function: &'f Function,
        uses: &HashMap<ValueId, Vec<(qcc_ir::OpId, usize)>>,
        node: &'f Node,
    ) -> Option<Layer<'f>> {
        let form = kernel_form(function, uses, node)?;
        let weight = function.ty(form.weight);
        let result = function.ty(node.results[0]);
        let outputs = match &node.op {
            Op::Linear {} | Op::QuantizedLinear { .. } => size(result) / result.dims.last().map_or(1.0, dim),
            _ => size(result) / weight.dims.first().map_or(1.0, dim),
        };
        Some(Layer {
            node,
            element: weight.element,
            elements: size(weight),
            bits: f64::from(weight.element.bits()),
            rows: outputs,
            form,
        })
    }

    fn estimate(&self, target: &Target, (in_memory, floats_in_memory): (bool, bool)) -> Estimate {
        let operations = 2.0 * self.elements * self.rows;
        let rate = if self.form.is_integer { target.int8_operations } else { target.float_operations };
        let read = |bits: f64, in_memory: bool| {
            if in_memory { self.elements * bits / 8.0 / target.tokens / target.memory_bytes } else { 0.0 }
        };
        let decoding =
            if self.form.is_expanded { self.elements / target.tokens / target.decoded_elements } else { 0.0 };
        let (arithmetic, memory) = (operations / rate, read(self.bits, in_memory));
        let bound = match () {
            () if memory > arithmetic + decoding => Bound::Memory,
            () if decoding > arithmetic => Bound::Decoding,
            () => Bound::Arithmetic,
        };
        Estimate {
            name: self.node.location.clone(),
            element: self.element,
            seconds: (arithmetic + decoding).max(memory),
            float_seconds: (operations / target.float_operations).max(read(32.0, floats_in_memory)),
            bound,
        }
    }
}

/// Elements of one token or image: symbols count 1.
fn size(ty: &TensorType) -> f64 {
    ty.dims.iter().map(dim).product()
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn dim(d: &Dim) -> f64 {
    d.evaluate(&|_| Some(1)).map_or(f64::from(u32::MAX), |n| n as f64)
}

#[cfg(test)]
mod tests {
    use qcc_interpreter::{Interpreter, Precision};
    use qcc_ir::parse::parse_module;
    use qcc_params::{Parameters, Tensor};
    use qcc_passes::{Context, Instrumentation, Pipeline, Registry};

    use super::*;

    const CONVOLUTION: &str = r#"
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "64", "14", "14"]}], function_type = (tensor<?x64x14x14xf32>) -> tensor<?x64x14x14xf32>, sym_name = "main"}> ({
  ^bb0(%x: tensor<?x64x14x14xf32>):
    %w = "qcc.parameter"() {name = "w"} : () -> tensor<64x64x1x1xf32>
    %y = "qcc.conv"(%x, %w) {dilations = array<i64: 1, 1>, groups = 1 : i64, layout = "channels_first", pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<?x64x14x14xf32>, tensor<64x64x1x1xf32>) -> tensor<?x64x14x14xf32>
    "func.return"(%y) : (tensor<?x64x14x14xf32>) -> ()
  }) : () -> ()
}) : () -> ()
"#;

    fn of(options: &str, target: &Target) -> Vec<Estimate> {
        let mut module = parse_module("test", CONVOLUTION).expect("parses");
        let mut parameters = Parameters::new();
        let weight = (0..64 * 64).map(|i| (i % 17) as f32 - 8.0).collect();
        parameters.insert_tensor("w", Tensor::f32(&[64, 64, 1, 1], weight).expect("fits")).expect("fresh");
        let interpreter = Interpreter::new(Precision::F32);
        let mut context = Context::new(parameters, &interpreter);
        let pipeline = format!("quantize{{{options}}},canonicalize,lower-quantized,canonicalize");
        Pipeline::parse(&pipeline, &Registry::builtin())
            .and_then(|p| p.run(&mut module, &mut context, &mut Instrumentation::default()))
            .expect("it runs");
        estimates(&module.functions[0], target)
    }

    #[test]
    fn integers_pay_and_codes_that_are_expanded_for_each_image_do_not() {
        let target = Target::default();
        let [integer] = &of("weights=int8:channel activations=uint8:asym range=-1..1", &target)[..] else {
            panic!("one layer")
        };
        let operations = 2.0 * 64.0 * 64.0 * 14.0 * 14.0;
        assert_eq!(integer.seconds, operations / target.int8_operations);
        assert_eq!(integer.float_seconds, operations / target.float_operations);
        assert_eq!((integer.bound, integer.slowdown()), (Bound::Arithmetic, 1.0));
        let [expanded] = &of("weights=nf4", &target)[..] else { panic!("one layer") };
        let more = 64.0 * 64.0 / target.decoded_elements;
        assert_eq!(expanded.seconds, expanded.float_seconds + more);
        assert!(expanded.slowdown() > 1.0 && expanded.element.to_string().contains("nf4"), "{expanded:?}");
        // Where weights come from memory, fewer bits are what counts.
        let slow = Target { cached_bytes: 1.0, memory_bytes: 1e6, ..target };
        let [expanded] = &of("weights=nf4", &slow)[..] else { panic!("one layer") };
        assert_eq!((expanded.bound, expanded.slowdown()), (Bound::Memory, 1.0));
    }
}
