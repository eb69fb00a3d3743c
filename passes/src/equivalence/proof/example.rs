//! One example of a rule: a function under construction, what the rule's variables stand for in it, and the numbers of its weights.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use egg::{ENodeOrVar, Id, PatternAst, Var};
use qcc_ir::{Dim, ElementType, Function, Op, TensorType, ValueId};
use qcc_params::{Data, Parameters, Tensor};
use smallvec::SmallVec;

use super::recipes::{Kind, Want, order, want};
use crate::equivalence::facts::{Facts, Properties, TensorFacts};
use crate::equivalence::heads::{Meaning, Operand, meaning};
use crate::equivalence::language::Term;
use crate::random::Random;

/// Why an example could not be made.
pub(super) enum Trouble {
    /// Random choices that do not fit together; try again.
    Unlucky,
    /// A head with no recipe.
    Unknown(String),
}

pub(super) type Made<T> = Result<T, Trouble>;

/// What a variable stands for.
#[derive(Clone, Debug)]
pub(super) enum Bound {
    Value(ValueId),
    Attributes(Op),
    Absent,
}

/// What a term of a rule became.
#[derive(Clone, Debug)]
pub(super) enum Thing {
    Absent,
    Attributes(Op),
    /// The results of an operation; mostly one.
    Values(SmallVec<[ValueId; 2]>),
}

/// An example under construction.
#[derive(Clone)]
pub(super) struct Example {
    pub function: Function,
    pub parameters: Parameters,
    pub random: Random,
    pub bound: HashMap<Var, Bound>,
    /// What is known of the weights that were made up.
    pub properties: HashMap<ValueId, Properties>,
    /// Sizes of the activations that are made up.
    pub shape: Vec<i64>,
    /// Values that depend on weights alone.
    weights: HashSet<ValueId>,
}

impl Example {
    pub(super) fn new(seed: u64) -> Example {
        let mut random = Random::new(seed);
        // No Hadamard matrix below 12 shows whether it is transposed.
        let channels = [1, 2, 3, 4, 6, 12][random.below(6) as usize];
        let mut shape = vec![1 + random.below(2) as i64, channels];
        for _ in 0..random.below(3) {
            shape.push(3 + random.below(4) as i64);
        }
        Example {
            function: Function::new("example"),
            parameters: Parameters::new(),
            random,
            bound: HashMap::new(),
            properties: HashMap::new(),
            shape,
            weights: HashSet::new(),
        }
    }

    /// Adds a term as a result of the function (all its results, if it has several).
    pub(super) fn result(&mut self, ast: &PatternAst<Term>) -> Made<()> {
        let nodes = ast.as_ref();
        let root = Id::from(nodes.len() - 1);
        let thing = match &nodes[usize::from(root)] {
            ENodeOrVar::Var(var) => self.bound.get(var).map(thing).ok_or(Trouble::Unlucky)?,
            ENodeOrVar::ENode(_) => self.term(nodes, root)?,
        };
        let Thing::Values(values) = thing else { return Err(Trouble::Unlucky) };
        for value in values {
            self.function.add_result(&format!("y{}", self.function.results.len()), value);
        }
        Ok(())
    }

    pub(super) fn clear_results(&mut self) {
        self.function.results.clear();
        self.function.result_names.clear();
    }

    /// A term that is no variable.
    fn term(&mut self, nodes: &[ENodeOrVar<Term>], id: Id) -> Made<Thing> {
        let (head, children) = match &nodes[usize::from(id)] {
            ENodeOrVar::ENode(Term::Absent) => return Ok(Thing::Absent),
            ENodeOrVar::ENode(Term::Apply(head, children)) => (*head, children.clone()),
            _ => return Err(Trouble::Unlucky),
        };
        let mut made: Vec<Option<Thing>> = vec![None; children.len()];
        for slot in order(head, children.len()) {
            let child = children[slot];
            made[slot] = Some(match &nodes[usize::from(child)] {
                ENodeOrVar::Var(var) => match self.bound.get(var) {
                    Some(bound) => thing(bound),
                    None => {
                        let want = want(self, head, slot, &made)?;
                        let bound = self.make(want)?;
                        self.bound.insert(*var, bound.clone());
                        thing(&bound)
                    }
                },
                ENodeOrVar::ENode(_) => self.term(nodes, child)?,
            });
        }
        let made: Vec<Thing> = made.into_iter().map(|m| m.unwrap_or(Thing::Absent)).collect();
        self.apply(head, &made)
    }

    /// A head on children that are there.
    fn apply(&mut self, head: &str, children: &[Thing]) -> Made<Thing> {
        let facts: Vec<Facts> = children.iter().map(|c| self.facts(c)).collect();
        let borrowed: Vec<&Facts> = facts.iter().collect();
        let value = |i: usize| match children.get(i) {
            Some(Thing::Values(values)) => values.first().copied(),
            _ => None,
        };
        let values = match meaning(head, &borrowed).map_err(|_| Trouble::Unlucky)? {
            Meaning::Op(op, from) => {
                let mut operands: Vec<Option<ValueId>> = (from..children.len()).map(value).collect();
                while operands.last() == Some(&None) {
                    operands.pop();
                }
                self.add(op, &operands)?
            }
            Meaning::Projection(result) => match &children[0] {
                Thing::Values(values) => [*values.get(result).ok_or(Trouble::Unlucky)?].into_iter().collect(),
                _ => return Err(Trouble::Unlucky),
            },
            Meaning::Steps(steps) => {
                let mut values: Vec<ValueId> = Vec::new();
                for step in steps.0 {
                    let operands: Vec<Option<ValueId>> = step
                        .operands
                        .iter()
                        .map(|o| match o {
                            Operand::Child(i) => value(*i),
                            Operand::Step(i) => values.get(*i).copied(),
                        })
                        .collect();
                    values.push(self.add(step.op, &operands)?[0]);
                }
                [values.pop().ok_or(Trouble::Unlucky)?].into_iter().collect()
            }
        };
        Ok(Thing::Values(values))
    }

    fn facts(&self, thing: &Thing) -> Facts {
        match thing {
            Thing::Absent => Facts::Absent,
            Thing::Attributes(op) => Facts::Attributes(Arc::new(op.clone())),
            Thing::Values(values) => match values.as_slice() {
                [value] => Facts::Tensor(TensorFacts {
                    ty: self.function.ty(*value).clone(),
                    weight: self.weights.contains(value),
                    users: 0,
                    name: "".into(),
                    root: None,
                    leaf: false,
                    properties: Properties::default(),
                }),
                several => Facts::Tuple(several.iter().map(|v| self.function.ty(*v).clone()).collect()),
            },
        }
    }

    fn add(&mut self, op: Op, operands: &[Option<ValueId>]) -> Made<SmallVec<[ValueId; 2]>> {
        let free = operands.iter().flatten().all(|v| self.weights.contains(v));
        let added = self.function.add(op, operands.iter().copied(), "example");
        let values = added.map_err(|_| Trouble::Unlucky)?;
        if free {
            self.weights.extend(&values);
        }
        Ok(values)
    }

    /// Makes up what a variable shall stand for.
    fn make(&mut self, want: Want) -> Made<Bound> {
        match want {
            Want::Attributes(op) => Ok(Bound::Attributes(op)),
            Want::Absent => Ok(Bound::Absent),
            Want::Activation(sizes, element) => {
                let name = format!("x{}", self.function.arguments().len());
                let ty = TensorType::new(sizes.iter().copied(), element);
                Ok(Bound::Value(self.function.add_argument(&name, ty)))
            }
            Want::Weight(sizes, kind) => {
                let dims: Vec<usize> = sizes.iter().map(|s| usize::try_from(*s).unwrap_or(0)).collect();
                let (tensor, properties) = self.weight(&dims, kind);
                let name = format!("w{}", self.parameters.len());
                let ty = tensor.ty();
                self.parameters.insert_tensor(&name, tensor).map_err(|_| Trouble::Unlucky)?;
                let value = self.function.add_parameter(&name, ty);
                self.weights.insert(value);
                self.properties.insert(value, properties);
                Ok(Bound::Value(value))
            }
        }
    }

    /// A weight of random numbers, and what is known of them.
    fn weight(&mut self, dims: &[usize], kind: Kind) -> (Tensor, Properties) {
        let count: usize = dims.iter().product();
        let random = &mut self.random;
        let floats = |random: &mut Random, centre: f32| (0..count).map(|_| random.unit() + centre).collect();
        let (data, element, properties) = match kind {
            Kind::Any => (Data::F32(floats(random, 0.0)), ElementType::F32, Properties::default()),
            Kind::Positive => (Data::F32(floats(random, 1.1)), ElementType::F32, Properties::POSITIVE),
            Kind::NonZero => {
                let mut number =
                    |_| (random.unit().abs() + 0.1) * if random.below(2) == 0 { 1.0 } else { -1.0 };
                (Data::F32((0..count).map(&mut number).collect()), ElementType::F32, Properties::NONZERO)
            }
            Kind::Orthogonal => {
                let n = dims.first().copied().unwrap_or(0);
                (Data::F64(orthogonal(n, random)), ElementType::F64, Properties::ORTHOGONAL)
            }
            Kind::Permutation => {
                let mut order: Vec<i64> = (0..count as i64).collect();
                for i in (1..count).rev() {
                    order.swap(i, random.below(i as u64 + 1) as usize);
                }
                (Data::I64(order), ElementType::I64, Properties::PERMUTATION)
            }
        };
        let tensor = Tensor { dims: dims.to_vec(), element, data };
        (tensor, properties)
    }

    /// Sizes of a thing that is one tensor.
    pub(super) fn sizes(&self, thing: Option<&Option<Thing>>) -> Made<Vec<i64>> {
        match thing {
            Some(Some(Thing::Values(values))) if values.len() == 1 => {
                Ok(self.function.ty(values[0]).dims.iter().filter_map(Dim::constant).collect())
            }
            _ => Err(Trouble::Unlucky),
        }
    }
}

fn thing(bound: &Bound) -> Thing {
    match bound {
        Bound::Value(v) => Thing::Values([*v].into_iter().collect()),
        Bound::Attributes(op) => Thing::Attributes(op.clone()),
        Bound::Absent => Thing::Absent,
    }
}

/// A random orthogonal matrix: the identity reflected at random planes (Householder).
fn orthogonal(n: usize, random: &mut Random) -> Vec<f64> {
    let mut q: Vec<f64> = (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
    for _ in 0..n {
        let v: Vec<f64> = (0..n).map(|_| f64::from(random.unit()) + 1e-3).collect();
        let norm: f64 = v.iter().map(|x| x * x).sum();
        for row in q.chunks_mut(n) {
            let along: f64 = row.iter().zip(&v).map(|(a, b)| a * b).sum();
            row.iter_mut().zip(&v).for_each(|(a, b)| *a -= 2.0 * along / norm * b);
        }
    }
    q
}
