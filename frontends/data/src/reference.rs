//! What tests share: where the models and data that are not in the repository lie, and the data whose results other
//! people's software was asked for. Hashes in tests are of those results (Pillow, NumPy, Python's `tokenizers`).

use std::path::PathBuf;

use crate::image::RgbImage;

/// The path of `name` in the folder of shared models and data beside the checkout, or `None` (and a line that says
/// so) where it is absent.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: shared/{name} is not beside this checkout");
    None
}

/// Pixels from a linear congruential generator (Numerical Recipes' constants, seed 12345, the high bytes).
pub fn noise(width: u32, height: u32) -> RgbImage {
    let mut state = 12345u32;
    let pixels = (0..width * height * 3).map(|_| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 24) as u8
    });
    RgbImage::new(width, height, pixels.collect()).unwrap()
}

/// FNV-1a, 64 bits.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf29ce484222325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100000001b3))
}

/// Overwrites a few bytes of `original` at random, or cuts it, differently for each `seed`.
pub fn damaged(original: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut bytes = original.to_vec();
    for _ in 0..1 + random(6) {
        let at = random(bytes.len());
        bytes[at] = random(256) as u8;
    }
    if random(4) == 0 {
        bytes.truncate(random(original.len()));
    }
    bytes
}
