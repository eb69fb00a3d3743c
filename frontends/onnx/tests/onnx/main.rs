//! Tests of the ONNX frontend: operators against ONNX's own cases, whole models against ONNX Runtime, errors, hostile files, and what
//! transforms find in models that come this way.
//! Every case is a test of its own name.

mod cases;
mod compare;
mod encode;
mod hostile;
mod models;
mod nodes;
mod refusals;
mod transforms;

use std::path::PathBuf;

use libtest_mimic::{Arguments, Trial};

/// The committed vectors, made by `tools/onnx-vectors`.
fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../test/frontends/onnx")
}

fn main() {
    let trials =
        [nodes::trials(), models::trials(), refusals::trials(), hostile::trials(), transforms::trials()];
    let trials: Vec<Trial> = trials.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
