//! What is known of each e-class: its type, whether it is computed from weights alone, who uses it. Classes merge only with the same type.

use std::collections::BTreeMap;
use std::sync::Arc;

use egg::{Analysis, DidMerge, EGraph, Id, Language};
use qcc_ir::{Op, Str, TensorType, ValueId};
use smallvec::SmallVec;

use super::heads::{Meaning, Operand, meaning, result_types};
use super::language::Term;

/// The e-graph of a function.
pub type Graph = EGraph<Term, Typing>;

/// What is known of an e-class.
#[derive(Clone, Debug, PartialEq)]
pub enum Facts {
    /// It is an absent operand.
    Absent,
    /// It is the attributes of an operation.
    Attributes(Arc<Op>),
    /// It is a tensor.
    Tensor(TensorFacts),
    /// It is all results of an operation with several, of these types.
    Tuple(SmallVec<[TensorType; 2]>),
}

/// What is known of an e-class of tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorFacts {
    /// The type.
    pub ty: TensorType,
    /// Whether it can be computed from weights and constants alone, without decoding codes.
    pub weight: bool,
    /// How many operations and results of the function use it; 0 for tensors only rules made.
    pub users: usize,
    /// Its source in the model.
    pub name: Str,
    /// For a weight: the value of the function that it is made from, first operands first.
    pub root: Option<ValueId>,
    /// Whether it is a weight or constant of the function as it stands.
    pub leaf: bool,
    /// What is known of its elements.
    pub properties: Properties,
}

/// What is known of the elements of a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// A square matrix whose inverse is its transpose.
    pub orthogonal: bool,
    /// All elements are above zero.
    pub positive: bool,
    /// No element is zero.
    pub nonzero: bool,
    /// Every index from 0 on, once.
    pub permutation: bool,
}

impl Properties {
    /// Of an orthogonal matrix.
    pub const ORTHOGONAL: Properties =
        Properties { orthogonal: true, positive: false, nonzero: false, permutation: false };
    /// Of positive elements.
    pub const POSITIVE: Properties =
        Properties { orthogonal: false, positive: true, nonzero: true, permutation: false };
    /// Of elements other than zero.
    pub const NONZERO: Properties =
        Properties { orthogonal: false, positive: false, nonzero: true, permutation: false };
    /// Of a permutation's indices.
    pub const PERMUTATION: Properties =
        Properties { orthogonal: false, positive: false, nonzero: false, permutation: true };

    /// What holds if either holds.
    #[must_use]
    pub fn or(self, other: Properties) -> Properties {
        Properties {
            orthogonal: self.orthogonal || other.orthogonal,
            positive: self.positive || other.positive,
            nonzero: self.nonzero || other.nonzero,
            permutation: self.permutation || other.permutation,
        }
    }
}

impl Facts {
    /// The facts of a tensor.
    pub fn tensor(&self) -> Option<&TensorFacts> {
        match self {
            Facts::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The attributes.
    pub fn attributes(&self) -> Option<&Op> {
        match self {
            Facts::Attributes(op) => Some(op),
            _ => None,
        }
    }

    /// Whether it costs nothing while the model runs.
    pub fn is_free(&self) -> bool {
        match self {
            Facts::Tensor(t) => t.weight,
            Facts::Tuple(_) => false,
            Facts::Absent | Facts::Attributes(_) => true,
        }
    }
}

/// The analysis: facts of the function's values, and what rules leave behind.
#[derive(Clone, Debug, Default)]
pub struct Typing {
    /// Facts of the values of the function, by index.
    pub values: Vec<Option<TensorFacts>>,
    /// The source of an operation: given, or that of the operation it was made from.
    pub sources: BTreeMap<Term, Str>,
    /// Rules whose right sides were ill-typed.
    pub errors: Vec<String>,
}

/// The facts of a term, from those of its children.
///
/// # Errors
/// When it is ill-typed.
pub fn facts(graph: &Graph, term: &Term) -> Result<Facts, String> {
    match term {
        Term::Value(v) | Term::Framed(v, _) => {
            let known = graph.analysis.values.get(v.index()).cloned().flatten();
            known.map(Facts::Tensor).ok_or_else(|| format!("{v} is no value of the function"))
        }
        Term::Attributes(op) => Ok(Facts::Attributes(op.clone())),
        Term::Absent => Ok(Facts::Absent),
        Term::Apply(head, children) => {
            let children: SmallVec<[&Facts; 8]> = children.iter().map(|c| &graph[*c].data).collect();
            let mut types = result_types(head, &children)?;
            if types.len() != 1 {
                return Ok(Facts::Tuple(types));
            }
            let ty = types.remove(0);
            let weight = match meaning(head, &children)? {
                // Codes stay codes: an expression that decodes them could not be lowered any more.
                Meaning::Op(Op::Dequantize {} | Op::Iota { .. }, _) | Meaning::Projection(_) => false,
                Meaning::Op(_, from) => children[from..].iter().all(|c| c.is_free()),
                Meaning::Steps(steps) => {
                    let operands = steps.0.iter().flat_map(|s| &s.operands);
                    operands.copied().all(|o| match o {
                        Operand::Child(i) => children[i].is_free(),
                        Operand::Step(_) => true,
                    })
                }
            };
            let first = children.iter().find_map(|c| c.tensor());
            Ok(Facts::Tensor(TensorFacts {
                ty,
                weight,
                users: 0,
                name: first.map_or_else(|| "".into(), |t| t.name.clone()),
                root: if weight { first.and_then(|t| t.root) } else { None },
                leaf: false,
                properties: derived(head, &children),
            }))
        }
    }
}

/// What is known of the elements of an application.
fn derived(head: &str, children: &[&Facts]) -> Properties {
    let of = |i: usize| children.get(i).and_then(|c| c.tensor()).map(|t| t.properties).unwrap_or_default();
    match head {
        "reciprocal" => Properties { orthogonal: false, permutation: false, ..of(0) },
        "mul" | "div" | "scale" => Properties {
            positive: of(0).positive && of(1).positive,
            nonzero: of(0).nonzero && of(1).nonzero,
            ..Properties::default()
        },
        "ones" => Properties::POSITIVE,
        _ => Properties::default(),
    }
}

impl Analysis<Term> for Typing {
    type Data = Facts;

    fn make(graph: &mut Graph, term: &Term, _: Id) -> Facts {
        facts(graph, term).expect("invariant: a term is typed before it is added")
    }

    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        match (a, b) {
            (Facts::Tensor(a), Facts::Tensor(b)) => {
                assert!(a.ty == b.ty, "invariant: {:?} and {:?} cannot be equal", a.ty, b.ty);
                let merged = TensorFacts {
                    ty: b.ty.clone(),
                    weight: a.weight || b.weight,
                    users: a.users + b.users,
                    name: if a.users == 0 && b.users > 0 { b.name.clone() } else { a.name.clone() },
                    root: a.root.into_iter().chain(b.root).min(),
                    leaf: a.leaf || b.leaf,
                    properties: a.properties.or(b.properties),
                };
                let did = DidMerge(merged != *a, merged != b);
                *a = merged;
                did
            }
            (a, b) => {
                assert!(
                    *a == b,
                    "invariant: attributes, absent operands and tuples are equal only to themselves"
                );
                DidMerge(false, false)
            }
        }
    }
}

/// A term with its children's present classes.
pub fn canonical(graph: &Graph, term: &Term) -> Term {
    term.clone().map_children(|c| graph.find(c))
}

/// The source of a chosen term: that of the operation it was made from, else of its class.
pub fn source(graph: &Graph, class: Id, term: &Term) -> Str {
    let given = graph.analysis.sources.get(term).cloned();
    given.unwrap_or_else(|| graph[class].data.tensor().map_or_else(|| "".into(), |t| t.name.clone()))
}
