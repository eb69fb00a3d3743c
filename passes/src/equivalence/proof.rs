//! Proof by example: a rule is instantiated with random shapes, attributes and numbers that satisfy its guards, and both sides are run in
//! f64. A rule that is exact in real arithmetic differs by rounding only (1e-9); one that is wrong does not survive a handful of examples.
//!
//! The left side is built from the inside out: what a variable may be follows from the operation it stands in. Heads of left sides that
//! this cannot make up are refused, so no rule goes unproved.

use std::collections::HashMap;
use std::sync::Arc;

use egg::{ENodeOrVar, Id, Var};
use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Dim, ElementType, Float, Function, Op, TensorType, ValueId, ops::ImageLayout};
use qcc_params::{Parameters, Tensor};

use super::convert::convert;
use super::facts::canonical;
use super::language::{Term, plain_op};
use super::rules::Rule;
use super::{Limits, cost, emit, extract, saturate};
use crate::random::Random;
use crate::verify_each::{random_inputs, relative_error};

/// How close both sides must be.
pub const TOLERANCE: f64 = 1e-9;
/// Examples a rule must survive.
const EXAMPLES: usize = 24;
/// Examples tried; most fail a guard.
const ATTEMPTS: u64 = 4000;

/// Why a rule is not accepted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rule `{rule}` is not proved: {reason}")]
pub struct Unproved {
    /// The rule.
    pub rule: String,
    /// Why.
    pub reason: String,
}

/// Proves a rule by example; returns how many examples it survived.
///
/// # Errors
/// When both sides differ, when the right side is ill-typed, or when no example satisfies the guards.
pub fn prove(rule: &Arc<Rule>) -> Result<usize, Unproved> {
    let fail = |reason: String| Unproved { rule: rule.name.clone(), reason };
    let mut proved = 0;
    for seed in 0..ATTEMPTS {
        if proved == EXAMPLES {
            break;
        }
        let mut example = Example::new(seed);
        match example.left(rule) {
            Ok(()) => {}
            Err(Trouble::Unlucky) => continue,
            Err(Trouble::Unknown(head)) => {
                return Err(fail(format!(
                    "there is no example of `{head}` in a left side; teach `equivalence/proof.rs` to make one"
                )));
            }
        }
        let left = example.function;
        let Some(right) = right(rule, &left).map_err(fail)? else { continue };
        let error = compare(&left, &right, &example.parameters).map_err(fail)?;
        if error > TOLERANCE {
            let text = qcc_ir::print::print_function(&left);
            return Err(fail(format!("both sides differ by {error:.2e} (relative) on\n{text}")));
        }
        proved += 1;
    }
    if proved == 0 {
        return Err(fail(format!("its guards hold on none of {ATTEMPTS} examples")));
    }
    Ok(proved)
}

/// The function after the rule fired on its result; `None` when a guard forbids it.
fn right(rule: &Arc<Rule>, left: &Function) -> Result<Option<Function>, String> {
    let limits = Limits { nodes: 10_000, ..Limits::default() };
    let (converted, report) =
        saturate(convert(left), std::slice::from_ref(rule), limits).map_err(|e| e.to_string())?;
    if report.applied.is_empty() {
        return Ok(None);
    }
    let graph = &converted.graph;
    let root = graph.find(converted.classes[&left.results[0]]);
    let original = converted.origins.last().map(|o| canonical(graph, &o.term));
    // Anything is better than what was there before.
    let cost = |class: Id, term: &Term| match class == root && original.as_ref() == Some(term) {
        true => 1e30,
        false => cost::cost(graph, class, term),
    };
    let choice = extract::extract(graph, &cost);
    let mut right = left.clone();
    let replaced = emit::emit(&mut right, &converted, &choice)?;
    Ok((replaced > 0).then_some(right))
}

/// The relative error between two functions of the same arguments, in f64.
fn compare(left: &Function, right: &Function, parameters: &Parameters) -> Result<f64, String> {
    let interpreter = Interpreter::new(Precision::F64);
    let inputs = random_inputs(left)?;
    let run = |f: &Function| interpreter.run(f, parameters, &inputs).map_err(|e| e.to_string());
    let (a, b) = (run(right)?, run(left)?);
    Ok(a.iter().zip(&b).map(|(a, b)| relative_error(a, b)).fold(0.0, f64::max))
}

/// Why an example could not be made.
enum Trouble {
    /// Random choices that do not fit together; try again.
    Unlucky,
    /// A head with no recipe.
    Unknown(String),
}

/// What a variable stands for.
#[derive(Clone)]
enum Bound {
    Value(ValueId),
    Attributes(Op),
}

struct Example {
    function: Function,
    parameters: Parameters,
    random: Random,
    bound: HashMap<Var, Bound>,
    /// Sizes of the activations that are made up.
    shape: Vec<i64>,
}

type Made<T> = Result<T, Trouble>;

impl Example {
    fn new(seed: u64) -> Example {
        let mut random = Random::new(seed);
        let size = |random: &mut Random, from: u64, to: u64| (from + random.below(to - from + 1)) as i64;
        let channels = [1, 2, 3, 4, 6][random.below(5) as usize];
        let mut shape = vec![size(&mut random, 1, 2), channels];
        for _ in 0..random.below(3) {
            shape.push(size(&mut random, 3, 6));
        }
        Example {
            function: Function::new("example"),
            parameters: Parameters::new(),
            random,
            bound: HashMap::new(),
            shape,
        }
    }

    fn left(&mut self, rule: &Rule) -> Made<()> {
        let nodes = rule.left.as_ref();
        let root = Id::from(nodes.len() - 1);
        let value = self.tensor(nodes, root)?.ok_or(Trouble::Unlucky)?;
        self.function.add_result("y", value);
        Ok(())
    }

    /// An activation: made up, or a term; `None` for an absent operand.
    fn tensor(&mut self, nodes: &[ENodeOrVar<Term>], id: Id) -> Made<Option<ValueId>> {
        let (head, children) = match &nodes[usize::from(id)] {
            ENodeOrVar::Var(var) => {
                let shape = self.shape.clone();
                return self.variable(*var, |example| example.argument(&shape)).map(Some);
            }
            ENodeOrVar::ENode(Term::Absent) => return Ok(None),
            ENodeOrVar::ENode(Term::Apply(head, children)) => (*head, children.clone()),
            ENodeOrVar::ENode(_) => return Err(Trouble::Unlucky),
        };
        let unknown = || Trouble::Unknown(head.to_string());
        let at = |i: usize| children[i];
        match head {
            "conv" | "conv_transpose" => {
                let x = self.tensor(nodes, at(1))?.ok_or(Trouble::Unlucky)?;
                let sizes = self.sizes(x);
                let spatial = sizes.len().checked_sub(2).filter(|n| *n > 0).ok_or(Trouble::Unlucky)?;
                let op = self.attributes(nodes, at(0), |random| window(head, spatial, sizes[1], random))?;
                let weight = self.window_weight(&op, sizes[1], spatial)?;
                let w = self.weight_operand(nodes, at(2), &weight)?;
                let rows = if head == "conv" { weight[0] } else { weight[1] * groups(&op) };
                let b = self.weight_operand(nodes, at(3), &[rows])?;
                self.add(op, &[Some(x), w, b])
            }
            "linear" => {
                let x = self.tensor(nodes, at(0))?.ok_or(Trouble::Unlucky)?;
                let inner = *self.sizes(x).last().ok_or(Trouble::Unlucky)?;
                let rows = 1 + self.random.below(5) as i64;
                let w = self.weight_operand(nodes, at(1), &[rows, inner])?;
                let b = self.weight_operand(nodes, at(2), &[rows])?;
                self.add(Op::Linear {}, &[Some(x), w, b])
            }
            "batch_norm" => {
                let x = self.tensor(nodes, at(1))?.ok_or(Trouble::Unlucky)?;
                let channels = *self.sizes(x).get(1).ok_or(Trouble::Unlucky)?;
                let op = self.attributes(nodes, at(0), |random| {
                    let exponent = 1.0 + random.below(5) as f64;
                    Op::BatchNorm { epsilon: Float(0.37 * 10f64.powf(-exponent)) }
                })?;
                let mut operands = vec![Some(x)];
                for i in 2..6 {
                    let made = match &nodes[usize::from(at(i))] {
                        // A variance is positive.
                        ENodeOrVar::Var(var) if i == 5 => {
                            self.variable(*var, |example| example.weight(&[channels], 1.1))?
                        }
                        _ => self.weight_operand(nodes, at(i), &[channels])?.ok_or(Trouble::Unlucky)?,
                    };
                    operands.push(Some(made));
                }
                self.add(op, &operands)
            }
            "add" | "sub" | "mul" | "div" | "min" | "max" => {
                let a = self.tensor(nodes, at(0))?.ok_or(Trouble::Unlucky)?;
                let sizes = self.sizes(a);
                let shape = broadcastable(&sizes, &mut self.random);
                let b = self.weight_operand(nodes, at(1), &shape)?;
                self.add(plain_op(head).ok_or_else(unknown)?, &[Some(a), b])
            }
            _ => {
                let op = plain_op(head).filter(|op| op.spec().operands.len() == 1).ok_or_else(unknown)?;
                let x = self.tensor(nodes, at(0))?;
                self.add(op, &[x])
            }
        }
        .map(Some)
    }

    fn variable(&mut self, var: Var, make: impl FnOnce(&mut Example) -> ValueId) -> Made<ValueId> {
        match self.bound.get(&var) {
            Some(Bound::Value(v)) => Ok(*v),
            Some(Bound::Attributes(_)) => Err(Trouble::Unlucky),
            None => {
                let value = make(self);
                self.bound.insert(var, Bound::Value(value));
                Ok(value)
            }
        }
    }

    /// The attributes that a variable stands for.
    fn attributes(
        &mut self,
        nodes: &[ENodeOrVar<Term>],
        id: Id,
        make: impl FnOnce(&mut Random) -> Op,
    ) -> Made<Op> {
        let ENodeOrVar::Var(var) = &nodes[usize::from(id)] else { return Err(Trouble::Unlucky) };
        match self.bound.get(var) {
            Some(Bound::Attributes(op)) => Ok(op.clone()),
            Some(Bound::Value(_)) => Err(Trouble::Unlucky),
            None => {
                let op = make(&mut self.random);
                self.bound.insert(*var, Bound::Attributes(op.clone()));
                Ok(op)
            }
        }
    }

    /// An operand that is a weight of these sizes if it is a variable, and whatever it says if it is a term.
    fn weight_operand(&mut self, nodes: &[ENodeOrVar<Term>], id: Id, sizes: &[i64]) -> Made<Option<ValueId>> {
        match &nodes[usize::from(id)] {
            ENodeOrVar::Var(var) => self.variable(*var, |example| example.weight(sizes, 0.0)).map(Some),
            _ => self.tensor(nodes, id),
        }
    }

    fn window_weight(&mut self, op: &Op, channels: i64, spatial: usize) -> Made<Vec<i64>> {
        let groups = groups(op);
        let other = 1 + self.random.below(3) as i64;
        let mut sizes = match op {
            Op::Conv { .. } => vec![groups * other, channels / groups],
            _ => vec![channels, other],
        };
        for _ in 0..spatial {
            sizes.push(1 + self.random.below(3) as i64);
        }
        Ok(sizes)
    }

    fn argument(&mut self, sizes: &[i64]) -> ValueId {
        let name = format!("x{}", self.function.arguments().len());
        self.function.add_argument(&name, TensorType::new(sizes.iter().copied(), ElementType::F32))
    }

    /// A random weight; elements lie within 1 of `centre`.
    fn weight(&mut self, sizes: &[i64], centre: f32) -> ValueId {
        let name = format!("w{}", self.parameters.len());
        let dims: Vec<usize> = sizes.iter().map(|s| usize::try_from(*s).unwrap_or(0)).collect();
        let data = (0..dims.iter().product()).map(|_| self.random.unit() + centre).collect();
        let tensor = Tensor::f32(&dims, data).expect("invariant: as many elements as the sizes say");
        let ty = tensor.ty();
        self.parameters.insert_tensor(&name, tensor).expect("invariant: names are numbered");
        self.function.add_parameter(&name, ty)
    }

    fn sizes(&self, value: ValueId) -> Vec<i64> {
        self.function.ty(value).dims.iter().filter_map(Dim::constant).collect()
    }

    fn add(&mut self, op: Op, operands: &[Option<ValueId>]) -> Made<ValueId> {
        self.function.add_one(op, operands.iter().copied(), "example").map_err(|_| Trouble::Unlucky)
    }
}

fn groups(op: &Op) -> i64 {
    match op {
        Op::Conv { groups, .. } | Op::ConvTranspose { groups, .. } => *groups,
        _ => 1,
    }
}

/// Random attributes of a convolution; half of them pad nothing and half have one group, since many rules want that.
fn window(head: &str, spatial: usize, channels: i64, random: &mut Random) -> Op {
    let mut list = |n: usize, from: i64, choices: u64| -> Vec<i64> {
        (0..n).map(|_| from + random.below(choices) as i64).collect()
    };
    let (strides, dilations) = (list(spatial, 1, 2), list(spatial, 1, 2));
    let mut pads = list(2 * spatial, 0, 2);
    let output_padding = vec![0; spatial];
    if random.below(2) == 0 {
        pads.fill(0);
    }
    let divisors: Vec<i64> = (1..=channels).filter(|g| channels % g == 0).collect();
    let groups = match random.below(2) {
        0 => 1,
        _ => divisors[random.below(divisors.len() as u64) as usize],
    };
    match head {
        "conv" => Op::Conv { strides, pads, dilations, groups, layout: ImageLayout::ChannelsFirst },
        _ => Op::ConvTranspose { strides, pads, dilations, output_padding, groups },
    }
}

/// Sizes that broadcast to `sizes`: those of a scalar, of one axis, or all, with or without leading ones.
fn broadcastable(sizes: &[i64], random: &mut Random) -> Vec<i64> {
    let axis = random.below(sizes.len() as u64 + 2) as usize;
    let mut shape: Vec<i64> = sizes.iter().enumerate().map(|(i, s)| if i == axis { *s } else { 1 }).collect();
    match axis.cmp(&sizes.len()) {
        std::cmp::Ordering::Less => {}
        std::cmp::Ordering::Equal => shape.clear(),
        std::cmp::Ordering::Greater => shape.copy_from_slice(sizes),
    }
    let ones = shape.iter().take_while(|s| **s == 1).count();
    shape.drain(..random.below(ones as u64 + 1) as usize);
    shape
}
