//! Quantizers, normalisations and softmax over random rows.

use qcc_cpu::kernels::epilogue::Output;
use qcc_cpu::kernels::norm::{self, NormSpec, RowOutput, Statistics};
use qcc_cpu::kernels::quantize::{self, QuantizeSpec, TokenFormat};
use qcc_cpu::kernels::softmax;

use crate::harness::*;

/// Values that include ties, extremes and what is not a number.
fn awkward(r: &mut Random, n: usize) -> Vec<f32> {
    (0..n)
        .map(|_| match r.next() % 24 {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => f32::NEG_INFINITY,
            3 => 1e30 * r.real(),
            4 => -0.0,
            5..=12 => r.int(-300, 300) as f32 * 0.25,
            _ => 100.0 * r.real(),
        })
        .collect()
}

#[test]
fn static_codes() {
    for level in levels() {
        let tensor = QuantizeSpec::Tensor { lo: -127, hi: 127 };
        let unsigned = QuantizeSpec::Tensor { lo: 0, hi: 255 };
        let back = QuantizeSpec::Dequantize { signed: true };
        let back_unsigned = QuantizeSpec::Dequantize { signed: false };
        let text = quantize::generate(&tensor, "tensor", &level.caps)
            + &quantize::generate(&unsigned, "unsigned", &level.caps)
            + &quantize::generate(&back, "back", &level.caps)
            + &quantize::generate(&back_unsigned, "back_unsigned", &level.caps)
            + &quantize::generate(&QuantizeSpec::Recode, "recode", &level.caps);
        let library = Library::new(&text, &level);
        let mut r = Random::new(3);
        for round in 0..30 {
            let n = if round == 0 { 9000 } else { r.size(70) };
            let x = awkward(&mut r, n);
            let (scale, zero) = (if round % 2 == 0 { 0.5 } else { 0.013 }, r.int(-30, 30));
            let (xb, sb) = (Buffer::f32(&x), Buffer::f32(&[scale]));
            for (name, spec, lo, hi, zero) in
                [("tensor", &tensor, -127, 127, zero), ("unsigned", &unsigned, 0, 255, zero + 30)]
            {
                let (y, z) = (Buffer::zeros(n), zero as u64);
                let args = [xb.address(), y.address(), sb.address(), z, n as u64];
                library.run(name, &args, spec.items(1, n as u64), 64, 2);
                let signed = lo < 0;
                let widen = |b: u8| if signed { i32::from(b as i8) } else { i32::from(b) };
                let codes: Vec<i32> = y.to_bytes().into_iter().map(widen).collect();
                let wanted: Vec<i32> = x.iter().map(|&v| quantize(v, scale, zero as i32, lo, hi)).collect();
                assert_eq!(codes, wanted, "{} {name} n={n}", level.name);
                let back = Buffer::zeros(4 * n);
                let args = [y.address(), back.address(), sb.address(), z, n as u64];
                let name = if signed { "back" } else { "back_unsigned" };
                library.run(name, &args, spec.items(1, n as u64), 64, 2);
                let values: Vec<f32> = codes.iter().map(|&q| (q - zero as i32) as f32 * scale).collect();
                assert_bits(&back.to_f32(), &values, name);
            }
            let q = r.i8s(n, -128, 127);
            let (qb, y) = (Buffer::i8(&q), Buffer::zeros(n));
            let args = [qb.address(), y.address(), 0, 0, n as u64];
            library.run("recode", &args, QuantizeSpec::Recode.items(1, n as u64), 64, 1);
            let wanted: Vec<u8> = q.iter().map(|&v| (i16::from(v) + 128) as u8).collect();
            assert_eq!(y.to_bytes(), wanted);
        }
    }
}

/// The reference dynamic quantizer of a row: codes, scale.
fn token_codes(x: &[f32], limit: i32) -> (Vec<i32>, f32) {
    let most = x.iter().fold(0f32, |m, v| if v.abs() > m { v.abs() } else { m });
    let scale = most * (1.0 / limit as f32);
    let scale = if scale == 0.0 { 1.0 } else { scale };
    (x.iter().map(|&v| quantize(v, scale, 0, -limit, limit)).collect(), scale)
}

fn block_sums(codes: &[i32], block: usize) -> Vec<i32> {
    codes.chunks(block).map(|b| b.iter().sum()).collect()
}

#[test]
fn token_codes_and_block_sums() {
    let signed = TokenFormat { limit: 127, full: false, offset: 0, block_sums: Some(32) };
    let formats = [
        signed,
        TokenFormat { limit: 7, full: false, block_sums: Some(8), ..signed },
        TokenFormat { offset: 128, ..signed },
        TokenFormat { block_sums: None, ..signed },
    ];
    for level in levels() {
        let text: String = (0..4)
            .map(|i| quantize::generate(&QuantizeSpec::Token(formats[i]), &format!("token{i}"), &level.caps))
            .collect();
        let library = Library::new(&text, &level);
        let mut r = Random::new(5);
        for round in 0..60 {
            let f = formats[round % 4];
            let (rows, columns) = (r.size(5), r.size(100));
            let stride = columns + r.int(0, 5) as usize;
            let mut x: Vec<f32> = r.reals(rows * stride);
            if round % 5 == 0 {
                x = awkward(&mut r, rows * stride);
            }
            x[..columns].fill(if round % 2 == 0 { 0.0 } else { 1e-45 });
            let block = f.block_sums.unwrap_or(1) as usize;
            let blocks = columns.div_ceil(block);
            let xb = Buffer::f32(&x);
            let (y, scales) = (Buffer::zeros(rows * stride), Buffer::zeros(4 * rows));
            let sums = Buffer::zeros(4 * rows * blocks);
            let args = [
                xb.address(),
                4 * stride as u64,
                y.address(),
                stride as u64,
                scales.address(),
                sums.address(),
                rows as u64,
                columns as u64,
            ];
            library.run(&format!("token{}", round % 4), &args, rows as u64, 64, 2);
            for i in 0..rows {
                let (codes, scale) = token_codes(&x[i * stride..i * stride + columns], i32::from(f.limit));
                let found = &y.to_bytes()[i * stride..i * stride + columns];
                let found: Vec<i32> = found
                    .iter()
                    .map(|&b| if f.offset == 0 { i32::from(b as i8) } else { i32::from(b) - 128 })
                    .collect();
                assert_eq!(found, codes, "{} {f:?} row {i}", level.name);
                assert_eq!(scales.to_f32()[i].to_bits(), scale.to_bits());
                if f.block_sums.is_some() {
                    assert_eq!(sums.to_i32()[i * blocks..(i + 1) * blocks], block_sums(&codes, block));
                }
            }
        }
    }
}

#[test]
fn normalised_rows() {
    let plain = RowOutput::Plain(Output::F32);
    let spec =
        |statistics, gain, bias, output| NormSpec { statistics, epsilon: 1e-5.into(), gain, bias, output };
    let token = TokenFormat { limit: 127, full: false, offset: 0, block_sums: Some(16) };
    let specs = [
        spec(Statistics::RootMeanSquare, true, false, plain),
        spec(Statistics::MeanVariance, true, true, plain),
        spec(Statistics::MeanVariance, false, false, RowOutput::Plain(Output::Codes { lo: -127, hi: 127 })),
        spec(Statistics::RootMeanSquare, true, false, RowOutput::Token(token)),
    ];
    for level in levels() {
        let text: String =
            (0..4).map(|i| norm::generate(&specs[i], &format!("norm{i}"), &level.caps)).collect();
        let library = Library::new(&text, &level);
        let mut r = Random::new(17);
        for round in 0..80 {
            let s = &specs[round % 4];
            let (rows, n) = (r.size(4), r.size(100));
            let shift = if s.statistics == Statistics::MeanVariance { 3.0 } else { 0.0 };
            let x: Vec<f32> = r.reals(rows * n).into_iter().map(|v| v + shift).collect();
            let (gain, bias) = (r.reals(n), r.reals(n));
            let size = if round % 4 < 2 { 4 } else { 1 };
            let held = [Buffer::f32(&x), Buffer::f32(&gain), Buffer::f32(&bias), Buffer::f32(&[0.02])];
            let (y, scales, sums) = (
                Buffer::zeros(rows * n * size),
                Buffer::zeros(rows * 4),
                Buffer::zeros(4 * rows * n.div_ceil(16)),
            );
            let args = [
                held[0].address(),
                4 * n as u64,
                held[1].address(),
                held[2].address(),
                y.address(),
                (n * size) as u64,
                held[3].address(),
                4,
                scales.address(),
                sums.address(),
                rows as u64,
                n as u64,
            ];
            library.run(&format!("norm{}", round % 4), &args, rows as u64, s.scratch_bytes(n as u64), 2);
            for i in 0..rows {
                let row: Vec<f64> = x[i * n..(i + 1) * n].iter().map(|&v| f64::from(v)).collect();
                let mean = match s.statistics {
                    Statistics::RootMeanSquare => 0.0,
                    Statistics::MeanVariance => row.iter().sum::<f64>() / n as f64,
                };
                let spread = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
                let wanted: Vec<f64> = (0..n)
                    .map(|j| {
                        let v = (row[j] - mean) / (spread + 1e-5).sqrt();
                        let v = if s.gain { v * f64::from(gain[j]) } else { v };
                        if s.bias { v + f64::from(bias[j]) } else { v }
                    })
                    .collect();
                let place = i * n..(i + 1) * n;
                match s.output {
                    RowOutput::Plain(Output::F32) => {
                        // Subtracting the mean costs relative precision where the spread is small against it.
                        let slack = 1.0 + f64::from(shift) / spread.sqrt().max(3e-3);
                        let magnitude: Vec<f64> = wanted.iter().map(|v| v.abs() + slack).collect();
                        assert_close(&y.to_f32()[place], &wanted, &magnitude, level.name);
                    }
                    RowOutput::Plain(_) => {
                        for (&q, v) in y.to_i8()[place].iter().zip(&wanted) {
                            let exact = (v / f64::from(0.02f32) + 4.0).clamp(-127.0, 127.0);
                            assert!((f64::from(q) - exact).abs() <= 0.5 + 2e-2, "{q} for {exact}");
                        }
                    }
                    RowOutput::Token(_) => {
                        let scale = f64::from(scales.to_f32()[i]);
                        let codes: Vec<i32> = y.to_i8()[place].iter().map(|&q| i32::from(q)).collect();
                        for (&q, v) in codes.iter().zip(&wanted) {
                            assert!((f64::from(q) - v / scale).abs() <= 0.501, "{q} for {}", v / scale);
                        }
                        assert!(codes.iter().any(|q| q.abs() == 127));
                        let blocks = n.div_ceil(16);
                        assert_eq!(sums.to_i32()[i * blocks..(i + 1) * blocks], block_sums(&codes, 16));
                    }
                }
            }
        }
    }
}

#[test]
fn softmax_of_rows() {
    for level in levels() {
        let library = Library::new(&softmax::generate("softmax", &level.caps), &level);
        let mut r = Random::new(19);
        for round in 0..30 {
            let (rows, n) = (r.size(4), r.size(100));
            let mut x: Vec<f32> = r.reals(rows * n).into_iter().map(|v| v * 50.0).collect();
            if round % 3 == 0 {
                for v in x.iter_mut().skip(1).step_by(3) {
                    *v = f32::NEG_INFINITY; // A mask.
                }
                x[0] = 1e30;
            }
            for i in 0..rows {
                x[i * n] = x[i * n].max(-1e3); // No row is masked whole.
            }
            let (xb, y) = (Buffer::f32(&x), Buffer::zeros(4 * rows * n));
            let stride = 4 * n as u64;
            let args = [xb.address(), stride, y.address(), stride, rows as u64, n as u64];
            library.run("softmax", &args, rows as u64, 64, 2);
            for i in 0..rows {
                let row = &x[i * n..(i + 1) * n];
                let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let e: Vec<f64> = row.iter().map(|v| (f64::from(*v) - f64::from(most)).exp()).collect();
                let sum: f64 = e.iter().sum();
                for (j, (&p, e)) in y.to_f32()[i * n..(i + 1) * n].iter().zip(&e).enumerate() {
                    let wanted = e / sum;
                    // The argument x − max is itself rounded.
                    let tolerance = 1e-6 * wanted * (1.0 + f64::from((row[j] - most).abs().min(100.0)));
                    assert!((f64::from(p) - wanted).abs() <= tolerance + 1e-37, "{p} for {wanted}");
                    assert!(row[j] > f32::NEG_INFINITY || p == 0.0);
                }
            }
        }
    }
}
