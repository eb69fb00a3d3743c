//! Elementwise operations: plain values, broadcasting, integers, and the special values of IEEE arithmetic.

use qcc_interpreter::Precision;
use qcc_ir::{ElementType, Float, Op};
use qcc_params::{Data, Tensor};

use crate::case::{Case, bools, case, check, evaluate, f32s, i64s};

const X: [f32; 5] = [-3.0, -0.5, 0.0, 0.5, 2.0];
const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

fn on_x(title: &'static str, op: Op, expected: [f32; 5]) -> Case {
    case(title, op, [f32s(&[5], &X)], [f32s(&[5], &expected)])
}

fn on(title: &'static str, op: Op, x: &[f32], expected: &[f32]) -> Case {
    case(title, op, [f32s(&[x.len()], x)], [f32s(&[x.len()], expected)])
}

pub fn cases() -> Vec<Case> {
    let pair = || [f32s(&[2, 2], &[1.0, 2.0, -3.0, 4.0]), f32s(&[2], &[2.0, -0.5])];
    let ints = || [i64s(&[3], &[7, -7, i64::MAX]), i64s(&[3], &[2, 2, 1])];
    let nan = || [f32s(&[4], &[NAN, 1.0, 1.0, -0.5]), f32s(&[4], &[0.0, NAN, 2.0, -1.0])];
    let four = |v: [f32; 4]| [f32s(&[2, 2], &v)];
    vec![
        case("broadcast sum", Op::Add {}, pair(), four([3.0, 1.5, -1.0, 3.5])),
        case("integer sums wrap", Op::Add {}, ints(), [i64s(&[3], &[9, -5, i64::MIN])]),
        case("difference", Op::Sub {}, pair(), four([-1.0, 2.5, -5.0, 4.5])),
        case(
            "both sides broadcast",
            Op::Sub {},
            [f32s(&[2, 1], &[1.0, 2.0]), f32s(&[1, 2], &[10.0, 20.0])],
            four([-9.0, -19.0, -8.0, -18.0]),
        ),
        case("product", Op::Mul {}, pair(), four([2.0, -1.0, -6.0, -2.0])),
        case("quotient", Op::Div {}, pair(), four([0.5, -4.0, -1.5, -8.0])),
        case("integer quotients truncate", Op::Div {}, ints(), [i64s(&[3], &[3, -3, i64::MAX])]),
        case("minimum keeps NaN", Op::Min {}, nan(), [f32s(&[4], &[NAN, NAN, 1.0, -1.0])]),
        case("maximum keeps NaN", Op::Max {}, nan(), [f32s(&[4], &[NAN, NAN, 2.0, -0.5])]),
        case(
            "maximum of booleans is or",
            Op::Max {},
            [bools(&[3], &[true, false, false]), bools(&[3], &[true, true, false])],
            [bools(&[3], &[true, true, false])],
        ),
        case(
            "power",
            Op::Pow {},
            [f32s(&[2], &[9.0, 2.0]), f32s(&[2], &[0.5, -2.0])],
            [f32s(&[2], &[3.0, 0.25])],
        ),
        case(
            "integer power",
            Op::Pow {},
            [i64s(&[2], &[3, -2]), i64s(&[2], &[4, 3])],
            [i64s(&[2], &[81, -8])],
        ),
        case(
            "scaled silu",
            Op::ScaledSilu {},
            [f32s(&[2, 2], &[-3.0, -0.5, 0.5, 2.0]), f32s(&[2], &[2.0, 0.5])],
            four([-0.00741786947, -0.218911750, 0.365529289, 1.462117157]),
        ),
        case("parametric relu", Op::Prelu {}, pair(), four([1.0, 2.0, -6.0, 4.0])),
        case(
            "equal to itself, but for NaN",
            Op::Equal {},
            [f32s(&[3], &[NAN, INF, -0.0]), f32s(&[3], &[NAN, INF, 0.0])],
            [bools(&[3], &[false, true, true])],
        ),
        case("less", Op::Less {}, nan(), [bools(&[4], &[false, false, true, false])]),
        case("integers that are not more", Op::LessOrEqual {}, ints(), [bools(&[3], &[false, true, false])]),
        case(
            "choices broadcast",
            Op::Select {},
            [bools(&[2, 1], &[true, false]), f32s(&[2], &[NAN, 2.0]), f32s(&[], &[INF])],
            four([NAN, 2.0, INF, INF]),
        ),
        case(
            "choices of integers",
            Op::Select {},
            [bools(&[3], &[true, false, true]), i64s(&[3], &[i64::MAX, 1, 2]), i64s(&[3], &[3, i64::MIN, 5])],
            [i64s(&[3], &[i64::MAX, i64::MIN, 2])],
        ),
        on_x("sine", Op::Sin {}, [-0.141120008, -0.479425539, 0.0, 0.479425539, 0.909297427]),
        on_x("cosine", Op::Cos {}, [-0.989992497, 0.877582562, 1.0, 0.877582562, -0.416146837]),
        on_x("negation", Op::Neg {}, [3.0, 0.5, -0.0, -0.5, -2.0]),
        on_x("magnitude", Op::Abs {}, [3.0, 0.5, 0.0, 0.5, 2.0]),
        case("integer magnitude", Op::Abs {}, [i64s(&[2], &[-4, 4])], [i64s(&[2], &[4, 4])]),
        on_x("exponential", Op::Exp {}, [0.049787068, 0.60653066, 1.0, 1.648721271, 7.389056099]),
        on(
            "logarithm",
            Op::Log {},
            &[0.5, 1.0, 10.0, 0.0, -1.0],
            &[-0.693147181, 0.0, 2.302585093, -INF, NAN],
        ),
        on("root", Op::Sqrt {}, &[0.0, 2.25, -1.0], &[0.0, 1.5, NAN]),
        on("reciprocal", Op::Reciprocal {}, &[4.0, -0.5, 0.0], &[0.25, -2.0, INF]),
        on_x("error function", Op::Erf {}, [-0.99997791, -0.520499878, 0.0, 0.520499878, 0.995322265]),
        on_x("hyperbolic tangent", Op::Tanh {}, [-0.995054754, -0.462117157, 0.0, 0.462117157, 0.96402758]),
        on_x("sigmoid", Op::Sigmoid {}, [0.047425873, 0.377540669, 0.5, 0.622459331, 0.880797078]),
        on("sigmoid of huge values", Op::Sigmoid {}, &[-1e4, 1e4, NAN], &[0.0, 1.0, NAN]),
        on_x("silu", Op::Silu {}, [-0.14227762, -0.188770334, 0.0, 0.311229666, 1.761594156]),
        on("relu", Op::Relu {}, &[-1.0, 2.0, NAN, -INF, INF], &[0.0, 2.0, NAN, 0.0, INF]),
        on_x("softplus", Op::Softplus {}, [0.048587352, 0.474076984, 0.693147181, 0.974076984, 2.126928011]),
        on(
            "softplus of huge values",
            Op::Softplus {},
            &[-200.0, 200.0, INF],
            &[1.3838965e-87_f64 as f32, 200.0, INF],
        ),
        on_x("hard swish", Op::HardSwish {}, [0.0, -0.208333333, 0.0, 0.291666667, 1.666666667]),
        on_x(
            "hard sigmoid",
            Op::HardSigmoid { alpha: Float(0.2), beta: Float(0.5) },
            [0.0, 0.4, 0.5, 0.6, 0.9],
        ),
        on_x("leaky relu", Op::LeakyRelu { alpha: Float(0.1) }, [-0.3, -0.05, 0.0, 0.5, 2.0]),
        on_x("gelu", Op::Gelu { tanh: false }, [-0.004049694, -0.154268769, 0.0, 0.345731231, 1.954499736]),
        on_x(
            "gelu by tanh",
            Op::Gelu { tanh: true },
            [-0.003637392, -0.15428599, 0.0, 0.34571401, 1.954597694],
        ),
        on(
            "clamp",
            Op::Clamp { min: Float(-1.0), max: Float(6.0) },
            &[-2.0, 7.0, 1.5, NAN],
            &[-1.0, 6.0, 1.5, NAN],
        ),
        on("floor", Op::Floor {}, &[-1.5, 1.5, -0.0], &[-2.0, 1.0, 0.0]),
    ]
}

#[test]
fn elementwise_operations_yield_the_expected_values() {
    check(cases());
}

#[test]
fn the_left_tail_of_gelu_is_accurate() {
    // 0.5 · x · erfc(10 / √2) at x = −10; 1 + erf would cancel to 0.
    let y = evaluate(&Op::Gelu { tanh: false }, &[Some(f32s(&[1], &[-10.0]))], Precision::F64).expect("fits");
    let expected = -7.619853024160526e-23;
    assert!((y[0].to_f64_vec()[0] / expected - 1.0).abs() < 1e-12, "{y:?}");
}

#[test]
fn f32_arithmetic_is_ieee() {
    let (a, b) = (f32s(&[3], &[0.1, 1e38, 16_777_216.0]), f32s(&[3], &[0.2, 1e38, 1.0]));
    for (op, f) in [
        (Op::Add {}, (|x, y| x + y) as fn(f32, f32) -> f32),
        (Op::Mul {}, |x, y| x * y),
        (Op::Div {}, |x, y| x / y),
    ] {
        let expected: Vec<f32> = a.to_f32_vec().iter().zip(b.to_f32_vec()).map(|(x, y)| f(*x, y)).collect();
        let y = evaluate(&op, &[Some(a.clone()), Some(b.clone())], Precision::F32).expect("fits");
        assert_eq!(y[0].data, Data::F32(expected), "{op:?}");
    }
}

#[test]
fn narrow_floats_keep_their_type() {
    let x =
        Tensor::new(vec![1], ElementType::BF16, Data::BF16(vec![half::bf16::from_f32(1.0)])).expect("fits");
    let y = evaluate(&Op::Exp {}, &[Some(x)], Precision::F32).expect("fits");
    assert_eq!(y[0].data, Data::BF16(vec![half::bf16::from_f32(std::f32::consts::E)]));
}

#[test]
fn meaningless_integer_arithmetic_is_an_error() {
    let ints = |v: i64| Some(i64s(&[1], &[v]));
    let error = |op, a, b| evaluate(&op, &[a, b], Precision::F32).expect_err("has no result");
    assert!(error(Op::Div {}, ints(1), ints(0)).contains("division by zero"));
    assert!(error(Op::Pow {}, ints(2), ints(-1)).contains("negative exponent -1"));
    let flag = Some(bools(&[1], &[true]));
    assert!(error(Op::Add {}, flag.clone(), flag).contains("booleans"));
}
