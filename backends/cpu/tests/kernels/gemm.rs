//! Matrix products and implicit convolution over random shapes, with tails in every dimension.

use qcc_cpu::kernels::blocks::{BlockCodes, BlockScales, Blocks};
use qcc_cpu::kernels::epilogue::{Activation, Output};
use qcc_cpu::kernels::gemm::{ActivationScale, Epilogue, GemmSpec, Product, Rows, generate};
use qcc_cpu::kernels::pack;
use qcc_cpu::kernels::split::{SplitCodes, pack_split};

use crate::harness::*;

/// Operands in plain form and the expected product.
struct Case {
    m: usize,
    n: usize,
    k: usize,
    args: Vec<u64>,
    c: Buffer,
    _held: Vec<Buffer>,
}

fn plain(epilogue: Epilogue) -> Epilogue {
    epilogue
}

const F32_OUT: Epilogue = Epilogue {
    bias: true,
    scale: ActivationScale::Tensor,
    activation: Activation::None,
    bounded: false,
    output: Output::F32,
};

fn bytes(block: u32, scales: BlockScales) -> Blocks {
    Blocks { block, codes: BlockCodes::U8, scales }
}

fn specs(level: &Level) -> Vec<(String, GemmSpec)> {
    let token = Epilogue { scale: ActivationScale::Token, ..F32_OUT };
    let codes =
        Epilogue { activation: Activation::Relu, output: Output::Codes { lo: -127, hi: 127 }, ..F32_OUT };
    let bounded = Epilogue { bounded: true, ..codes };
    let bare = Epilogue { bias: false, ..F32_OUT };
    let mut out = Vec::new();
    for (name, product, epilogue) in [
        ("f32", Product::F32F32, plain(F32_OUT)),
        ("f32_bare", Product::F32F32, bare),
        ("bf16", Product::BF16BF16, F32_OUT),
        ("bf16_bare", Product::BF16BF16, bare),
        ("s8", Product::U8S8, F32_OUT),
        ("s8_token", Product::U8S8, token),
        ("s8_codes", Product::U8S8, codes),
        ("s8_bounded", Product::U8S8, bounded),
        ("s8_bare", Product::U8S8, bare),
        ("s4", Product::U8S4, codes),
        ("u4b32_token", Product::S8Block(Blocks::nibbles(32)), token),
        ("u4b16", Product::S8Block(Blocks::nibbles(16)), codes),
        ("u4b96", Product::S8Block(Blocks::nibbles(96)), bare),
        ("u8b32_token", Product::S8Block(bytes(32, BlockScales::F16)), token),
        ("u8b24", Product::S8Block(bytes(24, BlockScales::F32)), codes),
        ("u8b96", Product::S8Block(bytes(96, BlockScales::F16)), bare),
        ("u4b8_f32", Product::S8Block(Blocks { scales: BlockScales::F32, ..Blocks::nibbles(8) }), token),
        ("s8f32", Product::F32S8, F32_OUT),
        ("s4f32", Product::F32S4, bare),
        ("u4f32", Product::F32Block(Blocks::nibbles(32)), F32_OUT),
        ("u4f24", Product::F32Block(Blocks::nibbles(24)), bare),
        ("u8f32", Product::F32Block(bytes(32, BlockScales::F32)), F32_OUT),
        ("u8f96", Product::F32Block(bytes(96, BlockScales::F16)), bare),
        ("split2", Product::F32Split(SplitCodes { level_bits: 2, shared: true }), F32_OUT),
        ("split5", Product::F32Split(SplitCodes { level_bits: 5, shared: false }), bare),
        ("split8", Product::F32Split(SplitCodes { level_bits: 8, shared: true }), F32_OUT),
        ("split2_columns", Product::F32Split(SplitCodes { level_bits: 2, shared: false }), bare),
    ] {
        let spec = GemmSpec::new(&level.caps, product, Rows::Matrix, epilogue);
        // What the number of columns and of rows makes of it.
        let fitted =
            [(64, None), (48, Some(31)), (1000, None)].map(|(n, m)| spec.clone().fit(&level.caps, n, 70, m));
        let name = |spec: &GemmSpec| format!("{name}_{}x{}", spec.mr, spec.nr);
        for spec in fitted.into_iter().filter(|fitted| *fitted != spec).chain([spec.clone()]) {
            out.push((name(&spec), GemmSpec { row_tiles: 2, ..spec }));
        }
    }
    out
}

/// Runs one random case of a spec and compares it with the reference.
fn check(r: &mut Random, library: &Library, name: &str, spec: &GemmSpec, what: &str) {
    // Sometimes several chunks of a tile register.
    let deep = if r.size(4) == 1 { 300 } else { 70 };
    let (m, n, k) = (r.size(70), r.size(70), r.size(deep));
    let what = format!("{what} {name} {m}x{n}x{k}");
    let bias: Vec<f32> = r.reals(n);
    let epilogue = spec.epilogue;
    let bias_at = |j: usize| if epilogue.bias { bias[j] } else { 0.0 };
    let token = epilogue.scale == ActivationScale::Token;
    let sx: Vec<f32> = (0..m).map(|_| 0.01 + r.real().abs()).collect();
    let row_scale = |i: usize| if token { sx[i] } else { sx[0] };
    let extra = r.int(0, 9) as usize; // Strides beyond the row, sometimes.
    let mut held = Vec::new();
    let mut hold = |b: Buffer| {
        let a = b.address();
        held.push(b);
        a
    };
    let (out_scale, out_zero) = (0.7f32, 3i32);
    let (mut wanted, mut wide, mut magnitude) = (vec![0f32; m * n], vec![0f64; m * n], vec![0f64; m * n]);
    let mut args = vec![0u64; 16];
    let lda = k + extra;
    match spec.product {
        Product::F32F32
        | Product::BF16BF16
        | Product::F32S8
        | Product::F32S4
        | Product::F32Block(_)
        | Product::F32Split(_) => {
            let pairs = spec.product == Product::BF16BF16;
            let bits = |x: &[f32]| x.iter().map(|x| half::bf16::from_f32(*x).to_bits()).collect::<Vec<u16>>();
            let rounded = |x: Vec<f32>| {
                if pairs { x.into_iter().map(|x| half::bf16::from_f32(x).to_f32()).collect() } else { x }
            };
            let x: Vec<f32> = rounded(r.reals(m * lda));
            let (w, packed) = match spec.product {
                Product::F32Block(blocks) => {
                    let weights = BlockWeights::new(r, n, k, blocks);
                    let packed = weights.packed(spec.nr);
                    let w =
                        (0..n * k).map(|i| weights.code(i / k, i % k) as f32 * weights.scale(i / k, i % k));
                    (w.collect::<Vec<f32>>(), Buffer::bytes(&packed))
                }
                Product::F32S8 | Product::F32S4 => {
                    let (codes, packed) = if spec.product == Product::F32S8 {
                        let codes = r.i8s(n * k, -128, 127);
                        let packed = pack::pack_s8(&codes, n, k, spec.nr).expect("packs");
                        (codes, packed)
                    } else {
                        let codes = r.i8s(n * k, -8, 7);
                        let packed = pack::pack_s4(&codes, n, k, spec.nr).expect("packs");
                        (codes, packed)
                    };
                    let sw: Vec<f32> = (0..n).map(|_| 0.001 + r.real().abs() / 100.0).collect();
                    args[4] = hold(Buffer::f32(&pack::pad_columns(&sw, spec.nr)));
                    let w = (0..n * k).map(|i| f32::from(codes[i]) * sw[i / k]).collect();
                    (w, Buffer::bytes(&packed.bytes))
                }
                Product::F32Split(form) => {
                    let levels = 1 << form.level_bits;
                    let codes: Vec<u16> = (0..n * k).map(|_| r.int(0, 3 * levels - 1) as u16).collect();
                    let tables = if form.shared { 1 } else { n };
                    let scales: Vec<f32> =
                        (0..3 * tables).map(|_| (0.001 + r.real().abs()) / levels as f32).collect();
                    let zeros: Vec<i32> = (0..3 * tables).map(|_| r.int(-300, 300) as i32).collect();
                    let packed = pack_split(&codes, (&scales, &zeros), n, k, spec.nr, form).expect("packs");
                    assert_eq!(
                        packed.len() as u64,
                        n.div_ceil(spec.nr) as u64 * spec.product.panel_bytes(spec.nr, k as u64)
                    );
                    let value = |i: usize| {
                        let (cluster, level) = (i64::from(codes[i]) / levels, i64::from(codes[i]) % levels);
                        let at = (i / k).min(tables - 1) * 3 + cluster as usize;
                        (level as i32 - zeros[at]) as f32 * scales[at]
                    };
                    ((0..n * k).map(value).collect(), Buffer::bytes(&packed))
                }
                Product::BF16BF16 => {
                    let w = rounded(r.reals(n * k));
                    let packed = pack::pack_bf16(&bits(&w), n, k, spec.nr).expect("packs");
                    assert_eq!(pack::unpack_bf16(&packed, n, k, spec.nr).expect("unpacks"), bits(&w));
                    let bytes: Vec<u8> = packed.iter().flat_map(|bits| bits.to_le_bytes()).collect();
                    (w, Buffer::bytes(&bytes))
                }
                _ => {
                    let w = r.reals(n * k);
                    let packed = pack::pack_f32(&w, n, k, spec.nr).expect("packs");
                    assert_eq!(pack::unpack_f32(&packed, n, k, spec.nr).expect("unpacks"), w);
                    (w, Buffer::f32(&packed))
                }
            };
            for i in 0..m {
                for j in 0..n {
                    for l in 0..k {
                        let p = f64::from(x[i * lda + l]) * f64::from(w[j * k + l]);
                        wide[i * n + j] += p;
                        magnitude[i * n + j] += p.abs();
                    }
                    wide[i * n + j] += f64::from(bias_at(j));
                    magnitude[i * n + j] += f64::from(bias_at(j)).abs();
                }
            }
            let x = &x[..(m - 1) * lda + k];
            args[0] = hold(match pairs {
                true => Buffer::bytes(&bits(x).iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()),
                false => Buffer::f32(x),
            });
            args[1] = spec.product.activation_bytes() * lda as u64;
            args[2] = hold(packed);
        }
        Product::U8S8 | Product::U8S4 => {
            let zero = r.int(0, 255) as i32;
            let x = r.u8s(m * lda, 0, 255);
            let (w, packed) = if spec.product == Product::U8S8 {
                let w = r.i8s(n * k, -128, 127);
                let p = pack::pack_s8(&w, n, k, spec.nr).expect("packs");
                assert_eq!(pack::unpack_s8(&p.bytes, n, k, spec.nr).expect("unpacks"), w);
                (w, p)
            } else {
                let w = r.i8s(n * k, -8, 7);
                let p = pack::pack_s4(&w, n, k, spec.nr).expect("packs");
                assert_eq!(pack::unpack_s4(&p.bytes, n, k, spec.nr).expect("unpacks"), w);
                (w, p)
            };
            let sw: Vec<f32> = (0..n).map(|_| 0.001 + r.real().abs() / 100.0).collect();
            for i in 0..m {
                for j in 0..n {
                    let acc: i32 =
                        (0..k).map(|l| (i32::from(x[i * lda + l]) - zero) * i32::from(w[j * k + l])).sum();
                    wanted[i * n + j] = (acc as f32).mul_add(row_scale(i) * sw[j], bias_at(j));
                }
            }
            let multipliers: Vec<f32> = if token { sw } else { sw.iter().map(|s| sx[0] * s).collect() };
            args[0] = hold(Buffer::bytes(&x[..(m - 1) * lda + k]));
            args[1] = lda as u64;
            args[2] = hold(Buffer::bytes(&packed.bytes));
            args[3] = hold(Buffer::i32(&packed.corrections(zero)));
            args[4] = hold(Buffer::f32(&pack::pad_columns(&multipliers, spec.nr)));
        }
        Product::S8Block(blocks) => {
            let x = r.i8s(m * lda, -127, 127);
            let weights = BlockWeights::new(r, n, k, blocks);
            let block = blocks.block as usize;
            let count = k.div_ceil(block);
            let mut sums = vec![0i32; m * count];
            for i in 0..m {
                for l in 0..k {
                    sums[i * count + l / block] += i32::from(x[i * lda + l]);
                }
                for j in 0..n {
                    let mut total = 0f32;
                    for b in 0..count {
                        let acc: i32 = (b * block..k.min((b + 1) * block))
                            .map(|l| i32::from(x[i * lda + l]) * weights.code(j, l))
                            .sum();
                        total = (acc as f32).mul_add(weights.scale(j, b * block), total);
                    }
                    wanted[i * n + j] = total.mul_add(row_scale(i), bias_at(j));
                }
            }
            args[0] = hold(Buffer::i8(&x[..(m - 1) * lda + k]));
            args[1] = lda as u64;
            args[2] = hold(Buffer::bytes(&weights.packed(spec.nr)));
            args[7] = hold(Buffer::i32(&sums));
        }
    }
    let codes_out = epilogue.output != Output::F32;
    let size = if codes_out { 1 } else { 4 };
    args[5] = hold(Buffer::f32(&pack::pad_columns(&bias, spec.nr)));
    args[6] = hold(Buffer::f32(&sx));
    let ldc = n + r.int(0, 3) as usize;
    let c = Buffer::bytes(&vec![0x77; ((m - 1) * ldc + n) * size]);
    args[8] = c.address();
    args[9] = (ldc * size) as u64;
    args[10] = hold(Buffer::f32(&[out_scale]));
    args[11] = out_zero as u64;
    (args[12], args[13], args[14]) = (m as u64, n as u64, k as u64);
    let bounds: Vec<f32> = (0..n).map(|_| r.real().abs()).collect();
    args[15] = hold(Buffer::f32(&pack::pad_columns(&bounds, spec.nr)));
    let case = Case { m, n, k, args, c, _held: held };
    let items = spec.items(m as u64, n as u64);
    library.run(name, &case.args, items, spec.scratch_bytes(case.k as u64), 1 + r.next() % 3);
    let at = |i: usize| i / case.n * ldc + i % case.n;
    if codes_out {
        let found = case.c.to_i8();
        for i in 0..case.m * case.n {
            let y = if epilogue.activation == Activation::Relu { wanted[i].max(0.0) } else { wanted[i] };
            let y = if epilogue.bounded { y.min(bounds[i % n]) } else { y };
            let q = quantize(y, out_scale, out_zero, -127, 127);
            assert_eq!(i32::from(found[at(i)]), q, "{what}: element {i}");
        }
    } else {
        let all = case.c.to_f32();
        let found: Vec<f32> = (0..case.m * case.n).map(|i| all[at(i)]).collect();
        match spec.product {
            product if product.activation_bytes() > 1 => assert_close(&found, &wide, &magnitude, &what),
            _ => assert_bits(&found, &wanted, &what),
        }
        let gap = u32::from_ne_bytes([0x77; 4]);
        assert!((0..case.m - 1).all(|i| (case.n..ldc).all(|j| all[i * ldc + j].to_bits() == gap)), "{what}");
    }
}

/// Unsigned codes `[n, k]` and the bytes of their scales, a block each.
struct BlockWeights {
    blocks: Blocks,
    n: usize,
    k: usize,
    codes: Vec<u8>,
    scales: Vec<u8>,
}

impl BlockWeights {
    fn new(r: &mut Random, n: usize, k: usize, blocks: Blocks) -> BlockWeights {
        let codes = r.u8s(n * k, 0, if blocks.codes == BlockCodes::U4 { 15 } else { 255 });
        let mut scales = Vec::new();
        for _ in 0..n * k.div_ceil(blocks.block as usize) {
            // Subnormal halves, too.
            let scale = r.real() * if r.next().is_multiple_of(8) { 1e-6 } else { 0.1 };
            match blocks.scales {
                BlockScales::F16 => scales.extend(half::f16::from_f32(scale).to_le_bytes()),
                BlockScales::F32 => scales.extend(scale.to_le_bytes()),
            }
        }
        BlockWeights { blocks, n, k, codes, scales }
    }

    fn code(&self, column: usize, k: usize) -> i32 {
        i32::from(self.codes[column * self.k + k]) - i32::from(self.blocks.codes.zero())
    }

    fn scale(&self, column: usize, k: usize) -> f32 {
        let block = self.blocks.block as usize;
        let i = column * self.k.div_ceil(block) + k / block;
        match self.blocks.scales {
            BlockScales::F16 => {
                half::f16::from_le_bytes([self.scales[2 * i], self.scales[2 * i + 1]]).to_f32()
            }
            BlockScales::F32 => {
                f32::from_le_bytes(self.scales[4 * i..4 * i + 4].try_into().expect("four bytes"))
            }
        }
    }

    /// The panels, which unpack to what they were made of.
    fn packed(&self, nr: usize) -> Vec<u8> {
        let BlockWeights { blocks, n, k, codes, scales } = self;
        let packed = pack::pack_blocks(codes, scales, *n, *k, nr, *blocks).expect("packs");
        let back = pack::unpack_blocks(&packed, *n, *k, nr, *blocks).expect("unpacks");
        assert_eq!(back, (codes.clone(), scales.clone()));
        packed
    }
}

#[test]
fn products_of_random_shapes() {
    for level in levels() {
        let specs = specs(&level);
        let text: String = specs.iter().map(|(name, s)| generate(s, name, &level.caps)).collect();
        let library = Library::new(&text, &level);
        let mut r = Random::new(7);
        for (name, spec) in &specs {
            for _ in 0..60 {
                check(&mut r, &library, name, spec, level.name);
            }
        }
    }
}

/// On any machine: that they are made for those that have them.
#[test]
fn tile_registers_are_used_where_they_are() {
    let level = amx();
    assert!(level.caps.amx_int8);
    for (product, instruction) in [
        (Product::U8S8, "tdpbusd"),
        (Product::U8S4, "tdpbusd"),
        (Product::S8Block(Blocks::nibbles(32)), "tdpbssd"),
        (Product::S8Block(bytes(64, BlockScales::F16)), "tdpbsud"),
    ] {
        let spec =
            GemmSpec::new(&level.caps, product, Rows::Matrix, F32_OUT).fit(&level.caps, 4096, 4096, None);
        let assembly = |spec: &GemmSpec| {
            let text = generate(spec, "product", &level.caps);
            qcc_mlir::emit_assembly(&text, &target(&level), &qcc_mlir::CodegenOptions::default())
                .expect("compiles")
        };
        let text = assembly(&spec);
        assert!(text.contains(instruction), "{product:?}");
        assert!(text.contains("ldtilecfg") && text.contains("tilerelease"), "{product:?}");
        let short =
            GemmSpec::new(&level.caps, product, Rows::Matrix, F32_OUT).fit(&level.caps, 4096, 16, None);
        assert!(!assembly(&short).contains("tdpb"), "{product:?}: short runs are left to vectors");
    }
}
