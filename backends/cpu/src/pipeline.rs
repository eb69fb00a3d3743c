//! The backend's pipeline: from a legal module of any origin to the form that [`crate::lower`] takes.
//!
//! | stage | why |
//! | --- | --- |
//! | `fold-batch-norm` | a normalisation by constants is part of the weights before or after it; where there is one |
//! | `canonicalize` | weights become parameters, with everything that is done to them |
//! | `legalize` | operations without kernels become others, while images are still channels first |
//! | `channels-last` | convolution kernels want channels innermost |
//! | decode weights | float kernels read floats: a `dequantize` of codes that no kernel takes becomes part of the weight |
//! | `legalize`, `canonicalize` | what `channels-last` left, and the weights of it all |
//! | decode weights, `canonicalize` | legal operations may have weights of narrower floats in between |
//! | [keep halves](crate::halves) | weights that a model has in 16 bits take no more in memory |

use std::collections::HashMap;

use qcc_ir::{ElementType, Function, Module, Op, OpId, Patch, ValueId};
use qcc_params::{Expression, OpEvaluator, Parameters};
use qcc_passes::{
    Context, Instrumentation, Options, Outcome, Pass, PassError, PassInfo, Pipeline, Preservation, Registry,
};

use crate::CpuError;
use crate::halves;
use crate::legalize;
use crate::lower::{is_coded_weight, only_products_read};

/// Where a function has batch normalisations.
const FOLD: &str = "canonicalize,fold-batch-norm";

const PIPELINE: &str = "canonicalize,legalize,canonicalize,channels-last,decode-weights,legalize,canonicalize,decode-weights,canonicalize,keep-halves";

/// A module in the form that lowering takes, with the weights it refers to.
pub struct Legal {
    /// The module.
    pub module: Module,
    /// The parameter table, grown by weight expressions.
    pub parameters: Parameters,
}

/// Runs the backend's pipeline on a copy of a module.
///
/// # Errors
/// When a pass fails.
pub fn legalize(
    module: &Module,
    parameters: &Parameters,
    evaluator: &dyn OpEvaluator,
) -> Result<Legal, CpuError> {
    let mut registry = Registry::builtin();
    registry.register(legalize::INFO)?;
    registry.register(DECODE_WEIGHTS)?;
    registry.register(halves::INFO)?;
    let is_norm = |function: &Function| {
        function.order().iter().any(|id| matches!(function.node(*id).op, Op::BatchNorm { .. }))
    };
    let fold = if module.functions.iter().any(is_norm) { format!("{FOLD},") } else { String::new() };
    let pipeline = Pipeline::parse(&(fold + PIPELINE), &registry)?;
    let mut module = module.clone();
    let mut context = Context::new(parameters.clone(), evaluator);
    pipeline.run(&mut module, &mut context, &mut Instrumentation::default())?;
    Ok(Legal { module, parameters: context.parameters })
}

const DECODE_WEIGHTS: PassInfo = PassInfo {
    name: "decode-weights",
    summary: "makes the decoding of weights that no kernel takes part of the weight",
    options: &[],
    make: |_: &mut Options| Ok(Box::new(DecodeWeights)),
};

struct DecodeWeights;

impl Pass for DecodeWeights {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(0.0)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut decoded = 0;
        for function in &mut module.functions {
            let uses = function.uses();
            for id in function.order().to_vec() {
                decoded += usize::from(decode(function, id, &uses, &mut context.parameters)?);
            }
        }
        Ok(Outcome::of([("decoded", decoded)]))
    }
}

fn decode(
    function: &mut Function,
    id: OpId,
    uses: &HashMap<ValueId, Vec<(OpId, usize)>>,
    parameters: &mut Parameters,
) -> Result<bool, PassError> {
    let node = function.node(id);
    if !matches!(node.op, Op::Dequantize {} | Op::Cast { to: ElementType::F32 }) {
        return Ok(false);
    }
    let users = uses.get(&node.results[0]).map(Vec::as_slice).unwrap_or_default();
    let is_result = function.results.contains(&node.results[0]);
    if is_coded_weight(function, node) && !is_result && only_products_read(function, users) {
        return Ok(false);
    }
    let names: Option<Vec<_>> = node
        .operands
        .iter()
        .map(|o| o.map_or(Some(None), |v| function.parameter_name(v).cloned().map(Some)))
        .collect();
    let Some(names) = names else { return Ok(false) };
    let (location, y) = (node.location.clone(), node.results[0]);
    let ty = function.ty(y).clone();
    let expression = Expression { op: node.op.clone(), operands: names, result: 0 };
    let name = parameters.insert_expression(&format!("{location} decoded"), ty.clone(), expression);
    let mut patch = Patch::new();
    let parameter = function.add_parameter(&name, ty);
    patch.redirect(y, parameter);
    patch.apply(function).map_err(|e| PassError::at("decode-weights", &location, e))?;
    Ok(true)
}
