//! Tests of the ONNX frontend: operators against ONNX's own cases, whole models against ONNX Runtime, errors, and hostile files.
//! Every case is a test of its own name.

mod cases;
mod compare;
mod encode;
mod hostile;
mod models;
mod nodes;
mod refusals;

use std::path::PathBuf;

use libtest_mimic::{Arguments, Trial};

/// The committed vectors, made by `tools/onnx-vectors`.
fn vectors() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../test/frontends/onnx")
}

fn main() {
    let trials: Vec<Trial> = [nodes::trials(), models::trials(), refusals::trials(), hostile::trials()]
        .into_iter()
        .flatten()
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
