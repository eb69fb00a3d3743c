//! Guards: what must hold before a rule may fire. Each is a name, how many operands it takes, and a test of facts.

use qcc_ir::{Dim, Op, TensorType, ops::ImageLayout};

use super::facts::{Facts, TensorFacts};

/// A guard that rules may use.
pub struct Guard {
    /// Its name in rules.
    pub name: &'static str,
    /// How many operands it takes; `None` for any number.
    pub arity: Option<usize>,
    /// What it tests.
    pub doc: &'static str,
    /// The test.
    pub holds: fn(&[&Facts]) -> bool,
}

/// All guards.
pub const GUARDS: &[Guard] = &[
    Guard {
        name: "weights",
        arity: None,
        doc: "(weights ?w …): each is computed from weights alone",
        holds: |facts| facts.iter().all(|f| tensor(f, |t| t.weight)),
    },
    Guard {
        name: "activations",
        arity: None,
        doc: "(activations ?x …): each depends on the inputs of the function",
        holds: |facts| facts.iter().all(|f| tensor(f, |t| !t.weight)),
    },
    Guard {
        name: "only_user",
        arity: Some(1),
        doc: "(only_user TERM): the matched term is used once, so that rewriting its user repeats no work",
        holds: |facts| tensor(facts[0], |t| t.users <= 1),
    },
    Guard {
        name: "leaf",
        arity: Some(1),
        doc: "(leaf ?w): a weight of the model as it stands, not computed from others",
        holds: |facts| tensor(facts[0], |t| t.leaf),
    },
    Guard {
        name: "orthogonal",
        arity: Some(1),
        doc: "(orthogonal ?r): a square matrix whose inverse is its transpose",
        holds: |facts| tensor(facts[0], |t| t.properties.orthogonal),
    },
    Guard {
        name: "positive",
        arity: Some(1),
        doc: "(positive ?s): all elements are above zero",
        holds: |facts| tensor(facts[0], |t| t.properties.positive),
    },
    Guard {
        name: "nonzero",
        arity: Some(1),
        doc: "(nonzero ?s): no element is zero",
        holds: |facts| tensor(facts[0], |t| t.properties.nonzero),
    },
    Guard {
        name: "permutation",
        arity: Some(1),
        doc: "(permutation ?p): a vector of all indices, each once",
        holds: |facts| tensor(facts[0], |t| t.properties.permutation),
    },
    Guard {
        name: "same_type",
        arity: Some(2),
        doc: "(same_type ?x TERM): both have the same type",
        holds: |facts| pair(facts, |a, b| a == b),
    },
    Guard {
        name: "over_last",
        arity: Some(2),
        doc: "(over_last ?n TERM): the normalisation with attributes ?n is over the last axis of TERM alone",
        holds: |facts| match (facts[0].attributes(), facts[1].tensor()) {
            (Some(Op::LayerNorm { axis, .. }), Some(x)) => {
                usize::try_from(*axis).is_ok_and(|axis| axis + 1 == x.ty.rank())
            }
            _ => false,
        },
    },
    Guard {
        name: "no_padding",
        arity: Some(1),
        doc: "(no_padding ?a): the convolution pads nothing",
        holds: |facts| match facts[0].attributes() {
            Some(Op::Conv { pads, .. } | Op::ConvTranspose { pads, .. }) => pads.iter().all(|p| *p == 0),
            _ => false,
        },
    },
    Guard {
        name: "one_group",
        arity: Some(1),
        doc: "(one_group ?a): the convolution connects all channels",
        holds: |facts| {
            matches!(
                facts[0].attributes(),
                Some(Op::Conv { groups: 1, .. } | Op::ConvTranspose { groups: 1, .. })
            )
        },
    },
    Guard {
        name: "depthwise",
        arity: Some(2),
        doc: "(depthwise ?a ?w): the convolution has one input channel for each output channel, and joins none",
        holds: |facts| match (facts[0].attributes(), facts[1].tensor()) {
            (Some(Op::Conv { groups, .. }), Some(w)) => {
                w.ty.dims.first() == Some(&Dim::Const(*groups)) && w.ty.dims.get(1) == Some(&Dim::Const(1))
            }
            _ => false,
        },
    },
    Guard {
        name: "channels_first",
        arity: Some(1),
        doc: "(channels_first ?a): the channels of the convolution or pooling are axis 1",
        holds: |facts| {
            matches!(
                facts[0].attributes(),
                Some(
                    Op::Conv { layout: ImageLayout::ChannelsFirst, .. }
                        | Op::MaxPool { layout: ImageLayout::ChannelsFirst, .. }
                        | Op::AvgPool { layout: ImageLayout::ChannelsFirst, .. }
                        | Op::ConvTranspose { .. }
                )
            )
        },
    },
    Guard {
        name: "matrix",
        arity: Some(1),
        doc: "(matrix ?x): of rank 2, so that axis 1 is the last",
        holds: |facts| tensor(facts[0], |t| t.ty.rank() == 2),
    },
    Guard {
        name: "per_channel",
        arity: Some(2),
        doc: "(per_channel ?k TERM): ?k broadcasts to TERM and varies along axis 1 at most",
        holds: |facts| pair(facts, |k, y| varies_along(k, y, 1)),
    },
    Guard {
        name: "same_features",
        arity: Some(2),
        doc: "(same_features ?s TERM): ?s is a vector with an element for each feature of TERM",
        holds: |facts| pair(facts, |s, x| s.rank() == 1 && s.dims.last() == x.dims.last()),
    },
    Guard {
        name: "per_feature",
        arity: Some(2),
        doc: "(per_feature ?k TERM): ?k broadcasts to TERM and varies along its last axis at most",
        holds: |facts| pair(facts, |k, y| varies_along(k, y, y.rank().saturating_sub(1))),
    },
];

fn tensor(facts: &Facts, test: impl Fn(&TensorFacts) -> bool) -> bool {
    facts.tensor().is_some_and(test)
}

fn pair(facts: &[&Facts], test: impl Fn(&TensorType, &TensorType) -> bool) -> bool {
    match (facts[0].tensor(), facts[1].tensor()) {
        (Some(a), Some(b)) => test(&a.ty, &b.ty),
        _ => false,
    }
}

/// Whether `k`, broadcast to `y`, varies along `axis` at most; an axis of `k` is never longer than that of `y`.
fn varies_along(k: &TensorType, y: &TensorType, axis: usize) -> bool {
    let Some(missing) = y.rank().checked_sub(k.rank()) else { return false };
    k.dims.iter().enumerate().all(|(i, d)| match i + missing == axis {
        true => *d == Dim::Const(1) || *d == y.dims[axis],
        false => *d == Dim::Const(1),
    })
}
