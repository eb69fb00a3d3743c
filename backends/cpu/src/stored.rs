//! What quantized weights take in a compiled program, known from the module before anything is packed.
//!
//! Codes take their own bits, but for split ones, which lie in whole halves of bytes; a weight that no kernel takes is decoded, and its scales and zero
//! points with it. Padding to whole panels is not counted, nor that panels repeat the scales of a tensor for each column.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use qcc_ir::{ElementType, Function, Node, Op, OpId, Str, ValueId};

use crate::kernels::coded::Coded;
use crate::kernels::split::SplitCodes;
use crate::lower::{is_coded_weight, only_products_read, split_codes};

/// Bits that an element of each quantized weight takes, and of each scale and zero point that is decoded with one: none. Other parameters,
/// which are stored as their types say, are absent.
pub fn stored_bits(function: &Function) -> BTreeMap<Str, u32> {
    // A weight that kernels read in two forms is stored twice.
    let mut forms: BTreeMap<Str, BTreeSet<Form>> = BTreeMap::new();
    let uses = function.uses();
    for &id in function.order() {
        for (value, form) in read_forms(function, &uses, function.node(id)) {
            if let Some(name) = function.parameter_name(value) {
                forms.entry(name.clone()).or_default().insert(form);
            }
        }
    }
    // A scale that any kernel reads is there.
    forms.retain(|_, forms| !forms.contains(&Form::AsTyped));
    forms.into_iter().map(|(name, forms)| (name, forms.into_iter().map(Form::bits).sum())).collect()
}

/// How a kernel wants a parameter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    AsTyped,
    /// Codes of so many bits in panels.
    Panels(u32),
    /// f32 values.
    Decoded,
    /// A part of the decoded values.
    Absorbed,
}

impl Form {
    fn bits(self) -> u32 {
        match self {
            Form::Panels(bits) => bits,
            Form::Decoded => 32,
            Form::AsTyped | Form::Absorbed => 0,
        }
    }
}

/// The forms in which an operation has its quantized weights and what belongs to them.
fn read_forms(
    function: &Function,
    uses: &HashMap<ValueId, Vec<(OpId, usize)>>,
    node: &Node,
) -> Vec<(ValueId, Form)> {
    let operand = |slot: usize| node.operands.get(slot).copied().flatten();
    let codes = |slot: usize| {
        let value = operand(slot)?;
        let q = function.ty(value).element.quantized()?;
        Some((value, Form::Panels(split_codes(q).map_or(q.storage.bits(), SplitCodes::bits))))
    };
    let as_typed = |slot: usize| operand(slot).map(|value| (value, Form::AsTyped));
    let forms = match &node.op {
        Op::QuantizedLinear { .. } | Op::QuantizedConv { .. } => [codes(1), as_typed(2), None],
        Op::Embedding {} if operand(2).is_some() => [codes(0), as_typed(2), None],
        Op::Dequantize {}
            if is_coded_weight(function, node) && {
                let users = uses.get(&node.results[0]).map(Vec::as_slice).unwrap_or_default();
                only_products_read(function, users)
            } =>
        {
            let mut forms: Vec<(ValueId, Form)> = codes(0).into_iter().collect();
            let q = operand(0).and_then(|codes| function.ty(codes).element.quantized());
            let coded = q.and_then(|q| Coded::of(q, None));
            forms.extend((1..node.operands.len()).filter_map(|slot| match coded {
                // A zero point has the bits of a code.
                Some(coded) if slot == 2 && coded.zero_points => {
                    Some((operand(slot)?, Form::Panels(u32::from(coded.bits))))
                }
                _ => as_typed(slot),
            }));
            return forms;
        }
        Op::Cast { to: ElementType::F32 } => {
            let narrow = |value: &ValueId| {
                function.parameter_name(*value).is_some()
                    && Coded::of_float(function.ty(*value).element).is_some()
            };
            let users = uses.get(&node.results[0]).map(Vec::as_slice).unwrap_or_default();
            let form = if only_products_read(function, users) { Form::Panels(16) } else { Form::Decoded };
            [operand(0).filter(narrow).map(|value| (value, form)), None, None]
        }
        Op::Dequantize {} => {
            let slots = 1..node.operands.len();
            // Codes that are computed, of activations, keep their scales.
            return match operand(0).filter(|codes| function.parameter_name(*codes).is_some()) {
                Some(codes) => {
                    let absorbed = slots.filter_map(|slot| Some((operand(slot)?, Form::Absorbed)));
                    [(codes, Form::Decoded)].into_iter().chain(absorbed).collect()
                }
                None => slots.filter_map(as_typed).collect(),
            };
        }
        _ => [None; 3],
    };
    forms.into_iter().flatten().collect()
}
