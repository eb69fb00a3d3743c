//! Attributes and strings as MLIR prints them.

use std::fmt::Write;

use super::float::{write_f32, write_f64};
use crate::attribute::{Attribute, Dense, DenseData};

/// Constants with more elements than this print as one hexadecimal string, as in MLIR.
const MAX_LISTED_ELEMENTS: usize = 100;

/// Writes `"text"` with MLIR's escapes: everything but printable ASCII becomes `\XX`.
pub(super) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for byte in text.bytes() {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' if byte != b'"' => out.push(char::from(byte)),
            _ => write!(out, "\\{byte:02X}").expect("invariant: writing to a string succeeds"),
        }
    }
    out.push('"');
}

/// Writes an attribute's name: bare where it is an MLIR identifier.
pub(super) fn write_key(out: &mut String, key: &str) {
    let mut bytes = key.bytes();
    let bare = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'.'));
    if bare { out.push_str(key) } else { write_string(out, key) }
}

/// Writes `{a = …, b}`; the entries must be sorted by name. Nothing for no entries.
pub(super) fn write_dictionary<'a>(
    out: &mut String,
    entries: impl IntoIterator<Item = (&'a str, &'a Attribute)>,
) {
    let mut separator = "{";
    for (key, value) in entries {
        out.push_str(separator);
        separator = ", ";
        write_key(out, key);
        if *value != Attribute::Unit {
            out.push_str(" = ");
            write_attribute(out, value, false);
        }
    }
    if separator == ", " {
        out.push('}');
    }
}

/// Writes an attribute; inside an array the types `i64` and `f64` go without saying.
pub(super) fn write_attribute(out: &mut String, attribute: &Attribute, in_array: bool) {
    match attribute {
        Attribute::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Attribute::Int(value) => {
            write_display(out, value);
            if !in_array {
                out.push_str(" : i64");
            }
        }
        Attribute::Float(value) => {
            let as_bits = write_f64(out, value.0);
            if !in_array || as_bits {
                out.push_str(" : f64");
            }
        }
        Attribute::String(text) => write_string(out, text),
        Attribute::Ints(values) => {
            out.push_str("array<i64");
            write_list(out, ": ", values, write_display);
            out.push('>');
        }
        Attribute::Array(items) => {
            out.push('[');
            write_list(out, "", items, |out, item| write_attribute(out, item, true));
            out.push(']');
        }
        Attribute::Type(element) => write_display(out, element),
        Attribute::Dense(dense) => write_dense(out, dense),
        Attribute::Unit => out.push_str("unit"),
    }
}

pub(super) fn write_display(out: &mut String, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("invariant: writing to a string succeeds");
}

/// Writes items with commas between them, after `start` if there are any.
pub(super) fn write_list<T>(
    out: &mut String,
    start: &str,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    let mut separator = start;
    for item in items {
        out.push_str(separator);
        write(out, item);
        separator = ", ";
    }
}

fn write_dense(out: &mut String, dense: &Dense) {
    out.push_str("dense<");
    let n = dense.len();
    if is_splat(&dense.data) {
        write_element(out, &dense.data, 0);
    } else if n > MAX_LISTED_ELEMENTS {
        out.push_str("\"0x");
        for byte in raw_bytes(&dense.data) {
            write!(out, "{byte:02X}").expect("invariant: writing to a string succeeds");
        }
        out.push('"');
    } else if n > 0 {
        write_nested(out, dense, &dense.dims, &mut 0);
    }
    out.push_str("> : ");
    write_display(out, dense.tensor_type());
}

/// Whether there is at least one element and all have the same bits.
fn is_splat(data: &DenseData) -> bool {
    fn same<T: PartialEq>(values: &[T]) -> bool {
        values.first().is_some_and(|first| values.iter().all(|v| v == first))
    }
    match data {
        DenseData::F32(v) => same(v),
        DenseData::I64(v) => same(v),
        DenseData::I32(v) => same(v),
        DenseData::Bool(v) => same(v),
    }
}

fn write_element(out: &mut String, data: &DenseData, at: usize) {
    match data {
        DenseData::F32(v) => write_f32(out, narrow(v[at].0)),
        DenseData::I64(v) => write_display(out, v[at]),
        DenseData::I32(v) => write_display(out, v[at]),
        DenseData::Bool(v) => out.push_str(if v[at] { "true" } else { "false" }),
    }
}

fn write_nested(out: &mut String, dense: &Dense, dims: &[i64], next: &mut usize) {
    let Some((size, inner)) = dims.split_first() else {
        write_element(out, &dense.data, *next);
        *next += 1;
        return;
    };
    out.push('[');
    for i in 0..*size {
        if i > 0 {
            out.push_str(", ");
        }
        write_nested(out, dense, inner, next);
    }
    out.push(']');
}

/// The `f32` that an `f64` holds exactly; a NaN keeps its payload, which an `as` conversion may change.
fn narrow(value: f64) -> f32 {
    if value.is_nan() {
        let bits = value.to_bits();
        let payload = ((bits >> 29) as u32) & 0x007f_ffff;
        return f32::from_bits(
            ((bits >> 32) as u32) & 0x8000_0000 | 0x7f80_0000 | if payload == 0 { 1 << 22 } else { payload },
        );
    }
    value as f32
}

/// The elements as MLIR stores them: little-endian, booleans eight to a byte from the lowest bit.
fn raw_bytes(data: &DenseData) -> Vec<u8> {
    match data {
        DenseData::F32(v) => v.iter().flat_map(|x| narrow(x.0).to_le_bytes()).collect(),
        DenseData::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DenseData::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DenseData::Bool(v) => v
            .chunks(8)
            .map(|bits| bits.iter().enumerate().fold(0, |byte, (i, bit)| byte | u8::from(*bit) << i))
            .collect(),
    }
}
