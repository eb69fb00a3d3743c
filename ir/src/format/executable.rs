//! Which formats this build computes with: those that have both a reference in the interpreter and kernels. A format that is not among them
//! is an error before any work is done, never a layer that silently stays in float.

use super::{Element, Format, Role, Sharing};
use crate::element::{ScaleType, Storage};

pub(super) fn check(format: &Format) -> Result<(), String> {
    let Some(storage) = format.storage() else { return Ok(()) };
    let refused = match format.role {
        Role::Weight => weight(format, storage),
        Role::Activation => activation(format, storage),
    };
    match refused {
        None => Ok(()),
        Some((what, why)) => {
            Err(format!("format `{format}` is known, but {what} in it cannot be computed with: {why}"))
        }
    }
}

fn weight(format: &Format, storage: Storage) -> Option<(&'static str, &'static str)> {
    let split =
        storage.is_split() && (matches!(format.sharing, Sharing::Block(_)) || format.scale != ScaleType::F32);
    let codebook = storage.has_codebook() && format.scale == ScaleType::E4M3;
    if split {
        return Some(("weights", "split codes share tables per tensor or channel, with f32 scales"));
    }
    codebook.then_some(("weights", "a codebook has no tensor scale, which E4M3 scales need"))
}

fn activation(format: &Format, storage: Storage) -> Option<(&'static str, &'static str)> {
    const WHAT: &str = "activations";
    if storage.is_split() || storage.has_codebook() {
        return Some((
            WHAT,
            "levels of clusters and codebooks are found in weights, when a model is compiled",
        ));
    }
    if storage.bits() > 8 {
        return Some((WHAT, "codes of activations have at most 8 bits"));
    }
    if matches!(storage, Storage::Fixed { .. }) && format.dynamic {
        return Some((WHAT, "fixed point has no scales to find; leave `dynamic` out"));
    }
    if matches!(storage, Storage::Ternary | Storage::Binary) && format.dynamic {
        return Some((WHAT, "scales of least squared error are found in weights; give it `:static`"));
    }
    let two_scales = !matches!(format.element, Element::Standard(_)) && format.scale == ScaleType::E4M3;
    if two_scales {
        return Some((WHAT, "E4M3 scales of activations are NVFP4's; use `nvfp4`"));
    }
    if !format.dynamic && format.scale != ScaleType::F32 {
        return Some((WHAT, "static scales are f32"));
    }
    (format.dynamic && format.sharing == Sharing::Channel)
        .then_some((WHAT, "scales of features are measured beforehand; leave `dynamic` out"))
}
