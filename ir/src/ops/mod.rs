//! The operations. [`table`] is the one place where an operation is declared; the [`Op`] enum, its names, attribute conversion, the IRDL
//! file, the e-graph language and the reference documentation all come from it.
//!
//! To add an operation: declare it in `table.rs`, give its shape rule in `infer/`, its meaning in the interpreter, its code in the backends.

mod interpolation;
mod keyword;
mod table;

use std::collections::BTreeMap;

pub use interpolation::Neighbours;
pub use keyword::{
    CoordinateTransform, ImageLayout, NearestRounding, PadMode, ResizeMode, Rounding, Special,
};
pub use table::{Op, TABLE};

use crate::attribute::Attribute;

/// How many values an operand or result group takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one.
    Single,
    /// None or one.
    Optional,
    /// Any number; only as the last group.
    Variadic,
}

/// What the table says of one operation.
#[derive(Debug)]
pub struct OpSpec {
    /// Name without the dialect: `linear`.
    pub name: &'static str,
    /// Documentation, as in the table.
    pub doc: &'static str,
    /// Operand groups in order.
    pub operands: &'static [(&'static str, Arity)],
    /// Result groups in order.
    pub results: &'static [(&'static str, Arity)],
    /// Attribute names with their IRDL constraint names.
    pub attributes: &'static [(&'static str, &'static str)],
}

impl OpSpec {
    /// Whether the operand (or result) groups need explicit segment sizes in MLIR text: more than one group of varying length.
    pub fn needs_segments(groups: &[(&'static str, Arity)]) -> bool {
        groups.iter().filter(|(_, a)| *a != Arity::Single).count() > 1
    }

    /// The operation of this name.
    pub fn find(name: &str) -> Option<&'static OpSpec> {
        TABLE.iter().find(|spec| spec.name == name)
    }
}

/// Why attributes do not make an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// No such operation.
    #[error("unknown operation `qcc.{0}`")]
    UnknownOp(String),
    /// A field is absent.
    #[error("`qcc.{op}` needs the attribute `{name}` ({expected})")]
    Missing {
        /// Operation name.
        op: &'static str,
        /// Attribute name.
        name: &'static str,
        /// What to write.
        expected: &'static str,
    },
    /// A field is of another kind.
    #[error("attribute `{name}` of `qcc.{op}` must be {expected}")]
    Kind {
        /// Operation name.
        op: &'static str,
        /// Attribute name.
        name: &'static str,
        /// What to write.
        expected: &'static str,
    },
}

/// Attributes by name, as parsed.
pub type AttributeMap = BTreeMap<String, Attribute>;
