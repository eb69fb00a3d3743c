use qcc_ir::{Dense, Dim, ElementType, Op, ops::PadMode};

use crate::fixture::Fixture;

#[test]
fn operations_on_weights_become_expressions() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,4");
    let w = f.weight("w", &[4, 3]);
    let transposed = f.op(Op::Transpose { permutation: vec![1, 0] }, &[w]);
    let scale = f.weight("scale", &[3, 1]);
    let scaled = f.op(Op::Mul {}, &[transposed, scale]);
    let y = f.op(Op::Linear {}, &[x, scaled]);
    f.result(y);
    let t = f.run("canonicalize");
    assert_eq!(t.ops(), ["linear"]);
    assert_eq!(t.weights().iter().map(|w| &**w).collect::<Vec<_>>(), ["w.transpose.mul"]);
    assert_eq!(t.count("folded"), 2);
}

#[test]
fn what_was_narrowed_stays_narrow() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3");
    let w = f.weight("w", &[3]);
    let narrow = f.op(Op::Cast { to: ElementType::BF16 }, &[w]);
    let w = f.op(Op::Cast { to: ElementType::F32 }, &[narrow]);
    let y = f.op(Op::Mul {}, &[x, w]);
    // A weight that came as it is folds.
    let given = f.weight("given", &[3]);
    let given = f.op(Op::Cast { to: ElementType::F64 }, &[given]);
    let y = f.op(Op::Cast { to: ElementType::F64 }, &[y]);
    let y = f.op(Op::Mul {}, &[y, given]);
    f.result(y);
    let t = f.run("canonicalize");
    assert_eq!(t.ops(), ["cast", "mul", "cast", "mul"]);
    assert_eq!(t.weights().iter().map(|w| &**w).collect::<Vec<_>>(), ["w.cast", "given.cast"]);
}

#[test]
fn equal_operations_merge_across_folding() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3");
    let w = f.weight("w", &[4, 3]);
    let again = f.weight("w", &[4, 3]);
    let a = f.op(Op::Neg {}, &[w]);
    let b = f.op(Op::Neg {}, &[again]);
    let (a, b) = (f.op(Op::Linear {}, &[x, a]), f.op(Op::Linear {}, &[x, b]));
    let y = f.op(Op::Add {}, &[a, b]);
    f.result(y);
    let t = f.run("canonicalize");
    assert_eq!(t.ops(), ["linear", "add"]);
    assert_eq!(t.weights().len(), 1);
}

#[test]
fn constants_fold_only_where_nothing_is_rounded() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,2");
    let three = f.function.add_constant(Dense::f32(&[1, 1], &[3.0]), "three");
    let flat = f.op(Op::Reshape { shape: vec![Dim::Const(1)] }, &[three]);
    let root = f.op(Op::Sqrt {}, &[flat]);
    let y = f.op(Op::Mul {}, &[x, root]);
    let y = f.op(Op::Add {}, &[y, flat]);
    f.result(y);
    let t = f.run("canonicalize");
    assert_eq!(t.ops(), ["mul", "add"]);
    // √3 is a weight expression, the reshaped 3 a constant.
    assert_eq!(t.weights().len(), 1);
}

#[test]
fn identities_vanish() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,4,6");
    let perm = |p: &[i64]| Op::Transpose { permutation: p.to_vec() };
    let shape = |s: &str| Op::Reshape { shape: crate::fixture::dims(s) };
    let mut y = f.op(perm(&[0, 2, 1]), &[x]);
    y = f.op(perm(&[0, 2, 1]), &[y]);
    y = f.op(shape("B,24"), &[y]);
    y = f.op(shape("B,2,12"), &[y]);
    y = f.op(shape("B,4,6"), &[y]);
    y = f.op(Op::Pad { pads: vec![0; 6], mode: PadMode::Constant, value: qcc_ir::Float(0.0) }, &[y]);
    y = f.op(Op::Slice { axes: vec![1], starts: vec![0], ends: vec![4], steps: vec![1] }, &[y]);
    y = f.op(Op::Concat { axis: 1 }, &[y]);
    y = f.op(Op::Relu {}, &[y]);
    y = f.op(Op::Relu {}, &[y]);
    f.result(y);
    assert_eq!(f.run("canonicalize").ops(), ["relu"]);
}

#[test]
fn dead_operations_go_and_reversals_stay() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,4");
    f.op(Op::Exp {}, &[x]);
    let y = f.op(Op::Slice { axes: vec![1], starts: vec![3], ends: vec![-1], steps: vec![-1] }, &[x]);
    f.result(y);
    let t = f.run("canonicalize");
    assert_eq!(t.ops(), ["slice"]);
    assert_eq!(t.count("removed"), 1);
}

#[test]
fn a_product_with_two_vectors_is_no_norm() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,4");
    let (mask, gain) = (f.weight("mask", &[4]), f.weight("gain", &[4]));
    let y = f.op(Op::Mul {}, &[x, mask]);
    let y = f.op(Op::Mul {}, &[y, gain]);
    f.result(y);
    assert_eq!(f.run("canonicalize").ops(), ["mul", "mul"]);
}

/// A constant of higher rank makes the result of a spelled-out normalisation one of that rank.
#[test]
fn a_normalisation_keeps_the_rank_of_its_result() {
    for rank in [0, 2, 3] {
        let mut f = Fixture::new();
        let x = f.input("x", "B,4");
        let two = f.op(Op::Constant { value: Dense::scalar(2.0) }, &[]);
        let square = f.op(Op::Pow {}, &[x, two]);
        let mean = f.op(Op::ReduceMean { axes: vec![1], keep_dims: true }, &[square]);
        let epsilon = f.op(Op::Constant { value: Dense::f32(&vec![1; rank], &[1e-5]) }, &[]);
        let shifted = f.op(Op::Add {}, &[mean, epsilon]);
        let root = f.op(Op::Sqrt {}, &[shifted]);
        let normal = f.op(Op::Div {}, &[x, root]);
        let gain = f.weight("gain", &[4]);
        let y = f.op(Op::Mul {}, &[normal, gain]);
        f.result(y);
        let done = f.try_run("canonicalize").unwrap_or_else(|e| panic!("rank {rank}: {e}"));
        let ops: Vec<_> = done.function.order().iter().map(|id| done.function.node(*id).op.name()).collect();
        assert_eq!(ops.contains(&"rms_norm"), rank <= 2, "rank {rank}: {ops:?}");
    }
}
