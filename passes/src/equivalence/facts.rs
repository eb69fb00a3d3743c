//! What is known of each e-class: its type, whether it is computed from weights alone, who uses it. Classes merge only with the same type.

use std::collections::BTreeMap;
use std::sync::Arc;

use egg::{Analysis, DidMerge, EGraph, Id, Language};
use qcc_ir::{Op, Str, TensorType};

use super::heads::{Meaning, meaning, result_type};
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
        self.tensor().is_none_or(|t| t.weight)
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
        Term::Value(v) => {
            let known = graph.analysis.values.get(v.index()).cloned().flatten();
            known.map(Facts::Tensor).ok_or_else(|| format!("{v} is no value of the function"))
        }
        Term::Attributes(op) => Ok(Facts::Attributes(op.clone())),
        Term::Absent => Ok(Facts::Absent),
        Term::Apply(head, children) => {
            let children: Vec<&Facts> = children.iter().map(|c| &graph[*c].data).collect();
            let ty = result_type(head, &children)?;
            let weight = match meaning(head, &children)? {
                // Codes stay codes: an expression that decodes them could not be lowered any more.
                Meaning::Op(Op::Dequantize {}, _) => false,
                Meaning::Op(_, from) => children[from..].iter().all(|c| c.is_free()),
                Meaning::Chain(child, _) => children[child].is_free(),
            };
            let name = children.iter().find_map(|c| c.tensor()).map_or_else(|| "".into(), |t| t.name.clone());
            Ok(Facts::Tensor(TensorFacts { ty, weight, users: 0, name }))
        }
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
                let (weight, users) = (a.weight || b.weight, a.users + b.users);
                if a.users == 0 && b.users > 0 {
                    a.name = b.name.clone();
                }
                let changed = |t: &TensorFacts| t.weight != weight || t.users != users;
                let merged = DidMerge(changed(a), changed(&b));
                (a.weight, a.users) = (weight, users);
                merged
            }
            (a, b) => {
                assert!(*a == b, "invariant: attributes and absent operands are equal only to themselves");
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
