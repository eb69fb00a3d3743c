//! `split`: a layer becomes three with disjoint weights, one for each cluster of its values (SplitQuant, arXiv 2501.12428). Each has a narrow
//! range, and outliers keep their values.
//!
//! Clusters are those of exact k-means: of each output channel of a convolution, of the whole weight of a linear layer, of the whole bias.
//! A part is the weight times a mask of zeros and ones, so the parts sum up to the weight bit for bit. Masks come from the bounds of
//! clusters by weight expressions: nothing of a weight's size is kept while passes decide.

use qcc_interpreter::formats::clusters::{Cluster, clusters};
use qcc_ir::{Dense, ElementType, Float, Function, Module, Op, OpId, Patch, Str};
use qcc_params::Parameters;

use super::Failed;
use super::branch::Branch;
use crate::context::Context;
use crate::pass::{Outcome, Pass, PassError, PassInfo, Preservation};
use crate::quantize::site::{Site, sites};
use crate::transform::Explanation;
use crate::transform::explanation::{LayerChoice, Refusal};
use crate::weights::{computed, constant, value};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "splits linear layers and convolutions into three by clusters of weights, each of a narrow range",
    options: &[],
    make: |_| Ok(Box::new(Split)),
};

const NAME: &str = "split";
/// Clusters of a weight.
const CLUSTERS: usize = 3;

struct Split;

impl Pass for Split {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut explanation = Explanation { pass: NAME, ..Explanation::default() };
        for function in &mut module.functions {
            for (id, site) in sites(function) {
                let node = function.node(id);
                let location = node.location.clone();
                if let Site::Unfit(why) = &site {
                    explanation.refused.push(Refusal::new(&location, NAME, why.clone()));
                    context.warn(NAME, format!("`{location}` is not split: {why}"));
                }
                if site != Site::Layer || Branch::of(node).is_some() {
                    continue;
                }
                match split(function, id, context) {
                    Ok(true) => explanation.layers.push(LayerChoice::done(&location, NAME)),
                    Ok(false) => {
                        let reason = "its weight has fewer than two values";
                        explanation.refused.push(Refusal::new(&location, NAME, reason));
                    }
                    Err(Failed::Unfit(why)) => {
                        explanation.refused.push(Refusal::new(&location, NAME, why));
                        context.warn(NAME, format!("`{location}` is not split: {why}"));
                    }
                    Err(Failed::Broken(why)) => return Err(PassError::at(NAME, &location, why)),
                }
            }
        }
        let mut outcome = Outcome::of([("split", explanation.layers.len())]);
        outcome.measures.insert("left", explanation.refused.len());
        context.explanations.push(explanation);
        Ok(outcome)
    }
}

/// Splits one layer; false where its weight has fewer than two values.
fn split(function: &mut Function, id: OpId, context: &mut Context<'_>) -> Result<bool, Failed> {
    let node = function.node(id).clone();
    let weight = node.operands[1]
        .and_then(|w| function.parameter_name(w))
        .ok_or("its weight is no parameter".to_string())?;
    let bias = node.operands.get(2).copied().flatten();
    let bias_name = bias.and_then(|b| function.parameter_name(b)).cloned();
    let weights = Masked::new(&weight.clone(), matches!(node.op, Op::Conv { .. }), CLUSTERS, context)?;
    let branches = weights.branches();
    if branches.len() < 2 {
        return Ok(false);
    }
    // A bias that is no parameter stays whole.
    let biases = match &bias_name {
        Some(name) => Some(Masked::new(name, false, branches.len(), context)?),
        None => None,
    };
    let (mut patch, mut sum) = (Patch::new(), None);
    for (i, branch) in branches.iter().enumerate() {
        let w = weights.part(*branch, &mut context.parameters)?;
        let w = value(function, &context.parameters, &w)?;
        let b = match &biases {
            Some(biases) => match biases.branches().get(i) {
                // One value (zeros, say) needs no mask.
                Some(_) if biases.branches().len() == 1 => bias,
                Some(branch) => {
                    let b = biases.part(*branch, &mut context.parameters)?;
                    Some(value(function, &context.parameters, &b)?)
                }
                None => None,
            },
            None if i == 0 => bias,
            None => None,
        };
        let broken = |e: qcc_ir::InferError| Failed::Broken(e.to_string());
        let operands = [node.operands[0], Some(w), b];
        let y = patch.add(function, node.op.clone(), operands, &node.location).map_err(broken)?;
        branch.mark(function, y);
        sum = Some(match sum {
            None => y,
            Some(sum) => patch.add(function, Op::Add {}, [sum, y], &node.location).map_err(broken)?,
        });
    }
    if let Some(sum) = sum {
        patch.redirect(node.results[0], sum);
    }
    patch.apply(function).map_err(|e| e.to_string())?;
    Ok(true)
}

/// A weight and the bounds of its clusters: of each row, or of all of it.
struct Masked {
    name: Str,
    /// Sizes of the bounds, which broadcast to those of the weight.
    dims: Vec<i64>,
    /// The largest value of the lowest cluster.
    low: Vec<f32>,
    /// The smallest value of the highest of several clusters; infinite where there is one.
    high: Vec<f32>,
    /// The most clusters that a row has.
    most: usize,
}

impl Masked {
    fn new(name: &Str, by_row: bool, k: usize, context: &Context<'_>) -> Result<Masked, Failed> {
        let tensor = context.parameters.evaluate(name, context.evaluator).map_err(|e| e.to_string())?;
        if tensor.element != ElementType::F32 {
            return Err(Failed::Unfit("its weight is not f32"));
        }
        let values = tensor.as_f32().ok_or_else(|| format!("`{name}` has no f32 elements"))?;
        if !values.iter().all(|x| x.is_finite()) {
            return Err(Failed::Unfit("its weight has NaN or infinite elements"));
        }
        let mut dims = vec![1i64; tensor.dims.len()];
        let mut row = values.len();
        if let (true, Some(&rows)) = (by_row, tensor.dims.first()) {
            dims[0] = i64::try_from(rows).map_err(|e| e.to_string())?;
            row /= rows.max(1);
        }
        let of_row = |row: &[f32]| clusters(row.iter().map(|x| f64::from(*x)).collect(), k);
        let found: Vec<Vec<Cluster>> = values.chunks(row.max(1)).map(of_row).collect();
        // The bounds are values of the weight.
        let low = found.iter().map(|c| c.first().map_or(0.0, |c| c.greatest as f32)).collect();
        let high =
            |c: &Vec<Cluster>| c.get(1..).and_then(<[_]>::last).map_or(f32::INFINITY, |c| c.least as f32);
        let most = found.iter().map(Vec::len).max().unwrap_or(0);
        Ok(Masked { name: name.clone(), dims, low, high: found.iter().map(high).collect(), most })
    }

    /// The parts that are not all zeros.
    fn branches(&self) -> &'static [Branch] {
        match self.most {
            0 | 1 => &[Branch::Low],
            2 => &[Branch::Low, Branch::High],
            _ => &[Branch::Low, Branch::Middle, Branch::High],
        }
    }

    /// The weight where it is in a cluster, zeros elsewhere.
    fn part(&self, branch: Branch, parameters: &mut Parameters) -> Result<Str, String> {
        let mask = match branch {
            Branch::Low => self.not_above(parameters)?,
            // Of two parts, the other: the bounds are f32, and a weight in f64 may lie between them.
            Branch::High if self.most == 2 => {
                let low = self.not_above(parameters)?;
                let one = constant(parameters, "one", Dense::scalar(1.0));
                self.step(parameters, Op::Sub {}, &[&one, &low])?
            }
            Branch::High => self.not_below(parameters)?,
            _ => {
                let (low, high) = (self.not_above(parameters)?, self.not_below(parameters)?);
                let outer = self.step(parameters, Op::Add {}, &[&low, &high])?;
                let one = constant(parameters, "one", Dense::scalar(1.0));
                self.step(parameters, Op::Sub {}, &[&one, &outer])?
            }
        };
        let hint = format!("{}.{}", self.name, branch.keyword());
        computed(parameters, &hint, Op::Mul {}, &[&self.name, &mask])
    }

    fn not_above(&self, parameters: &mut Parameters) -> Result<Str, String> {
        let bound = constant(parameters, &self.bounds(), Dense::f32(&self.dims, &self.low));
        self.not_negative(parameters, &[&bound, &self.name])
    }

    fn not_below(&self, parameters: &mut Parameters) -> Result<Str, String> {
        let bound = constant(parameters, &self.bounds(), Dense::f32(&self.dims, &self.high));
        self.not_negative(parameters, &[&self.name, &bound])
    }

    fn bounds(&self) -> String {
        format!("{}.bounds", self.name)
    }

    /// 1 where `a − b` is not negative, else 0: `clamp(floor(a − b) + 1, 0, 1)`, exact in any precision, as a difference of floats is 0 only
    /// where they are equal.
    fn not_negative(&self, parameters: &mut Parameters, difference: &[&Str; 2]) -> Result<Str, String> {
        let difference = self.step(parameters, Op::Sub {}, difference)?;
        let floor = self.step(parameters, Op::Floor {}, &[&difference])?;
        let one = constant(parameters, "one", Dense::scalar(1.0));
        let next = self.step(parameters, Op::Add {}, &[&floor, &one])?;
        self.step(parameters, Op::Clamp { min: Float(0.0), max: Float(1.0) }, &[&next])
    }

    fn step(&self, parameters: &mut Parameters, op: Op, operands: &[&Str]) -> Result<Str, String> {
        computed(parameters, &format!("{}.mask", self.name), op, operands)
    }
}
