//! `u32` newtypes that name entities of one function, in the manner of cranelift's `entity` crate: ids of one function mean nothing in
//! another, and an operation id can never be used where a value id belongs.

use std::fmt;

macro_rules! entity {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            /// The id of the `index`-th entity of its function.
            pub fn new(index: usize) -> Self {
                Self(u32::try_from(index).expect("invariant: fewer than 2^32 entities in a function"))
            }

            /// Position in the function's arena.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

entity!(
    /// An operation (a node of the DAG).
    OpId,
    "op"
);
entity!(
    /// A value: a function argument or a result of an operation.
    ValueId,
    "v"
);
