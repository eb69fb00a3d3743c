//! The language of the e-graph: operations of the IR's op table, and a few heads that only rules use.
//!
//! An e-node is `(head attributes operand…)`: the attributes are one leaf that carries the whole [`Op`], present when the operation has
//! fields; absent optional operands are `none`. Leaves are values of the function: arguments, weights, constants, and results of operations
//! with several results, which stay as they are.

use std::fmt;
use std::sync::Arc;

use egg::{Id, Language};
use qcc_ir::{Op, OpSpec, ValueId, ops::AttributeMap};
use smallvec::SmallVec;

/// An e-node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// A value of the function that is not taken apart.
    Value(ValueId),
    /// A value of the function in a frame: as it is when what makes it was transformed.
    Framed(ValueId, u8),
    /// The attributes of an operation.
    Attributes(Arc<Op>),
    /// An absent operand.
    Absent,
    /// A head on its children.
    Apply(&'static str, SmallVec<[Id; 6]>),
}

impl Language for Term {
    type Discriminant = (std::mem::Discriminant<Term>, &'static str, usize);

    fn discriminant(&self) -> Self::Discriminant {
        let (head, len) = match self {
            Term::Apply(head, children) => (*head, children.len()),
            _ => ("", 0),
        };
        (std::mem::discriminant(self), head, len)
    }

    fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Term::Apply(a, x), Term::Apply(b, y)) => a == b && x.len() == y.len(),
            (Term::Apply(..), _) | (_, Term::Apply(..)) => false,
            (a, b) => a == b,
        }
    }

    fn children(&self) -> &[Id] {
        match self {
            Term::Apply(_, children) => children,
            _ => &[],
        }
    }

    fn children_mut(&mut self) -> &mut [Id] {
        match self {
            Term::Apply(_, children) => children,
            _ => &mut [],
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::Value(v) => write!(f, "{v}"),
            Term::Framed(v, frame) => write!(f, "{v}@{frame}"),
            Term::Attributes(op) => write!(f, "{op:?}"),
            Term::Absent => f.write_str("none"),
            Term::Apply(head, _) => f.write_str(head),
        }
    }
}

impl Term {
    /// The head, of an application.
    pub fn head(&self) -> Option<&'static str> {
        match self {
            Term::Apply(head, _) => Some(head),
            _ => None,
        }
    }
}

/// Whether the first child of this operation is its attributes.
pub fn has_attributes(spec: &OpSpec) -> bool {
    !spec.attributes.is_empty()
}

/// The operation of this name, if it has no fields.
pub fn plain_op(name: &str) -> Option<Op> {
    Op::from_attributes(name, &mut AttributeMap::new()).ok()
}
