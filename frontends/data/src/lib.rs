//! Readers of user files: text, token ids, images, `.npy` arrays and tokenizers become plain arrays here.
//!
//! Nothing in this crate knows the IR, a pass or a backend: a caller gets ids, pixels or numbers with a shape and
//! feeds them where it likes. Every reader is bounded (file sizes, pixel counts and header lengths are checked before
//! memory is taken) and every error names the file, the place in it and what to do.

pub mod chat;
mod contain;
pub mod error;
pub mod image;
pub mod images;
pub mod npy;
pub mod preprocess;
pub mod read;
pub mod resize;
pub mod sampler;
pub mod text;
pub mod tokenizer;

pub use chat::{ChatTemplate, Message};
pub use error::{DataError, Result};
pub use image::RgbImage;
pub use images::{ImageBatch, ImageBatches, ImageEntry, ImageInput};
pub use npy::{NpyArray, NpyData};
pub use preprocess::{Layout, Preprocess};
pub use sampler::{Sampler, Sampling};
pub use text::TokenWindows;
pub use tokenizer::{DecodeStream, Tokenizer};

#[cfg(test)]
mod reference;
