//! Weights and inputs for modules that come as text: seeded random numbers, the same on every run, so that passes can be proved by example
//! and activations measured. Too large a module gets none, and its weights are known by name and type only.

use std::collections::HashMap;
use std::sync::Arc;

use qcc_ir::{Function, Module, Op, Str, TensorType};
use qcc_params::parameters::{SharedBytes, Source};
use qcc_params::{Data, Parameters, Tensor};
use qcc_passes::{Samples, verify_each};

/// How many elements all values of a module may have together (with symbolic sizes of 3).
const MOST_ELEMENTS: i64 = 1 << 22;

/// The weights made up for a module.
pub struct MadeUp {
    /// Name, type, and whether it is a variance and must be positive.
    weights: Vec<(Str, TensorType, bool)>,
    tensors: Result<Vec<Tensor>, String>,
}

impl MadeUp {
    /// Weights for a module.
    pub fn of(module: &Module) -> MadeUp {
        let mut weights: Vec<(Str, TensorType, bool)> = Vec::new();
        let mut index: HashMap<Str, usize> = HashMap::new();
        let mut elements = Some(0i64);
        for function in &module.functions {
            for value in (0..function.value_count()).map(qcc_ir::ValueId::new) {
                elements = sum(elements, function.ty(value));
            }
            for &id in function.order() {
                let node = function.node(id);
                match &node.op {
                    Op::Parameter { name } if !index.contains_key(name) => {
                        index.insert(name.clone(), weights.len());
                        weights.push((name.clone(), function.ty(node.results[0]).clone(), false));
                    }
                    Op::BatchNorm { .. } => {
                        let variance = node.operands[4].and_then(|v| function.parameter_name(v));
                        if let Some(&i) = variance.and_then(|name| index.get(name)) {
                            weights[i].2 = true;
                        }
                    }
                    _ => {}
                }
            }
        }
        let tensors = match elements {
            Some(n) if n <= MOST_ELEMENTS => tensors(&weights),
            _ => {
                Err(format!("the module's values have more than {MOST_ELEMENTS} elements; use smaller sizes"))
            }
        };
        MadeUp { weights, tensors }
    }

    /// The parameter table; where no weights could be made up, evaluating one is an error.
    pub fn parameters(&self) -> Parameters {
        let mut parameters = Parameters::new();
        for (i, (name, ty, _)) in self.weights.iter().enumerate() {
            let source = match &self.tensors {
                Ok(tensors) => Source::Tensor(Arc::new(tensors[i].clone())),
                Err(_) => Source::Bytes(
                    SharedBytes::new(Arc::new([0u8; 0]), 0, 0).expect("invariant: nothing is inside nothing"),
                ),
            };
            parameters.insert(name, ty.clone(), source).expect("invariant: each name stands once");
        }
        parameters
    }

    /// One sample of random inputs, or why there are no weights to run the module with.
    pub fn samples(&self) -> Result<&'static dyn Samples, &str> {
        match &self.tensors {
            Ok(_) => Ok(&OneRandomSample),
            Err(message) => Err(message),
        }
    }
}

fn sum(elements: Option<i64>, ty: &TensorType) -> Option<i64> {
    ty.elements()?.evaluate(&|_| Some(3))?.checked_add(elements?).filter(|n| *n >= 0)
}

fn tensors(weights: &[(Str, TensorType, bool)]) -> Result<Vec<Tensor>, String> {
    let mut function = Function::new("weights");
    for (name, ty, _) in weights {
        function.add_argument(name, ty.clone());
    }
    let mut tensors = verify_each::random_inputs(&function)?;
    for (tensor, (.., positive)) in tensors.iter_mut().zip(weights) {
        if let (true, Data::F32(values)) = (*positive, &mut tensor.data) {
            values.iter_mut().for_each(|v| *v = v.abs() + 0.125);
        }
    }
    Ok(tensors)
}

struct OneRandomSample;

impl Samples for OneRandomSample {
    fn len(&self) -> usize {
        1
    }

    fn inputs(&self, _: usize, function: &Function) -> Result<Vec<Tensor>, String> {
        verify_each::random_inputs(function)
    }
}
