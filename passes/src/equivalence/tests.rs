use qcc_ir::{Op, OpSpec, Str};

use super::passes::BATCH_NORM;
use super::rules::BUILTIN;
use super::{Limits, heads, proof, rewrite, rules::parse};
use crate::fixture::{Fixture, batch_norm, conv};

/// A head of rules would hide an operation of its name.
#[test]
fn heads_of_rules_are_no_operations() {
    for head in heads::heads() {
        assert!(OpSpec::find(head.name).is_none(), "`{}` is an operation too", head.name);
    }
}

#[test]
fn every_rule_is_exact() {
    for (file, text) in BUILTIN {
        let rules = parse(file, text).unwrap_or_else(|e| panic!("{e}"));
        assert!(!rules.is_empty(), "{file}");
        for rule in &rules {
            let examples = proof::prove(rule).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(examples >= 8, "rule `{}` has only {examples} examples", rule.name);
        }
    }
}

#[test]
fn wrong_rules_are_found() {
    for (text, wanted) in [
        // The shift reaches into the padding.
        (
            "define (gain ?n ?s ?v) (div ?s (sqrt (add ?v (epsilon ?n ?v))))
             rule r (conv ?a (batch_norm ?n ?x ?s ?t ?m ?v) ?w none)
               => (conv ?a ?x (mul ?w (columns ?w (gain ?n ?s ?v)))
                    (sum_inner (mul ?w (columns ?w (sub ?t (mul ?m (gain ?n ?s ?v)))))))
               if (one_group ?a) (channels_first ?a)",
            "differ",
        ),
        ("rule r (add (linear ?x ?w ?b) ?k) => (linear ?x ?w ?b) if (weights ?w ?b ?k)", "differ"),
        ("rule r (relu (neg ?x)) => (neg (relu ?x))", "differ"),
        ("rule r (mul (conv ?a ?x ?w none) ?k) => (conv ?a ?x (mul ?w ?k) none)", "not proved"),
        ("rule r (softmax ?a ?x) => ?x", "no example of `softmax`"),
        ("rule r (relu ?x) => (neg ?x) if (permutation ?x)", "hold on 0 of"),
        // A factor that is not zero may be negative.
        ("rule r (scale (relu ?x) ?s) => (relu (scale ?x ?s)) if (nonzero ?s) (activations ?x)", "differ"),
        // Hadamard matrices of order 12 are not symmetric.
        ("rule r (hadamard ?h (hadamard ?h ?x)) => ?x", "differ"),
    ] {
        let rules = parse("r", text).expect("parses");
        let error = proof::prove(&rules[0]).expect_err(text).to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn bad_rule_files_are_refused_with_the_line() {
    for (text, line, wanted) in [
        ("rule a (rleu ?x) => ?x", 1, "did you mean `relu`"),
        ("\nrule a (relu ?x) => ?y", 2, "does not bind `?y`"),
        ("rule a (relu ?x) ?x", 1, "=>"),
        ("rule a (relu ?x) => ?x\nrule a (relu ?x) => ?x", 2, "two rules"),
        ("rule a (relu ?x) => ?x if (sunny ?x)", 1, "no guard `sunny`"),
        ("rule a (relu ?x) => ?x if (matrix ?x ?x)", 1, "(matrix ?x)"),
        ("rule a (add ?x) => ?x", 1, "write (add a b)"),
        ("rule a (conv ?x ?w) => ?x", 1, "attributes"),
        ("define (relu ?x) ?x", 1, "meaning already"),
        ("define (f ?x) (neg ?y)\nrule a (f ?x) => ?x", 1, "does not bind `?y`"),
        ("define (f ?x) (f ?x)\nrule a (relu (f ?x)) => ?x", 1, "too deeply"),
        ("rule a (relu x) => ?x", 1, "neither a variable"),
        ("rule a\n(relu ?x", 2, "not closed"),
        ("rule a ?x) => ?x", 1, "without"),
        ("hello", 1, "expected `define`, `rule` or"),
        ("introduce a (relu ?x) => (neg ?x)", 1, "introduces nothing"),
        ("rule a (relu ?x) => (first ?x ?x)", 1, "(first OPERATION)"),
        ("rule a (rows ?x) => ?x", 1, "(rows ?w ?k)"),
        ("define", 1, "define (NAME"),
        ("rule", 1, "rule NAME"),
    ] {
        let error = parse("f.rules", text).expect_err(text);
        assert!(error.line == line && error.message.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn a_rule_that_never_ends_is_an_error() {
    let rules = parse("r", "rule grow (relu ?x) => (relu (neg (neg ?x)))").expect("parses");
    let mut f = Fixture::new();
    let x = f.input("x", "B,3");
    let y = f.op(Op::Relu {}, &[x]);
    f.result(y);
    let limits = Limits { nodes: 100, ..Limits::default() };
    let error = rewrite(&mut f.function, &rules, limits).expect_err("does not saturate").to_string();
    assert!(error.contains("do not saturate") && error.contains("`grow`"), "{error}");
}

#[test]
fn an_ill_typed_rule_is_an_error() {
    let rules = parse("r", "rule r (relu ?x) => (reduce_max ?x ?x)").expect("parses");
    let mut f = Fixture::new();
    let x = f.input("x", "B,3");
    let y = f.op(Op::Relu {}, &[x]);
    f.result(y);
    let error = rewrite(&mut f.function, &rules, Limits::default()).expect_err("ill-typed").to_string();
    assert!(error.contains("rule `r`") && error.contains("attributes"), "{error}");
}

const FOLD: &str = "canonicalize,fold-batch-norm,canonicalize";

#[test]
fn convolution_and_batch_norm_become_one_convolution() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,8,8");
    let w = f.weight("stem.weight", &[4, 3, 3, 3]);
    let y = f.function.add_one(conv(2, 1, 1, 1), [x, w], "stem").expect("well-typed");
    let y = f.normalized("norm", y, 4);
    let y = f.op(Op::Relu {}, &[y]);
    f.result(y);
    let t = f.run(FOLD);
    assert_eq!(t.ops(), ["conv", "relu"]);
    // The convolution keeps its name, and its bias is a parameter.
    let locations: Vec<Str> =
        t.function.order().iter().map(|id| t.function.node(*id).location.clone()).collect();
    assert!(locations.contains(&"stem".into()), "{locations:?}");
    assert_eq!(t.weights().len(), 2);
}

#[test]
fn chains_fold_to_the_end() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,8,8");
    let x = f.normalized("before", x, 3);
    let (w, b) = (f.weight("w", &[6, 3, 3, 3]), f.weight("b", &[6]));
    let y = f.op(conv(2, 2, 0, 1), &[x, w, b]);
    let k = f.weight("k", &[6, 1, 1]);
    let y = f.op(Op::Mul {}, &[k, y]);
    let y = f.normalized("first", y, 6);
    let k = f.weight("k2", &[1, 6, 1, 1]);
    let y = f.op(Op::Sub {}, &[y, k]);
    let y = f.normalized("second", y, 6);
    f.result(y);
    assert_eq!(f.run(FOLD).ops(), ["conv"]);
}

#[test]
fn linear_layers_fold_on_both_sides() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,5");
    let x = f.normalized("before", x, 5);
    let w = f.weight("w", &[4, 5]);
    let y = f.op(Op::Linear {}, &[x, w]);
    let y = f.normalized("after", y, 4);
    let b = f.weight("b", &[4]);
    let y = f.op(Op::Add {}, &[b, y]);
    f.result(y);
    assert_eq!(f.run(FOLD).ops(), ["linear"]);
}

#[test]
fn depthwise_convolutions_fold() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,4,6,6");
    let w = f.weight("w", &[8, 1, 3, 3]);
    let y = f.op(conv(2, 1, 1, 4), &[x, w]);
    let y = f.normalized("n", y, 8);
    f.result(y);
    assert_eq!(f.run(FOLD).ops(), ["conv"]);
}

#[test]
fn a_convolution_with_another_user_is_kept_once() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,6,6");
    let w = f.weight("w", &[4, 3, 1, 1]);
    let y = f.op(conv(2, 1, 0, 1), &[x, w]);
    let n = f.normalized("n", y, 4);
    let z = f.op(Op::Add {}, &[n, y]);
    f.result(z);
    assert_eq!(f.run(FOLD).ops(), ["conv", "batch_norm", "add"]);
}

#[test]
fn equal_convolutions_with_different_norms_count_as_one_that_is_used_twice() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,6,6");
    let w = f.weight("w", &[4, 3, 1, 1]);
    let (a, b) = (f.op(conv(2, 1, 0, 1), &[x, w]), f.op(conv(2, 1, 0, 1), &[x, w]));
    let (a, b) = (f.normalized("a", a, 4), f.normalized("b", b, 4));
    f.result(a);
    f.result(b);
    assert_eq!(f.run("fold-batch-norm").count("folded"), 0);
}

#[test]
fn a_weight_of_two_convolutions_is_scaled_for_one() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,4,6,6");
    let w = f.weight("w", &[4, 4, 1, 1]);
    let y = f.op(conv(2, 1, 0, 1), &[x, w]);
    let y = f.normalized("n", y, 4);
    let y = f.op(Op::Relu {}, &[y]);
    let y = f.op(conv(2, 1, 0, 1), &[y, w]);
    f.result(y);
    let t = f.run(FOLD);
    assert_eq!(t.ops(), ["conv", "relu", "conv"]);
    assert!(t.weights().contains(&"w".into()), "{:?}", t.weights());
}

#[test]
fn padding_keeps_a_norm_before_a_convolution() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,3,6,6");
    let x = f.normalized("n", x, 3);
    let w = f.weight("w", &[4, 3, 3, 3]);
    let y = f.op(conv(2, 1, 1, 1), &[x, w]);
    f.result(y);
    assert_eq!(f.run(FOLD).ops(), ["batch_norm", "conv"]);
}

#[test]
fn operations_with_several_results_get_rewritten_operands() {
    let mut f = Fixture::new();
    let x = f.input("x", "B,T,4");
    let state = f.input("state", "B,4,2");
    let (w, b) = (f.weight("w", &[4, 4]), f.weight("b", &[4]));
    let y = f.op(Op::Linear {}, &[x, w]);
    let y = f.op(Op::Add {}, &[y, b]);
    let taps = f.weight("taps", &[4, 3]);
    let y = f.function.add(Op::CausalConv {}, [y, taps, state], "scan").expect("well-typed");
    let z = f.op(Op::Add {}, &[y[0], b]);
    f.result(z);
    f.result(y[1]);
    assert_eq!(f.run(FOLD).ops(), ["linear", "causal_conv", "add"]);
}

#[test]
fn deep_residual_networks_extract_quickly() {
    let mut f = Fixture::new();
    let mut x = f.input("x", "B,4,5,5");
    for i in 0..150 {
        let w = f.weight(&format!("w{i}"), &[4, 4, 1, 1]);
        let y = f.op(conv(2, 1, 0, 1), &[x, w]);
        let y = f.normalized(&format!("n{i}"), y, 4);
        let y = f.op(Op::Relu {}, &[y]);
        x = f.op(Op::Add {}, &[x, y]);
    }
    f.result(x);
    let rules = parse("batch_norm.rules", BATCH_NORM).expect("the rules parse");
    let start = std::time::Instant::now();
    let report = rewrite(&mut f.function, &rules, Limits::default()).expect("saturates");
    assert_eq!(report.applied.get("convolution-then-batch-norm"), Some(&150));
    let left = f.function.order().iter().filter(|id| f.function.node(**id).op == batch_norm(1e-5)).count();
    assert_eq!(left, 0);
    assert!(start.elapsed().as_secs() < 20, "took {:?}", start.elapsed());
}
