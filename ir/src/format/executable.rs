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
    if format.asymmetric {
        return false;
    }
    match (storage, format.sharing) {
        (Storage::Int(4), Sharing::Block(n)) => {
            format.scale == ScaleType::F16 && n % 8 == 0 && (n <= 64 || n % 32 == 0)
        }
        (Storage::Int(8 | 4), Sharing::Tensor | Sharing::Channel) => format.scale == ScaleType::F32,
        _ => false,
    }
}

fn static_activation(format: &Format, storage: Storage) -> bool {
    matches!(storage, Storage::Int(8 | 4) | Storage::UInt(8))
        && format.sharing == Sharing::Tensor
        && format.scale == ScaleType::F32
}

/// Kernels that quantize at run time clamp to symmetric codes.
fn dynamic_activation(format: &Format, storage: Storage) -> bool {
    matches!(storage, Storage::Int(8 | 4))
        && format.sharing == Sharing::Token
        && format.scale == ScaleType::F32
        && format.narrow()
}

fn refusal(format: &Format) -> String {
    let (role, can) = match format.role {
        Role::Weight => (
            "weights",
            "int8 and int4 per tensor or channel with f32 scales and int4 in blocks of 8, 16, 32, 64, 96, … with f16 scales, all symmetric",
        ),
        Role::Activation => (
            "activations",
            "static int8, uint8 (also `:asym`) and int4 per tensor, and dynamic int8 and int4 per token, with f32 scales",
        ),
    };
    format!("format `{format}` is known, but {role} in it cannot be computed with yet; supported are {can}")
}
