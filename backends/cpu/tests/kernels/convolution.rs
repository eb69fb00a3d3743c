//! Implicit-product and depthwise convolution of NHWC images over random geometries.

use qcc_cpu::kernels::depthwise::{self, DepthwiseSpec, Format};
use qcc_cpu::kernels::epilogue::{Activation, Output};
use qcc_cpu::kernels::gemm::{self, ActivationScale, Epilogue, GemmSpec, Product, Rows};
use qcc_cpu::kernels::lines::{self, Lines};
use qcc_cpu::kernels::{interleaved, pack};

use crate::harness::*;

/// Sizes of one convolution, `[vertical, horizontal]`.
#[derive(Clone, Debug)]
struct Shape {
    batch: usize,
    image: [usize; 2],
    channels: usize,
    window: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pad: [usize; 2],
    out: [usize; 2],
}

impl Shape {
    fn random(r: &mut Random, window: [usize; 2], stride: [usize; 2], dilation: [usize; 2]) -> Self {
        loop {
            // Sometimes lines of several tiles.
            let wide = if r.size(4) == 1 { 80 } else { 14 };
            let image = [r.size(14), r.size(wide)];
            let pad = [r.int(0, 3) as usize, r.int(0, 3) as usize];
            let after = [r.int(0, 3) as usize, r.int(0, 3) as usize];
            let room =
                |d: usize| (image[d] + pad[d] + after[d]).checked_sub((window[d] - 1) * dilation[d] + 1);
            if let (Some(h), Some(w)) = (room(0), room(1)) {
                let out = [h / stride[0] + 1, w / stride[1] + 1];
                return Shape {
                    batch: r.size(2),
                    image,
                    channels: r.size(40),
                    window,
                    stride,
                    dilation,
                    pad,
                    out,
                };
            }
        }
    }

    fn pixels(&self) -> usize {
        self.batch * self.out[0] * self.out[1]
    }

    /// Visits `(output pixel, tap, input pixel)` of the taps inside the image.
    fn taps(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let [oh, ow] = self.out;
        for pixel in 0..self.pixels() {
            let (b, y, x) = (pixel / ow / oh, pixel / ow % oh, pixel % ow);
            for i in 0..self.window[0] {
                for j in 0..self.window[1] {
                    let row = (y * self.stride[0] + i * self.dilation[0]).wrapping_sub(self.pad[0]);
                    let column = (x * self.stride[1] + j * self.dilation[1]).wrapping_sub(self.pad[1]);
                    if row < self.image[0] && column < self.image[1] {
                        visit(
                            pixel,
                            i * self.window[1] + j,
                            (b * self.image[0] + row) * self.image[1] + column,
                        );
                    }
                }
            }
        }
    }
}

const OUT: Epilogue = Epilogue {
    bias: true,
    scale: ActivationScale::Tensor,
    activation: Activation::None,
    bounded: false,
    output: Output::F32,
};

#[test]
fn implicit_products() {
    for level in levels() {
        let codes =
            Epilogue { activation: Activation::Relu, output: Output::Codes { lo: 0, hi: 255 }, ..OUT };
        let float = GemmSpec::new(&level.caps, Product::F32F32, Rows::Patches, OUT);
        let integer = GemmSpec::new(&level.caps, Product::U8S8, Rows::Patches, codes);
        let integer = GemmSpec { row_tiles: 1, ..integer };
        let text =
            gemm::generate(&float, "float", &level.caps) + &gemm::generate(&integer, "integer", &level.caps);
        let library = Library::new(&text, &level);
        let mut r = Random::new(11);
        for _ in 0..60 {
            let [window, stride, dilation] = [4, 3, 2].map(|hi| [r.size(hi), r.size(hi)]);
            let s = Shape::random(&mut r, window, stride, dilation);
            let (groups, n) = (r.size(2), r.size(40));
            let pixel = s.channels * groups; // This group's channels come first in each pixel.
            let taps = s.window[0] * s.window[1];
            let k = taps * s.channels;
            let (m, image) = (s.pixels(), s.batch * s.image[0] * s.image[1]);
            let geometry = |size: usize, pad: u64| -> Vec<u64> {
                let sizes = [
                    s.image[0],
                    s.image[1],
                    s.channels * size,
                    pixel * size,
                    s.out[0],
                    s.out[1],
                    s.window[0],
                    s.window[1],
                    s.stride[0],
                    s.stride[1],
                    s.dilation[0],
                    s.dilation[1],
                    s.pad[0],
                    s.pad[1],
                ];
                sizes.into_iter().map(|v| v as u64).chain([pad]).collect()
            };
            let bias = r.reals(n);
            let bias_at = Buffer::f32(&pack::pad_columns(&bias, float.nr.max(integer.nr)));
            let what = format!("{} n={n} groups={groups} {s:?}", level.name);

            let (x, w) = (r.reals(image * pixel), r.reals(n * k));
            let (mut wanted, mut magnitude) = (vec![0f64; m * n], vec![0f64; m * n]);
            for i in 0..m * n {
                wanted[i] = f64::from(bias[i % n]);
                magnitude[i] = wanted[i].abs();
            }
            s.taps(|out, tap, from| {
                for j in 0..n {
                    for c in 0..s.channels {
                        let p = f64::from(x[from * pixel + c]) * f64::from(w[j * k + tap * s.channels + c]);
                        wanted[out * n + j] += p;
                        magnitude[out * n + j] += p.abs();
                    }
                }
            });
            let (xb, wb) =
                (Buffer::f32(&x), Buffer::f32(&pack::pack_f32(&w, n, k, float.nr).expect("packs")));
            let c = Buffer::zeros(m * n * 4);
            let mut args = vec![xb.address(), 0, wb.address(), 0, 0, bias_at.address(), 0, 0, c.address()];
            args.extend([4 * n as u64, 0, 0, m as u64, n as u64, k as u64, 0]);
            args.extend(geometry(4, 0));
            assert_eq!(args.len(), gemm::convolution_args().len());
            let items = float.items(m as u64, n as u64);
            library.run("float", &args, items, float.scratch_bytes(k as u64), 1 + r.next() % 3);
            assert_close(&c.to_f32(), &wanted, &magnitude, &what);

            let (x, w) = (r.u8s(image * pixel, 0, 255), r.i8s(n * k, -127, 127));
            let zero = r.int(0, 255) as i32;
            let mut sums = vec![0i32; m * n];
            s.taps(|out, tap, from| {
                for j in 0..n {
                    for c in 0..s.channels {
                        let w = i32::from(w[j * k + tap * s.channels + c]);
                        sums[out * n + j] += (i32::from(x[from * pixel + c]) - zero) * w;
                    }
                }
            });
            let multipliers: Vec<f32> = (0..n).map(|_| r.real().abs() / 1000.0).collect();
            let packed = pack::pack_s8(&w, n, k, integer.nr).expect("packs");
            let (xb, wb) = (Buffer::bytes(&x), Buffer::bytes(&packed.bytes));
            let start = Buffer::i32(&packed.corrections(zero));
            let by_column = Buffer::f32(&pack::pad_columns(&multipliers, integer.nr));
            let (scale, c) = (Buffer::f32(&[0.05]), Buffer::zeros(m * n));
            let mut args = vec![xb.address(), 0, wb.address(), start.address(), by_column.address()];
            args.extend([bias_at.address(), 0, 0, c.address(), n as u64, scale.address(), 9]);
            args.extend([m as u64, n as u64, k as u64, 0]);
            args.extend(geometry(1, zero as u64));
            let items = integer.items(m as u64, n as u64);
            library.run("integer", &args, items, integer.scratch_bytes(k as u64), 1 + r.next() % 3);
            for (i, (&sum, &q)) in sums.iter().zip(&c.to_bytes()).enumerate() {
                let y = (sum as f32).mul_add(multipliers[i % n], bias[i % n]).max(0.0);
                assert_eq!(i32::from(q), quantize(y, 0.05, 9, 0, 255), "{what}: element {i}");
            }
        }
    }
}

/// Convolutions whose patches are read from lines: a kernel for each geometry.
#[test]
fn products_of_lines() {
    for level in levels() {
        let mut r = Random::new(17);
        for case in 0..24 {
            let (window, stride) = ([r.size(4), r.size(4)], [r.size(3), r.size(3)]);
            let dilation = [r.size(2), 1];
            let mut s = Shape::random(&mut r, window, stride, dilation);
            if case % 4 == 0 {
                s.pad = [0, 0];
                s.out = std::array::from_fn(|d| {
                    let room = s.image[d].checked_sub((window[d] - 1) * dilation[d] + 1);
                    room.map_or(0, |room| room / stride[d] + 1)
                });
                if s.out.contains(&0) {
                    continue;
                }
            }
            let n = r.size(70);
            let lines = Lines { count: r.size(s.out[0] as i64), pixels: s.out[1], padded: case % 4 != 0 };
            let clamped = Activation::Clamp { lo: (-1.0).into(), hi: 6.0.into() };
            let codes = Epilogue { activation: clamped, output: Output::Codes { lo: 0, hi: 255 }, ..OUT };
            let (run, runs) = (s.window[1] * s.channels, s.window[0]);
            let spec = |product, epilogue| {
                let spec = GemmSpec::new(&level.caps, product, Rows::Lines(lines), epilogue);
                spec.fit(&level.caps, n as u64, run as u64, Some(s.out[1] as u64))
            };
            let (float, integer) = (spec(Product::F32F32, OUT), spec(Product::U8S8, codes));
            let text = gemm::generate(&float, "float", &level.caps)
                + &gemm::generate(&integer, "integer", &level.caps);
            let library = Library::new(&text, &level);
            let what = format!("{} n={n} {lines:?} {s:?}", level.name);
            let (k, m) = (run * runs, s.pixels());
            let image = s.batch * s.image[0] * s.image[1];
            let items = s.batch * s.out[0].div_ceil(lines.count);
            let span = ((s.out[1] - 1) * s.stride[1] + s.window[1]) * s.channels;
            let needed = (lines.count - 1) * s.stride[0] + (s.window[0] - 1) * s.dilation[0] + 1;
            let scratch = |spec: &GemmSpec, size: usize| {
                spec.scratch_bytes(0) + lines::staged_bytes(needed as u64, (span * size) as u64)
            };
            let geometry = |size: usize, pad: u64| -> Vec<u64> {
                let pixel = s.channels * size;
                let sizes = [s.image, [pixel, pixel], s.out, s.window, s.stride, s.dilation, s.pad];
                sizes.into_iter().flatten().map(|v| v as u64).chain([pad]).collect()
            };
            let bias = r.reals(n);

            let (x, w) = (r.reals(image * s.channels), r.reals(n * k));
            let (mut wanted, mut magnitude) = (vec![0f64; m * n], vec![0f64; m * n]);
            for i in 0..m * n {
                wanted[i] = f64::from(bias[i % n]);
                magnitude[i] = wanted[i].abs();
            }
            s.taps(|out, tap, from| {
                for (j, c) in (0..n).flat_map(|j| (0..s.channels).map(move |c| (j, c))) {
                    let p = f64::from(x[from * s.channels + c]) * f64::from(w[j * k + tap * s.channels + c]);
                    wanted[out * n + j] += p;
                    magnitude[out * n + j] += p.abs();
                }
            });
            let (xb, wb) =
                (Buffer::f32(&x), Buffer::f32(&pack::pack_f32(&w, n, k, float.nr).expect("packs")));
            let bias_at = Buffer::f32(&pack::pad_columns(&bias, float.nr));
            let c = Buffer::zeros(m * n * 4);
            let mut args = vec![xb.address(), 0, wb.address(), 0, 0, bias_at.address(), 0, 0, c.address()];
            args.extend([4 * n as u64, 0, 0, m as u64, n as u64, run as u64, 0]);
            args.extend(geometry(4, 0));
            let all = (items * n.div_ceil(float.nr)) as u64;
            library.run("float", &args, all, scratch(&float, 4), 1 + r.next() % 3);
            assert_close(&c.to_f32(), &wanted, &magnitude, &what);

            let (x, w) = (r.u8s(image * s.channels, 0, 255), r.i8s(n * k, -127, 127));
            let zero = r.int(0, 255) as i32;
            let mut sums = vec![0i32; m * n];
            s.taps(|out, tap, from| {
                for (j, c) in (0..n).flat_map(|j| (0..s.channels).map(move |c| (j, c))) {
                    let w = i32::from(w[j * k + tap * s.channels + c]);
                    sums[out * n + j] += (i32::from(x[from * s.channels + c]) - zero) * w;
                }
            });
            let multipliers: Vec<f32> = (0..n).map(|_| r.real().abs() / 1000.0).collect();
            let filled = run.next_multiple_of(4);
            let mut rows = vec![0; n * runs * filled];
            for (to, from) in rows.chunks_mut(filled).zip(w.chunks(run)) {
                to[..run].copy_from_slice(from);
            }
            let packed = pack::pack_s8(&rows, n, runs * filled, integer.nr).expect("packs");
            let (xb, wb) = (Buffer::bytes(&x), Buffer::bytes(&packed.bytes));
            let start = Buffer::i32(&packed.corrections(zero));
            let by_column = Buffer::f32(&pack::pad_columns(&multipliers, integer.nr));
            let bias_at = Buffer::f32(&pack::pad_columns(&bias, integer.nr));
            let (scale, c) = (Buffer::f32(&[0.05]), Buffer::zeros(m * n));
            let mut args = vec![xb.address(), 0, wb.address(), start.address(), by_column.address()];
            args.extend([bias_at.address(), 0, 0, c.address(), n as u64, scale.address(), 9]);
            args.extend([m as u64, n as u64, run as u64, 0]);
            args.extend(geometry(1, zero as u64));
            let all = (items * n.div_ceil(integer.nr)) as u64;
            library.run("integer", &args, all, scratch(&integer, 1), 1 + r.next() % 3);
            for (i, (&sum, &q)) in sums.iter().zip(&c.to_bytes()).enumerate() {
                let y = (sum as f32).mul_add(multipliers[i % n], bias[i % n]).clamp(-1.0, 6.0);
                assert_eq!(i32::from(q), quantize(y, 0.05, 9, 0, 255), "{what}: element {i}");
            }
        }
    }
}

#[test]
fn depthwise_windows() {
    for level in levels() {
        let mut specs = Vec::new();
        for (window, stride, dilation) in [
            ([3, 3], [1, 1], [1, 1]),
            ([3, 3], [2, 2], [1, 1]),
            ([5, 5], [1, 2], [1, 1]),
            ([1, 4], [1, 1], [1, 1]),
            ([3, 2], [1, 1], [2, 3]),
        ] {
            for (format, output) in [
                (Format::F32, Output::F32),
                (Format::U8S8, Output::F32),
                (Format::U8S8, Output::Codes { lo: -127, hi: 127 }),
            ] {
                specs.push(DepthwiseSpec {
                    coded: None,
                    format,
                    window,
                    stride,
                    dilation,
                    bias: specs.len() % 2 == 0,
                    activation: Activation::Clamp { lo: 0.0.into(), hi: 6.0.into() },
                    bounded: specs.len() % 3 == 0,
                    output,
                });
            }
        }
        let text: String = specs
            .iter()
            .enumerate()
            .map(|(i, s)| {
                let plain = depthwise::generate(s, &format!("depthwise{i}"), &level.caps);
                let dots = interleaved::fits(s, &level.caps);
                plain
                    + &if dots {
                        interleaved::generate(s, &format!("interleaved{i}"), &level.caps)
                    } else {
                        String::new()
                    }
            })
            .collect();
        let library = Library::new(&text, &level);
        let mut r = Random::new(13);
        for (index, spec) in specs.iter().enumerate() {
            for _ in 0..20 {
                let s = Shape::random(&mut r, spec.window, spec.stride, spec.dilation);
                check_depthwise(&mut r, &library, &format!("depthwise{index}"), spec, &s, false);
                if interleaved::fits(spec, &level.caps) {
                    let s = Shape { channels: r.size(200), ..s };
                    check_depthwise(&mut r, &library, &format!("interleaved{index}"), spec, &s, true);
                }
            }
        }
    }
}

fn check_depthwise(
    r: &mut Random,
    library: &Library,
    name: &str,
    spec: &DepthwiseSpec,
    s: &Shape,
    dots: bool,
) {
    let (n, taps) = (s.channels, s.window[0] * s.window[1]);
    let image = s.batch * s.image[0] * s.image[1] * n;
    let (count, float) = (s.pixels() * n, spec.format == Format::F32);
    let (x, w, bias) = (r.reals(image), r.reals(n * taps), r.reals(n));
    let (xq, wq) = (r.u8s(image, 0, 255), r.i8s(n * taps, -128, 127));
    let zero = r.int(0, 255) as i32;
    let multipliers: Vec<f32> = (0..n).map(|_| r.real().abs() / 1000.0).collect();
    let (mut wide, mut magnitude, mut sums) = (vec![0f64; count], vec![0f64; count], vec![0i32; count]);
    s.taps(|out, tap, from| {
        for c in 0..n {
            let p = f64::from(x[from * n + c]) * f64::from(w[c * taps + tap]);
            wide[out * n + c] += p;
            magnitude[out * n + c] += p.abs();
            sums[out * n + c] += (i32::from(xq[from * n + c]) - zero) * i32::from(wq[c * taps + tap]);
        }
    });
    let bias_of = |i: usize| if spec.bias { bias[i % n] } else { 0.0 };
    let bounds: Vec<f32> = (0..n).map(|_| r.real().abs() * 3.0).collect();
    let bound_of = |i: usize| if spec.bounded { bounds[i % n] } else { f32::INFINITY };
    let size = spec.output.bytes() as usize;
    let starts: Vec<i32> =
        wq.chunks(taps).map(|w| -zero * w.iter().map(|&w| i32::from(w)).sum::<i32>()).collect();
    let by_channel = |values: &[f32]| {
        Buffer::f32(&if dots { interleaved::pack_channels(values, n) } else { values.to_vec() })
    };
    let held = [
        if float { Buffer::f32(&x) } else { Buffer::bytes(&xq) },
        if float {
            Buffer::f32(&pack::pack_channel_blocks(&w, n, taps).expect("packs"))
        } else if dots {
            Buffer::i8(&interleaved::pack_weights(&wq, n, s.window).expect("packs"))
        } else {
            Buffer::i8(&pack::pack_channel_blocks_s8(&wq, n, taps).expect("packs"))
        },
        by_channel(&multipliers),
        by_channel(&bias),
        Buffer::f32(&[0.05]),
        by_channel(&bounds),
        Buffer::i32(&interleaved::pack_channels(&starts, n)),
    ];
    let y = Buffer::zeros(count * size);
    let at = |i: usize| held[i].address();
    let mut args = vec![at(0), at(1), at(2), at(3), zero as u64, y.address(), at(4), (-20i64) as u64];
    let sizes = [s.batch, s.image[0], s.image[1], n, s.out[0], s.out[1], s.pad[0], s.pad[1]];
    args.extend(sizes.map(|v| v as u64));
    args.push(at(5));
    assert_eq!(args.len(), depthwise::ARGS.len());
    let scratch = if dots {
        args.extend([at(6), interleaved::period(n) as u64]);
        interleaved::scratch_bytes(spec, n as u64, s.image[1] as u64, s.out[1] as u64)
    } else {
        64
    };
    library.run(name, &args, spec.items(s.batch as u64, s.out[0] as u64), scratch, 1 + r.next() % 3);
    let what = format!("{name} {spec:?} {s:?}");
    if float {
        let wanted: Vec<f64> = (0..count)
            .map(|i| (wide[i] + f64::from(bias_of(i))).clamp(0.0, 6.0).min(f64::from(bound_of(i))))
            .collect();
        let magnitude: Vec<f64> = (0..count).map(|i| magnitude[i] + f64::from(bias_of(i)).abs()).collect();
        assert_close(&y.to_f32(), &wanted, &magnitude, &what);
        return;
    }
    let wanted: Vec<f32> = (0..count)
        .map(|i| (sums[i] as f32).mul_add(multipliers[i % n], bias_of(i)).clamp(0.0, 6.0).min(bound_of(i)))
        .collect();
    match spec.output {
        Output::F32 => assert!(y.to_f32().iter().zip(&wanted).all(|(a, b)| a == b), "{what}"),
        Output::Codes { .. } => {
            let q: Vec<i32> = wanted.iter().map(|&v| quantize(v, 0.05, -20, -127, 127)).collect();
            let found: Vec<i32> = y.to_i8().into_iter().map(i32::from).collect();
            assert_eq!(found, q, "{what}");
        }
    }
}
