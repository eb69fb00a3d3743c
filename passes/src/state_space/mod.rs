//! Transforms of what is inside a state-space block (MambaQuant, arXiv 2501.13484, table of section 1.4), each wherever it is legal:
//!
//! | pass | what | there |
//! | --- | --- | --- |
//! | `smooth-window` | inputs of the causal convolution scaled, its taps scaled back | S7 |
//! | `smooth-state` | the state axis N: `B / s`, `C · s`, and the state with them | S4 |
//! | `smooth-state{axis=channel}` | the states `h / s` before the product `h · C`, its result times `s` | S3 |
//! | `rotate-state` | a Hadamard transform of the state axis of `h` and `C` | R4 |
//! | `rotate-state{axis=channel}` | a Hadamard transform of the channels of `h`, and back behind the product | R3 |
//!
//! They make windows, states and `C` easier to round. As long as the convolution and the scan compute with floats nothing is gained, so
//! `transform` does not choose them; those of the states but S4 are work while the model runs. The caller's states stay as they are:
//! where they are scaled inside, they are scaled on the way in and back on the way out.

mod apply;
mod measure;
mod pass;
mod site;
#[cfg(test)]
mod tests;

pub use pass::INFOS;
