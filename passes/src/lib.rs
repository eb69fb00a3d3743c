//! Passes over the IR: the [`Pass`] trait, the registry, textual pipelines with instrumentation, and the passes themselves.
//!
//! | stage | pass |
//! | --- | --- |
//! | clean up | `canonicalize`, `split-projections` |
//! | equivalence | `fold-batch-norm`, `equalize`, `rewrite` |
//! | rotate, scale, shift, sort | `transform`, `rotate-residual`, `rotate-heads`, `rotate-online`, `smooth`, `shift`, `permute` |
//! | scale and rotate states | `smooth-window`, `smooth-state`, `rotate-state` |
//! | sort and rotate features of cached keys | `rearrange-kv-channels`, `rotate-keys` |
//! | decompose layers into sums | `split`, `low-rank`, `outlier-columns` |
//! | measure | `calibrate` |
//! | choose formats of single layers | `override`, `search-formats`, `protect` |
//! | apply formats | `quantize`, `lower-quantized`, `quantize-kv-cache` |
//! | prepare for a backend | `channels-last`, `plan-memory` |
//!
//! **Architecture invariants.** A pass knows no frontend and no backend: it sees the IR, the parameter table, and, through traits, something
//! that runs modules ([`Executor`]) and something that gives inputs ([`Samples`]). Every pass reports what it did; doing nothing is said.
//! Passes of [plugins](plugin) are passes like all others.

pub mod assign;
pub mod calibrate;
pub mod canonicalize;
pub mod channels_last;
pub mod context;
pub mod decompose;
pub mod equalize;
pub mod equivalence;
#[cfg(test)]
mod fixture;
pub mod instrument;
mod kept_files;
pub mod kv_cache;
mod observe;
pub mod pass;
pub mod pipeline;
pub mod plan_memory;
pub mod plugin;
pub mod quantize;
mod random;
pub mod registry;
mod rounding;
pub mod split_projections;
pub mod state_space;
pub mod transform;
pub mod verify_each;
mod weights;

pub use context::{Context, Executor, Prepared, Progress, Samples, SilentProgress, Warning};
pub use instrument::{Instrumentation, PrintAfter, Timing};
pub use kept_files::KeptFiles;
pub use observe::cut;
pub use pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};
pub use pipeline::Pipeline;
pub use registry::{Registered, Registry};
