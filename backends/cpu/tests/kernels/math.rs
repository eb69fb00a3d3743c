//! Elementary functions against f64, in units in the last place, and at the ends of the number line.

use qcc_cpu::kernels::emit::{Emitter, F32X16, Value};

use crate::harness::*;

type Function = (&'static str, fn(&mut Emitter, Value) -> Value, fn(f64) -> f64, f64, f64);

/// erf by its series (|x| < 3) or the continued fraction of erfc.
fn erf(x: f64) -> f64 {
    if x.is_infinite() {
        return x.signum();
    }
    let a = x.abs();
    let y = if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..200 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let mut f = 0.0;
        for n in (1..200).rev() {
            f = f64::from(n) / 2.0 / (a + f);
        }
        1.0 - (-a * a).exp() / (a + f) / std::f64::consts::PI.sqrt()
    };
    y.copysign(x)
}

fn gate(x: f64) -> f64 {
    if x == f64::NEG_INFINITY { 0.0 } else { x / (1.0 + (-x).exp()) }
}

/// Name, emitter, reference, allowed error in ulp of the result, allowed absolute error.
const FUNCTIONS: [Function; 10] = [
    ("exp", Emitter::exp, f64::exp, 2.0, 1.2e-38),
    ("exp2_clamped", Emitter::exp2_clamped, f64::exp2, 2.0, 2.4e-38),
    ("log", Emitter::log, f64::ln, 3.0, 1e-7),
    ("sigmoid", Emitter::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 4.0, 1.2e-38),
    ("silu", Emitter::silu, gate, 4.0, 1e-36),
    ("softplus", Emitter::softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), 4.0, 1.2e-38),
    ("tanh", Emitter::tanh, f64::tanh, 4.0, 0.0),
    ("erf", Emitter::erf, erf, 4.0, 0.0),
    (
        "gelu",
        Emitter::gelu,
        |x| if x < -1e3 { 0.0 } else { x * 0.5 * (1.0 + erf(x / 2f64.sqrt())) },
        4.0,
        4e-7,
    ),
    (
        "gelu_tanh",
        Emitter::gelu_tanh,
        |x| gate_of(x, 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)),
        256.0,
        1e-36,
    ),
];

fn gate_of(x: f64, u: f64) -> f64 {
    if u < -1e3 { 0.0 } else { x / (1.0 + (-u).exp()) }
}

#[test]
fn errors_stay_small_and_limits_hold() {
    for level in levels() {
        let mut text = String::new();
        for (name, emit, ..) in FUNCTIONS {
            let mut e = Emitter::new(&level.caps);
            e.kernel(name, |e, k| {
                let (x, y) = (k.pointer(e, &["x", "y"], "x"), k.pointer(e, &["x", "y"], "y"));
                e.each(k.begin, k.end, |e, i| {
                    let from = e.element(x, i, 64);
                    let v = e.load(from, F32X16);
                    let v = emit(e, v);
                    let to = e.element(y, i, 64);
                    e.store(v, to);
                });
            });
            text += &e.finish();
        }
        let library = Library::new(&text, &level);
        let mut r = Random::new(31);
        let mut x: Vec<f32> = (0..400_000)
            .map(|i| match i % 4 {
                0 => r.real() * 130.0,
                1 => r.real() * 10.0,
                2 => r.real(),
                _ => f32::from_bits((r.next() & 0xffff_ffff) as u32),
            })
            .filter(|v| !v.is_nan())
            .collect();
        x.extend([
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
            1e-45,
            -1e-45,
            88.7,
            -87.4,
        ]);
        x.resize(x.len().div_ceil(16) * 16, f32::NAN);
        let xb = Buffer::f32(&x);
        for (name, _, reference, ulps, absolute) in FUNCTIONS {
            let y = Buffer::zeros(4 * x.len());
            library.run(name, &[xb.address(), y.address()], x.len() as u64 / 16, 64, 1);
            let mut worst = (0.0, 0.0);
            for (&x, &y) in x.iter().zip(&y.to_f32()) {
                if x.is_nan() {
                    assert!(y.is_nan() || name == "exp2_clamped", "{name}(NaN) = {y}");
                    continue;
                }
                let wanted = reference(f64::from(x));
                let rounded = wanted as f32;
                if wanted.is_nan() || rounded.is_infinite() || rounded == 0.0 && y == 0.0 {
                    assert!(
                        y.to_bits() == rounded.to_bits() || y == rounded || y.is_nan() && rounded.is_nan(),
                        "{name}({x}) = {y}, wanted {rounded}"
                    );
                    continue;
                }
                let ulp = f64::from(f32::from_bits(rounded.abs().to_bits() + 1)) - f64::from(rounded.abs());
                let error = (f64::from(y) - wanted).abs();
                assert!(
                    error <= ulps * ulp + absolute,
                    "{} {name}({x}) = {y}, wanted {wanted}: {} ulp",
                    level.name,
                    error / ulp
                );
                if wanted.abs() > 1e-30 && error > absolute && error / ulp > worst.1 {
                    worst = (x, error / ulp);
                }
            }
            println!("{} {name}: at most {:.2} ulp, at {}", level.name, worst.1, worst.0);
        }
    }
}
