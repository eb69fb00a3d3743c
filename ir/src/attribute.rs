//! Attributes: the compile-time fields of operations, and how each Rust type maps to an MLIR attribute.
//!
//! [`Attribute`] is the neutral form that the printer writes and the parser reads; [`Field`] converts a typed field from and to it, so an
//! op's fields in the table are plain Rust types and nothing else has to be written for a new attribute.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::dim::Dim;
use crate::element::ElementType;
use crate::types::TensorType;

/// A shared string (parameter names).
pub type Str = Arc<str>;

/// A float with total order, so that operations can be compared and hashed (e-graph, CSE). Equality is bit equality.
#[derive(Clone, Copy)]
pub struct Float(pub f64);

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}
impl Eq for Float {}
impl Hash for Float {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}
impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Float {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
impl fmt::Debug for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A small constant tensor, held in the IR itself (shapes, scalars); weights are parameters instead.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dense {
    /// Sizes, outermost first.
    pub dims: Vec<i64>,
    /// The elements in row-major order; as many as the sizes say.
    pub data: DenseData,
}

/// The elements of a [`Dense`] constant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DenseData {
    /// `f32` elements, each held exactly.
    F32(Vec<Float>),
    /// `i64` elements.
    I64(Vec<i64>),
    /// `i32` elements.
    I32(Vec<i32>),
    /// `i1` elements.
    Bool(Vec<bool>),
}

impl Dense {
    /// A rank-0 `f32` constant.
    pub fn scalar(value: f32) -> Dense {
        Dense { dims: Vec::new(), data: DenseData::F32(vec![Float(f64::from(value))]) }
    }

    /// An `f32` constant of the given sizes.
    pub fn f32(dims: &[i64], values: &[f32]) -> Dense {
        Dense {
            dims: dims.to_vec(),
            data: DenseData::F32(values.iter().map(|v| Float(f64::from(*v))).collect()),
        }
    }

    /// An `i64` constant of the given sizes.
    pub fn i64(dims: &[i64], values: &[i64]) -> Dense {
        Dense { dims: dims.to_vec(), data: DenseData::I64(values.to_vec()) }
    }

    /// The type of the constant.
    pub fn tensor_type(&self) -> TensorType {
        let element = match self.data {
            DenseData::F32(_) => ElementType::F32,
            DenseData::I64(_) => ElementType::I64,
            DenseData::I32(_) => ElementType::I32,
            DenseData::Bool(_) => ElementType::Bool,
        };
        TensorType::new(self.dims.iter().copied(), element)
    }

    /// How many elements the data holds.
    pub fn len(&self) -> usize {
        match &self.data {
            DenseData::F32(v) => v.len(),
            DenseData::I64(v) => v.len(),
            DenseData::I32(v) => v.len(),
            DenseData::Bool(v) => v.len(),
        }
    }

    /// Whether the constant has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An MLIR attribute, as far as the dialect uses them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attribute {
    /// `true` / `false`.
    Bool(bool),
    /// `1 : i64`.
    Int(i64),
    /// `1.000000e-05 : f64`.
    Float(Float),
    /// `"text"`.
    String(Str),
    /// `array<i64: 1, 2>`.
    Ints(Vec<i64>),
    /// `["a", "b"]`, also of nested attributes.
    Array(Vec<Attribute>),
    /// An element type, as a type attribute.
    Type(ElementType),
    /// `dense<…> : tensor<…>`.
    Dense(Dense),
    /// `unit` (only as a discardable attribute).
    Unit,
}

/// A Rust type that can be the field of an operation.
pub trait Field: Sized {
    /// Name of the IRDL constraint for this attribute; see the IRDL generator.
    const CONSTRAINT: &'static str;
    /// What a person should write, for error messages.
    const EXPECTED: &'static str;
    /// As an attribute.
    fn to_attribute(&self) -> Attribute;
    /// From an attribute; `None` when it is of another kind.
    fn from_attribute(attribute: &Attribute) -> Option<Self>;
    /// What an operation has whose text lacks the attribute; `None` where it must be there.
    fn unless_given() -> Option<Self> {
        None
    }
}

macro_rules! field {
    ($ty:ty, $constraint:literal, $expected:literal, $variant:ident, $to:expr, $from:expr) => {
        impl Field for $ty {
            const CONSTRAINT: &'static str = $constraint;
            const EXPECTED: &'static str = $expected;
            fn to_attribute(&self) -> Attribute {
                #[allow(clippy::redundant_closure_call)]
                Attribute::$variant(($to)(self))
            }
            fn from_attribute(attribute: &Attribute) -> Option<Self> {
                match attribute {
                    #[allow(clippy::redundant_closure_call)]
                    Attribute::$variant(x) => ($from)(x),
                    _ => None,
                }
            }
        }
    };
}

field!(bool, "bool", "`true` or `false`", Bool, |x: &bool| *x, |x: &bool| Some(*x));
field!(i64, "i64", "an `i64` integer", Int, |x: &i64| *x, |x: &i64| Some(*x));
field!(Float, "f64", "an `f64` number", Float, |x: &Float| *x, |x: &Float| Some(*x));
field!(Str, "string", "a string", String, Str::clone, |x: &Str| Some(x.clone()));
field!(Vec<i64>, "ints", "an `array<i64: …>`", Ints, Vec::clone, |x: &Vec<i64>| Some(x.clone()));
field!(ElementType, "type", "an element type", Type, |x: &ElementType| *x, |x: &ElementType| Some(*x));
field!(Dense, "dense", "a `dense<…>` constant", Dense, Dense::clone, |x: &Dense| Some(x.clone()));
field!(
    Vec<Float>,
    "array",
    "an array of `f64` numbers",
    Array,
    |x: &Vec<Float>| x.iter().map(|v| Attribute::Float(*v)).collect(),
    |x: &Vec<Attribute>| x
        .iter()
        .map(|a| match a {
            Attribute::Float(v) => Some(*v),
            _ => None,
        })
        .collect()
);
field!(
    Dim,
    "string",
    "a size as a string, e.g. `\"T\"` or `\"256\"`",
    String,
    |x: &Dim| x.to_string().into(),
    |x: &Str| Dim::parse(x)
);
field!(
    Vec<Dim>,
    "array",
    "an array of sizes as strings, e.g. `[\"B\", \"256\"]`",
    Array,
    |x: &Vec<Dim>| x.iter().map(|d| Attribute::String(d.to_string().into())).collect(),
    |x: &Vec<Attribute>| x
        .iter()
        .map(|a| match a {
            Attribute::String(s) => Dim::parse(s),
            _ => None,
        })
        .collect()
);

/// Declares a field-less enum that is stored as a string attribute; with `Name or Default`, text may leave the attribute out.
#[macro_export]
macro_rules! keyword_enum {
    ($(#[$doc:meta])* $name:ident $(or $default:ident)? { $( $(#[$vdoc:meta])* $variant:ident = $text:literal ),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$vdoc])* $variant ),* }
        impl $name {
            /// The keyword in IR text.
            pub fn keyword(self) -> &'static str {
                match self { $( $name::$variant => $text ),* }
            }
        }
        impl $crate::attribute::Field for $name {
            const CONSTRAINT: &'static str = $crate::keyword_enum!(@constraint $($default)?);
            const EXPECTED: &'static str = concat!("one of", $( " `", $text, "`" ),*);
            fn to_attribute(&self) -> $crate::attribute::Attribute {
                $crate::attribute::Attribute::String(self.keyword().into())
            }
            fn from_attribute(attribute: &$crate::attribute::Attribute) -> Option<Self> {
                match attribute {
                    $crate::attribute::Attribute::String(s) => match &**s { $( $text => Some($name::$variant), )* _ => None },
                    _ => None,
                }
            }
            $(
                fn unless_given() -> Option<Self> {
                    Some($name::$default)
                }
            )?
        }
    };
    (@constraint) => { "string" };
    (@constraint $default:ident) => { "optional" };
}
