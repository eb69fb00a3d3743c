//! Attention, rotary positions and the positions themselves. Expected values by the formulas in Python.

use qcc_interpreter::Precision;
use qcc_ir::format::CacheFormat;
use qcc_ir::{Dim, Float, Op};
use qcc_params::Tensor;

use crate::case::{Case, case, check, evaluate, f32s, i64s};

const INF: f32 = f32::INFINITY;

fn attention(scale: f64, causal: bool, window: i64) -> Op {
    Op::Attention { scale: Float(scale), causal, window, keys: CacheFormat::F32, values: CacheFormat::F32 }
}

/// Two queries of two heads, after one position that was seen before; both heads read one head of keys and values.
fn two_of_three() -> [Tensor; 3] {
    [
        f32s(&[1, 2, 2, 2], &[-0.625, 0.0, 0.625, -0.875, -0.25, 0.375, 1.0, -0.5]),
        f32s(&[1, 3, 1, 2], &[-0.875, 0.0, 0.875, -0.375, 0.5, -0.75]),
        f32s(&[1, 3, 1, 3], &[-0.75, -0.375, 0.0, 0.375, 0.75, -1.0, -0.625, -0.25, 0.125]),
    ]
}

fn mixed(rows: [[f32; 6]; 2]) -> [Tensor; 1] {
    [f32s(&[1, 2, 2, 3], rows.as_flattened())]
}

pub fn cases() -> Vec<Case> {
    // What each query makes of all it may see.
    let first = [-0.33758655, 0.03741345, -0.36658974, 0.00443431, 0.37943431, -0.67060828];
    let first_of_all = [-0.4214736, -0.0464736, -0.22310997, -0.25535149, 0.11964851, -0.34223765];
    let last = [-0.37345998, 0.00154002, -0.26506429, -0.20904923, 0.16595077, -0.38696946];
    let last_of_two = [-0.11914089, 0.25585911, -0.4440915, -0.10157965, 0.27342035, -0.46384789];
    let own = [[0.375, 0.75, -1.0, 0.375, 0.75, -1.0], [-0.625, -0.25, 0.125, -0.625, -0.25, 0.125]];
    let shared_by_two = [
        f32s(&[2, 1, 4, 1], &[-0.625, 0.0, 0.625, -0.875, -0.25, 0.375, 1.0, -0.5]),
        f32s(&[2, 2, 2, 1], &[-0.875, 0.0, 0.875, -0.375, 0.5, -0.75, 0.125, 1.0]),
        f32s(&[2, 2, 2, 1], &[-0.75, -0.375, 0.0, 0.375, 0.75, -1.0, -0.625, -0.25]),
    ];
    let each =
        [-0.67434103, -0.375, -0.08631589, 0.11881313, -0.00176496, 0.1585474, -0.27198417, -0.8889646];
    let huge =
        [f32s(&[1, 1, 1, 1], &[1e30]), f32s(&[1, 2, 1, 1], &[-1e8, 1e8]), f32s(&[1, 2, 1, 1], &[1.0, 2.0])];
    // Five features of which four are turned: (1, 2) and (3, 4), or (1, 3) and (2, 4).
    let features = [1.0, 2.0, 3.0, 4.0, 5.0];
    let halves = [-2.92174776, -1.2631773, 1.20970659, 4.290033, 5.0];
    let neighbours = [-1.92425277, 1.13896939, -0.53148843, 4.97167176, 5.0];
    let rotated = |title, interleaved, expected: [f32; 5]| {
        let tokens = f32s(&[1, 2, 1, 5], [features; 2].as_flattened());
        let operands = [tokens, i64s(&[2], &[0, 3]), f32s(&[2], &[0.5, 0.25])];
        let expected = f32s(&[1, 2, 1, 5], [features, expected].as_flattened());
        case(title, Op::RotaryEmbedding { interleaved }, operands, [expected])
    };
    // A bias that leaves one key, none, or a key for each query.
    let biased = |bias: Tensor, expected: [[f32; 6]; 2]| {
        let [q, k, v] = two_of_three();
        case("biased", attention(0.5, false, 0), [q, k, v, bias], mixed(expected))
    };
    let second = [0.375, 0.75, -1.0];
    let own_second = [[second, second].concat().try_into().expect("six"); 2];
    let second_or_none = [[0.375, 0.75, -1.0, 0.0, 0.0, 0.0]; 2];
    let (third, very_first) = ([-0.625, -0.25, 0.125], [-0.75, -0.375, 0.0]);
    let by_token = [third, very_first].map(|v| [v, v].concat().try_into().expect("six"));
    vec![
        case("causal, heads that share keys", attention(0.5, true, 0), two_of_three(), mixed([first, last])),
        case("all keys", attention(0.5, false, 0), two_of_three(), mixed([first_of_all, last])),
        case("each its own key", attention(0.5, true, 1), two_of_three(), mixed(own)),
        case("a window of two", attention(0.5, true, 2), two_of_three(), mixed([first, last_of_two])),
        case("later keys too", attention(0.5, false, 2), two_of_three(), mixed([first_of_all, last_of_two])),
        case(
            "two sequences, four heads to two",
            attention(2.0, true, 0),
            shared_by_two,
            [f32s(&[2, 1, 4, 1], &each)],
        ),
        case("scores beyond exp", attention(1.0, true, 0), huge, [f32s(&[1, 1, 1, 1], &[2.0])]),
        biased(f32s(&[1, 1, 1, 3], &[-INF, 0.0, -INF]), own_second),
        biased(f32s(&[1, 2, 1, 3], &[-INF, 0.0, -INF, -INF, -INF, -INF]), second_or_none),
        biased(f32s(&[1, 1, 2, 3], &[f32::MIN, f32::MIN, 0.0, 0.0, -INF, -INF]), by_token),
        rotated("pairs of halves", false, halves),
        rotated("pairs of neighbours", true, neighbours),
        case(
            "positions of each sequence",
            Op::RotaryEmbedding { interleaved: false },
            [
                f32s(&[2, 1, 2, 5], [features; 4].as_flattened()),
                i64s(&[2, 1], &[3, 0]),
                f32s(&[2], &[0.5, 0.25]),
            ],
            [f32s(&[2, 1, 2, 5], [halves, halves, features, features].as_flattened())],
        ),
        case("counting", Op::Iota { size: Dim::Const(3) }, [] as [Tensor; 0], [i64s(&[3], &[0, 1, 2])]),
        case(
            "positions after what was seen",
            Op::Positions { axis: 1 },
            [f32s(&[2, 3], &[0.0; 6]), f32s(&[2, 4, 1], &[0.0; 8])],
            [i64s(&[3], &[4, 5, 6])],
        ),
        case(
            "positions from the start",
            Op::Positions { axis: 0 },
            [i64s(&[2], &[9, 9]), f32s(&[0], &[])],
            [i64s(&[2], &[0, 1])],
        ),
    ]
}

#[test]
fn values() {
    check(cases());
}

#[test]
fn more_queries_than_keys_are_an_error() {
    let [q, k, v] = [2, 1, 1].map(|n| Some(f32s(&[1, n, 1, 1], &vec![0.0; n])));
    let error =
        evaluate(&attention(1.0, true, 0), &[q, k, v], Precision::F32).expect_err("a query has no place");
    assert!(error.contains("2 queries have only 1 keys"), "{error}");
}
