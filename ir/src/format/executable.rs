//! Which formats this build computes with: those that have both a reference in the interpreter and kernels. A format that is not among them
//! is an error before any work is done, never a layer that silently stays in float.

use super::{Element, Format, Role, Sharing};
use crate::element::{ScaleType, Storage};

pub(super) fn check(format: &Format) -> Result<(), String> {
    let Element::Coded(storage) = format.element else {
        return if format.is_float() { Ok(()) } else { Err(refusal(format)) };
    };
    let can = match format.role {
        Role::Weight => weight(format, storage),
        Role::Activation if format.dynamic => dynamic_activation(format, storage),
        Role::Activation => static_activation(format, storage),
    };
    if can { Ok(()) } else { Err(refusal(format)) }
}

fn weight(format: &Format, storage: Storage) -> bool {
    if storage.is_split() {
        return !matches!(format.sharing, Sharing::Block(_) | Sharing::Token)
            && format.scale == ScaleType::F32;
    }
    if format.asymmetric || !is_int(storage) {
        return false;
    }
    match format.sharing {
        Sharing::Tensor | Sharing::Channel => format.scale == ScaleType::F32,
        Sharing::Block(n) => {
            matches!(format.scale, ScaleType::F16 | ScaleType::F32) && n % 8 == 0 && (n <= 64 || n % 32 == 0)
        }
        Sharing::Kernel | Sharing::Token => false,
    }
}

fn static_activation(format: &Format, storage: Storage) -> bool {
    (is_int(storage) || matches!(storage, Storage::UInt(2..=8)))
        && format.sharing == Sharing::Tensor
        && format.scale == ScaleType::F32
}

/// Kernels that quantize at run time clamp to symmetric codes.
fn dynamic_activation(format: &Format, storage: Storage) -> bool {
    is_int(storage) && format.sharing == Sharing::Token && format.scale == ScaleType::F32 && format.narrow()
}

fn is_int(storage: Storage) -> bool {
    matches!(storage, Storage::Int(2..=8))
}

fn refusal(format: &Format) -> String {
    let (role, can) = match format.role {
        Role::Weight => (
            "weights",
            "int2 to int8 per tensor or channel with f32 scales, and in blocks of 8, 16, 32, 64, 96, … with f16 or f32 scales, all symmetric, and split2 to split8 per tensor or channel with f32 scales",
        ),
        Role::Activation => (
            "activations",
            "static int2 to int8 and uint2 to uint8 (also `:asym`) per tensor, and dynamic int2 to int8 per token, with f32 scales",
        ),
    };
    format!("format `{format}` is known, but {role} in it cannot be computed with yet; supported are {can}")
}
