//! Which layers are split; every pipeline here proves itself in f64.

use qcc_ir::{Op, ValueId};

use crate::fixture::Fixture;

fn slice(f: &mut Fixture, x: ValueId, axis: i64, start: i64, end: i64) -> ValueId {
    f.op(Op::Slice { axes: vec![axis], starts: vec![start], ends: vec![end], steps: vec![1] }, &[x])
}

/// A layer from 4 to 6 features over `[B, 3, 4]`, with or without a bias, and its result.
fn layer(bias: bool) -> (Fixture, ValueId) {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,4");
    let mut operands = vec![x, f.weight("w", &[6, 4])];
    if bias {
        operands.push(f.weight("b", &[6]));
    }
    let y = f.op(Op::Linear {}, &operands);
    (f, y)
}

#[test]
fn each_slice_becomes_a_layer() {
    for bias in [false, true] {
        let (mut f, y) = layer(bias);
        // Not in order, and a feature that nothing reads.
        for (start, end) in [(3, 6), (0, 2)] {
            let part = slice(&mut f, y, 2, start, end);
            f.result(part);
        }
        let after = f.run("split-projections,canonicalize");
        assert_eq!(after.ops(), ["linear", "linear"]);
        let weights = after.weights();
        assert_eq!(weights.iter().filter(|w| w.starts_with("w[")).count(), 2, "{weights:?}");
        assert_eq!(weights.iter().filter(|w| w.starts_with("b[")).count(), if bias { 2 } else { 0 });
        let names = after
            .function
            .order()
            .iter()
            .map(|id| after.function.node(*id))
            .filter(|n| n.op == Op::Linear {});
        let names: Vec<&str> = names.map(|n| &*n.location).collect();
        assert!(
            names.iter().any(|n| n.ends_with("[0:2]")) && names.iter().any(|n| n.ends_with("[3:6]")),
            "{names:?}"
        );
    }
}

#[test]
fn a_result_that_is_read_whole_stays() {
    let (mut f, y) = layer(false);
    let part = slice(&mut f, y, 2, 0, 2);
    f.result(part);
    let other = f.op(Op::Relu {}, &[y]);
    f.result(other);
    assert_eq!(f.run("split-projections").count("layers"), 0);
    let (mut f, y) = layer(false);
    let part = slice(&mut f, y, 2, 0, 2);
    f.result(part);
    f.result(y);
    assert_eq!(f.run("split-projections").count("layers"), 0);
}

#[test]
fn slices_of_rows_and_slices_that_overlap_stay() {
    let (mut f, y) = layer(false);
    for (start, end) in [(0, 1), (1, 3)] {
        let part = slice(&mut f, y, 1, start, end);
        f.result(part);
    }
    assert_eq!(f.run("split-projections").count("layers"), 0);
    let (mut f, y) = layer(false);
    for (start, end) in [(0, 4), (2, 6)] {
        let part = slice(&mut f, y, 2, start, end);
        f.result(part);
    }
    assert_eq!(f.run("split-projections").count("layers"), 0);
}

#[test]
fn a_weight_of_two_layers_gives_both_their_rows() {
    let mut f = Fixture::new();
    let (x, z) = (f.input("x", "B,4"), f.input("z", "B,4"));
    let w = f.weight("w", &[6, 4]);
    for input in [x, z] {
        let y = f.op(Op::Linear {}, &[input, w]);
        for (start, end) in [(0, 3), (3, 6)] {
            let part = slice(&mut f, y, 1, start, end);
            f.result(part);
        }
    }
    let after = f.run("split-projections,canonicalize");
    assert_eq!(after.ops(), ["linear"; 4]);
}
