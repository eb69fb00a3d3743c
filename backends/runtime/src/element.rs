//! Element types of inputs, outputs and states, as they lie in memory (little-endian).

/// An element type. The discriminant is its code in the C interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Element {
    /// IEEE single precision.
    F32 = 0,
    /// IEEE half precision.
    F16 = 1,
    /// bfloat16.
    BF16 = 2,
    /// IEEE double precision.
    F64 = 3,
    /// Signed bytes.
    I8 = 4,
    /// Unsigned bytes.
    U8 = 5,
    /// Signed 16-bit integers.
    I16 = 6,
    /// Unsigned 16-bit integers.
    U16 = 7,
    /// Signed 32-bit integers.
    I32 = 8,
    /// Unsigned 32-bit integers.
    U32 = 9,
    /// Signed 64-bit integers.
    I64 = 10,
    /// Unsigned 64-bit integers.
    U64 = 11,
    /// A byte, 0 or 1.
    Bool = 12,
}

impl Element {
    /// All element types, in the order of their codes.
    pub const ALL: [Element; 13] = {
        use Element::{BF16, Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
        [F32, F16, BF16, F64, I8, U8, I16, U16, I32, U32, I64, U64, Bool]
    };

    /// Its name in a program's ports.
    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::BF16 => "bf16",
            Element::F64 => "f64",
            Element::I8 => "i8",
            Element::U8 => "u8",
            Element::I16 => "i16",
            Element::U16 => "u16",
            Element::I32 => "i32",
            Element::U32 => "u32",
            Element::I64 => "i64",
            Element::U64 => "u64",
            Element::Bool => "bool",
        }
    }

    /// The element type of this name.
    pub fn named(name: &str) -> Option<Element> {
        Self::ALL.into_iter().find(|e| e.name() == name)
    }

    /// Bytes an element takes.
    pub fn bytes(self) -> u64 {
        match self {
            Element::I8 | Element::U8 | Element::Bool => 1,
            Element::F16 | Element::BF16 | Element::I16 | Element::U16 => 2,
            Element::F32 | Element::I32 | Element::U32 => 4,
            Element::F64 | Element::I64 | Element::U64 => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_agree() {
        for (code, element) in Element::ALL.into_iter().enumerate() {
            assert_eq!(element as i32, code as i32);
            assert_eq!(Element::named(element.name()), Some(element));
        }
        assert_eq!(Element::named("i4"), None);
    }
}
