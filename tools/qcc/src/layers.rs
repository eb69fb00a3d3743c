//! The layers of a module: operations on a weight, with the formats their numbers have and the bytes they take.

use std::collections::{BTreeMap, HashSet};

use qcc_ir::{ElementType, Function, Module, Op, Str, ValueId};
use qcc_passes::decompose::Branch;
use serde_json::{Value, json};

/// What elements of parameters take.
#[derive(Clone, Debug, Default)]
pub struct Sizes(BTreeMap<Str, u32>);

impl Sizes {
    /// What their types say: nothing is compiled yet.
    pub fn of_types() -> Sizes {
        Sizes::default()
    }

    /// What they take in the compiled form of a module, whose kernels may want wider codes or floats.
    pub fn compiled(module: &Module) -> Sizes {
        Sizes(module.entry().map(qcc_cpu::stored_bits).unwrap_or_default())
    }

    fn bits(&self, name: &str, element: ElementType) -> u64 {
        u64::from(self.0.get(name).copied().unwrap_or_else(|| element.bits()))
    }
}

/// An operation on a weight of at least two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Name of its source.
    pub name: String,
    /// The operation.
    pub op: &'static str,
    /// What it is in the sum that a layer was decomposed into.
    pub branch: Option<Branch>,
    /// The weight's shape.
    pub shape: Vec<i64>,
    /// The weight's format.
    pub weight_format: String,
    /// The format of what it is applied to.
    pub activation_format: String,
    /// Bytes of weight, scales and zero points.
    pub bytes: u64,
    /// The parameter that holds the weight.
    parameter: String,
    /// Elements of the weight.
    elements: u64,
    /// Bits of weight, scales and zero points.
    bits: u64,
    quantized: bool,
    /// Signal-to-noise ratios of the weight and of the output of this layer alone, in dB, where they were measured.
    pub sqnr_db: (Option<f64>, Option<f64>),
}

impl Layer {
    /// As JSON.
    pub fn describe(&self) -> Value {
        let mut layer = json!({
            "name": self.name, "op": self.op, "shape": self.shape, "weight_format": self.weight_format,
            "activation_format": self.activation_format, "bytes": self.bytes,
        });
        if let Some(branch) = self.branch {
            layer["branch"] = json!(branch.keyword());
        }
        for (key, value) in [("weight_sqnr_db", self.sqnr_db.0), ("sqnr_db", self.sqnr_db.1)] {
            // JSON has no infinity: what lost nothing has no ratio.
            if let Some(value) = value.filter(|v| v.is_finite()) {
                layer[key] = json!((value * 100.0).round() / 100.0);
            }
        }
        layer
    }

    /// Bits of an element with its scales.
    pub fn bits_per_weight(&self) -> Option<f64> {
        (self.elements > 0).then(|| self.bits as f64 / self.elements as f64)
    }

    /// Whether its elements count: those of a decomposed layer count once, in one branch.
    fn counts(&self) -> bool {
        self.branch.is_none_or(Branch::is_first)
    }
}

/// Sums over all parameters, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Elements, scales and zero points excluded, of branches of a layer only those that stand for it.
    pub parameters: u64,
    /// Bytes as stored, packed.
    pub bytes: u64,
    /// Bits of an element with its scales and all branches of its layer, over quantized weights; over all layers where none is.
    pub bits_per_weight: Option<f64>,
}

/// The layers of a module's entry function, in order.
pub fn layers(module: &Module, sizes: &Sizes) -> Vec<Layer> {
    let Some(function) = module.entry() else { return Vec::new() };
    function.order().iter().filter_map(|&id| layer(function, id, sizes)).collect()
}

fn layer(function: &Function, id: qcc_ir::OpId, sizes: &Sizes) -> Option<Layer> {
    let node = function.node(id);
    if is_coding(&node.op) {
        return None;
    }
    let named = |wanted: &str| {
        let slot = node.op.spec().operands.iter().position(|(name, _)| *name == wanted)?;
        node.operands.get(slot).copied().flatten()
    };
    let stored = node.operands.iter().flatten().filter_map(|&v| stored(function, v, sizes));
    let weight = stored.max_by_key(|s| (s.shape.len(), s.elements)).filter(|s| s.shape.len() >= 2)?;
    // Operations on codes hold the scales themselves.
    let scales = named("weight_scale").or_else(|| named("table_scale"));
    let scales = scales.map_or(0, |v| parameter_bits(function, v, sizes));
    let bits = weight.bits + scales;
    let activation = named("x").or_else(|| named("a"));
    let dynamic = named("x_scale").is_some_and(|v| is_dynamic(function, v));
    Some(Layer {
        name: node.location.to_string(),
        op: node.op.name(),
        branch: Branch::of(node),
        shape: weight.shape,
        weight_format: format(weight.element, false),
        activation_format: activation.map_or_else(String::new, |v| activation_format(function, v, dynamic)),
        bytes: bits.div_ceil(8),
        parameter: weight.name,
        elements: weight.elements,
        bits,
        quantized: weight.element != ElementType::F32,
        sqnr_db: (None, None),
    })
}

/// Operations that only change how numbers are coded.
fn is_coding(op: &Op) -> bool {
    matches!(op, Op::Quantize { .. } | Op::DynamicQuantize { .. } | Op::Dequantize {} | Op::Cast { .. })
}

/// A weight as it lies in the parameters.
struct Stored {
    name: String,
    shape: Vec<i64>,
    element: ElementType,
    elements: u64,
    bits: u64,
}

/// The weight behind a value: a parameter, perhaps dequantized.
fn stored(function: &Function, value: ValueId, sizes: &Sizes) -> Option<Stored> {
    if let Some(name) = function.parameter_name(value) {
        let ty = function.ty(value);
        let shape = ty.constant_dims()?;
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?))?;
        let bits = elements.checked_mul(sizes.bits(name, ty.element))?;
        return Some(Stored { name: name.to_string(), shape, element: ty.element, elements, bits });
    }
    let (_, node) = function.defining(value)?;
    if let Op::Cast { to: ElementType::F32 } = node.op {
        // Narrower floats; other conversions make another weight.
        let narrow = |s: &Stored| matches!(s.element, ElementType::F16 | ElementType::BF16);
        return stored(function, node.operands[0]?, sizes).filter(narrow);
    }
    let Op::Dequantize {} = node.op else { return None };
    let mut codes = stored(function, node.operands[0]?, sizes)?;
    codes.bits +=
        node.operands[1..].iter().flatten().map(|&v| parameter_bits(function, v, sizes)).sum::<u64>();
    Some(codes)
}

fn parameter_bits(function: &Function, value: ValueId, sizes: &Sizes) -> u64 {
    stored(function, value, sizes).map_or(0, |s| s.bits)
}

fn is_dynamic(function: &Function, scale: ValueId) -> bool {
    function.defining(scale).is_some_and(|(_, node)| matches!(node.op, Op::DynamicQuantize { .. }))
}

fn activation_format(function: &Function, value: ValueId, dynamic: bool) -> String {
    match function.defining(value) {
        Some((_, node)) if matches!(node.op, Op::Dequantize {}) => {
            let dynamic = node.operands[1].is_some_and(|scale| is_dynamic(function, scale));
            node.operands[0].map_or_else(String::new, |codes| format(function.ty(codes).element, dynamic))
        }
        Some((_, node)) if matches!(node.op, Op::Cast { to: ElementType::F32 }) => {
            // Narrowed and widened again.
            let narrow = node.operands[0].map(|x| function.ty(x).element);
            let rounded = narrow.filter(|e| matches!(e, ElementType::F16 | ElementType::BF16));
            format(rounded.unwrap_or(ElementType::F32), dynamic)
        }
        _ => format(function.ty(value).element, dynamic),
    }
}

/// An element type in the grammar of formats.
pub fn format(element: ElementType, dynamic: bool) -> String {
    match element.quantized() {
        Some(q) => qcc_ir::format::spelled(q, dynamic),
        None => element.to_string(),
    }
}

/// Sums over a module and its layers.
pub fn totals(module: &Module, layers: &[Layer], sizes: &Sizes) -> Totals {
    // Whether each parameter is a scale or zero point, with its elements and bits.
    let mut parameters: BTreeMap<String, (bool, u64, u64)> = BTreeMap::new();
    for function in &module.functions {
        let uses = function.uses();
        for &id in function.order() {
            let node = function.node(id);
            let Op::Parameter { .. } = node.op else { continue };
            let Some(stored) = stored(function, node.results[0], sizes) else { continue };
            let users = uses.get(&node.results[0]).map(Vec::as_slice).unwrap_or_default();
            let scale = !users.is_empty()
                && users.iter().all(|(user, slot)| is_scale(&function.node(*user).op, *slot));
            parameters.insert(stored.name, (scale, stored.elements, stored.bits));
        }
    }
    let beside: HashSet<&str> = layers.iter().filter(|l| !l.counts()).map(|l| l.parameter.as_str()).collect();
    let counted = parameters.iter().filter(|(name, (scale, ..))| !scale && !beside.contains(name.as_str()));
    let elements = counted.map(|(_, (_, elements, _))| elements).sum();
    let bytes = parameters.values().map(|(.., bits)| bits.div_ceil(8)).sum();
    let any = layers.iter().any(|l| l.quantized);
    let weights: BTreeMap<&str, &Layer> = layers
        .iter()
        .filter(|l| l.quantized == any || !l.counts())
        .map(|l| (l.parameter.as_str(), l))
        .collect();
    let bits: u64 = weights.values().map(|l| l.bits).sum();
    let of: u64 = weights.values().filter(|l| l.counts()).map(|l| l.elements).sum();
    let bits_per_weight = (of > 0).then(|| bits as f64 / of as f64);
    Totals { parameters: elements, bytes, bits_per_weight }
}

/// Whether an operand of an operation holds scales or zero points of codes.
fn is_scale(op: &Op, slot: usize) -> bool {
    let coded = is_coding(op)
        || matches!(op, Op::QuantizedLinear { .. } | Op::QuantizedConv { .. } | Op::Embedding {});
    let name = op.spec().operands.get(slot).map_or("", |(name, _)| *name);
    coded && (name.ends_with("scale") || name.ends_with("zero_point"))
}

#[cfg(test)]
mod tests {
    use qcc_ir::{Attribute, Dim, Float, Granularity, QuantType, ScaleType, Storage, TensorType};

    use super::*;

    fn quantized(granularity: Granularity, scale: ScaleType) -> QuantType {
        QuantType { storage: Storage::Int(4), granularity, scale, zero_point: false }
    }

    #[test]
    fn a_block_format_counts_its_scales() {
        let q = quantized(Granularity::Block { axis: 1, block: 32 }, ScaleType::F16);
        let ty = TensorType::new([8i64, 64], ElementType::Quant(q));
        let mut f = Function::new("main");
        let x =
            f.add_argument("x", TensorType::new(vec![Dim::symbol("B"), Dim::Const(64)], ElementType::F32));
        let scale = f.add_parameter("w.scale", ty.scale_type(q));
        let w = f.add_parameter("w", ty);
        let op = Op::QuantizedLinear {
            to: ElementType::F32,
            narrow: true,
            lower: Float(f64::NEG_INFINITY),
            upper: Float(f64::INFINITY),
        };
        let y = f
            .add_one(op, [Some(x), Some(w), Some(scale), None, None, None, None, None], "layers.0")
            .expect("typed");
        f.add_result("y", y);
        let module = Module { functions: vec![f] };
        let layers = layers(&module, &Sizes::of_types());
        assert_eq!(layers.len(), 1);
        assert_eq!(
            (layers[0].weight_format.as_str(), layers[0].activation_format.as_str()),
            ("int4:block=32", "f32")
        );
        assert_eq!(layers[0].bytes, 8 * 64 / 2 + 8 * 2 * 2);
        let totals = totals(&module, &layers, &Sizes::of_types());
        assert_eq!((totals.parameters, totals.bytes), (8 * 64, 8 * 64 / 2 + 8 * 2 * 2));
        assert_eq!(totals.bits_per_weight, Some(4.5));
    }

    #[test]
    fn branches_count_as_one_layer() {
        let matrix = |rows: i64, columns: i64| TensorType::new([rows, columns], ElementType::F32);
        let q = QuantType {
            storage: Storage::Int(4),
            granularity: Granularity::Tensor,
            scale: ScaleType::F32,
            zero_point: false,
        };
        let mut f = Function::new("main");
        let x = f.add_argument("x", matrix(1, 64));
        let (down, up) = (f.add_parameter("down", matrix(2, 64)), f.add_parameter("up", matrix(8, 2)));
        let codes = f.add_parameter("codes", TensorType::new([8i64, 64], ElementType::Quant(q)));
        let scale = f.add_parameter("scale", TensorType::new(Vec::<i64>::new(), ElementType::F32));
        let rest = f.add_one(Op::Dequantize {}, [codes, scale], "fc").expect("typed");
        let mut linear = |x, w, branch: &str| {
            let y = f.add_one(Op::Linear {}, [x, w], "fc").expect("typed");
            let id = f.defining(y).expect("an operation").0;
            f.node_mut(id).annotations.insert("branch".into(), Attribute::String(branch.into()));
            y
        };
        let inner = linear(x, down, "low_rank");
        let (a, b) = (linear(inner, up, "low_rank"), linear(x, rest, "rest"));
        let y = f.add_one(Op::Add {}, [a, b], "fc").expect("typed");
        f.add_result("y", y);
        let module = Module { functions: vec![f] };
        let layers = layers(&module, &Sizes::of_types());
        let branches: Vec<_> = layers.iter().map(|l| l.describe()["branch"].clone()).collect();
        assert_eq!(branches, ["low_rank", "low_rank", "rest"]);
        let totals = totals(&module, &layers, &Sizes::of_types());
        assert_eq!(totals.parameters, 8 * 64);
        let bits = 8 * 64 * 4 + 32 + (2 * 64 + 8 * 2) * 32;
        assert_eq!(totals.bits_per_weight, Some(f64::from(bits) / f64::from(8 * 64)));
    }

    #[test]
    fn floats_keep_their_names() {
        let mut f = Function::new("main");
        let x = f.add_argument("x", TensorType::new([1i64, 4], ElementType::F32));
        let w = f.add_parameter("w", TensorType::new([2i64, 4], ElementType::F32));
        let y = f.add_one(Op::Linear {}, [Some(x), Some(w), None], "fc").expect("typed");
        f.add_result("y", y);
        let module = Module { functions: vec![f] };
        let layers = layers(&module, &Sizes::of_types());
        assert_eq!((layers[0].name.as_str(), layers[0].weight_format.as_str()), ("fc", "f32"));
        assert_eq!(totals(&module, &layers, &Sizes::of_types()).bits_per_weight, Some(32.0));
        assert_eq!(
            format(ElementType::Quant(quantized(Granularity::Token, ScaleType::BF16)), true),
            "int4:token:scale=bf16:dynamic"
        );
    }
}
