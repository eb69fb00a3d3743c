//! As many products as a machine can do: sums in registers that depend on nothing but themselves. What kernels are measured against.

use super::TargetCaps;
use super::atom;
use super::emit::{Emitter, F32X16, I8X64, I32X16, Scalar, Signs};
use super::tile::amx;

/// What is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peak {
    /// Four products of bytes into each of sixteen sums, as `U8S8` products do, or as many as tile registers hold where there are any.
    Int8,
    /// A product into each of sixteen sums of f32.
    F32,
    /// Two products of bf16 into each of sixteen sums of f32.
    BF16,
}

impl Peak {
    /// Bytes of scratch that its kernel needs.
    pub const SCRATCH_BYTES: u64 = 256;

    /// All of them.
    pub const ALL: [Peak; 3] = [Peak::Int8, Peak::F32, Peak::BF16];

    /// A name for its kernel.
    pub fn name(self) -> &'static str {
        match self {
            Peak::Int8 => "peak_int8",
            Peak::F32 => "peak_f32",
            Peak::BF16 => "peak_bf16",
        }
    }

    /// Sums of sixteen lanes that are independent of each other and fit into registers beside their factors.
    fn sums(self, caps: &TargetCaps) -> usize {
        match self {
            _ if caps.avx512 => 24,
            // Each is two registers of sixteen, or four of thirty-two.
            Peak::F32 | Peak::BF16 => 5,
            Peak::Int8 if atom::has_dot(caps) => 5,
            Peak::Int8 => 2,
        }
    }

    /// Operations (products and sums) of a work item.
    pub fn operations(self, caps: &TargetCaps) -> u64 {
        let each = match self {
            Peak::Int8 if caps.amx_int8 => return 4 * 2 * 16 * 16 * 64,
            Peak::Int8 => 128,
            Peak::F32 => 32,
            Peak::BF16 => 64,
        };
        self.sums(caps) as u64 * each
    }

    /// The kernel's MLIR text. It has no arguments; its factors are the first 64 bytes of scratch, and it writes there.
    pub fn generate(&self, name: &str, caps: &TargetCaps) -> String {
        let mut e = Emitter::new(caps);
        if *self == Peak::Int8 && caps.amx_int8 {
            tiles(&mut e, name);
            return e.finish();
        }
        e.kernel(name, |e, k| {
            let one = e.int(1);
            let (x, start) = match self {
                Peak::Int8 => (e.load(k.scratch, I8X64), e.ints(0)),
                Peak::F32 => (e.load(k.scratch, F32X16), e.floats(0.0)),
                Peak::BF16 => (e.load(k.scratch, I32X16), e.floats(0.0)),
            };
            let start = vec![start; self.sums(caps)];
            let sums = e.repeat(k.begin, k.end, one, &start, |e, round, sums| {
                // What several instructions multiply must differ each time: else some of them are done once for all.
                let several = match self {
                    Peak::Int8 => !atom::has_dot(caps),
                    Peak::F32 => false,
                    Peak::BF16 => !caps.bf16_512,
                };
                let u = if several {
                    let round = e.truncate(round, Scalar::I32);
                    let round = e.splat(round, 16);
                    if *self == Peak::BF16 {
                        // Between 1 and 1.5.
                        let (mantissa, one) = (e.ints(0x003f_003f), e.ints(0x3f80_3f80));
                        let round = e.and(round, mantissa);
                        e.or(round, one)
                    } else {
                        e.bits(round, I8X64)
                    }
                } else {
                    x
                };
                sums.iter()
                    .enumerate()
                    .map(|(i, &sum)| match self {
                        Peak::Int8 if several => {
                            let other = e.int_of(I8X64, i as i64 + 1);
                            let s = e.xor(x, other);
                            atom::dot_u8s8(e, sum, u, s)
                        }
                        Peak::Int8 => atom::dot_u8s8(e, sum, x, x),
                        Peak::F32 => e.multiply_add(x, x, sum),
                        Peak::BF16 => atom::dot_bf16(e, sum, u, x),
                    })
                    .collect()
            });
            let total = sums[1..].iter().fold(sums[0], |a, &b| e.add(a, b));
            debug_assert!([F32X16, I32X16].contains(&total.ty()));
            e.store(total, k.scratch);
        });
        e.finish()
    }
}

/// Four tiles of sums, of two by two tiles of factors.
fn tiles(e: &mut Emitter, name: &str) {
    amx::emit_sizes(e, name);
    e.kernel(name, |e, k| {
        let sizes = e.offset(k.scratch, 64);
        let (rows, quads, again) = (e.int(32), e.int(16), e.int(0));
        amx::start(e, sizes);
        amx::set_sizes(e, name, rows, quads, sizes);
        // Each row is the same 64 bytes.
        (4..8).for_each(|tile| e.tile_load(tile, k.scratch, again));
        (0..4).for_each(|tile| e.tile_zero(tile));
        e.each(k.begin, k.end, |e, _| {
            for tile in 0..4 {
                e.tile_dot(Signs::Second, tile, 4 + tile / 2, 6 + tile % 2);
            }
        });
        e.tile_store(0, k.scratch, again);
        e.tile_release();
    });
}
