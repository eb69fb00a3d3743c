//! Atoms: one hardware product each, with a portable form of the same integers.
//!
//! LLVM forms `vpdpbusd` neither from loops nor from partial reductions, so it is called by name.

use super::TargetCaps;
use super::emit::{Emitter, F32X16, I8X64, I32X16, Scalar, Type, Value};

const I16X32: Type = Type::Lanes(32, Scalar::I16);

/// `acc + Σ₄ u·s` in each of 16 lanes, for bytes `u` unsigned and `s` signed (both `vector<64xi8>`), modulo 2³².
pub fn dot_u8s8(e: &mut Emitter, acc: Value, u: Value, s: Value) -> Value {
    if let Some(dot) = Dot::unsigned_by_signed(e) {
        return dot.emit(e, acc, u, s);
    }
    if e.caps.dotprod {
        // u·s = (u − 128)·s + 128·Σs; the second part is the same for all rows of a tile.
        let (flip, zero) = (e.int_of(I8X64, -128), e.ints(0));
        let centred = e.xor(u, flip);
        let minus = SDOT.emit(e, zero, flip, s);
        let acc = SDOT.emit(e, acc, centred, s);
        return e.sub(acc, minus);
    }
    if e.caps.sse2 || e.caps.neon {
        // `pmaddubsw` saturates; even and odd bytes as 16-bit pairs do not.
        let (u, s) = (e.bits(u, I16X32), e.bits(s, I16X32));
        let (eight, low) = (e.int_of(I16X32, 8), e.int_of(I16X32, 255));
        let u_even = e.and(u, low);
        let u_odd = e.shr(u, eight);
        let s_even = e.shl(s, eight);
        let s_even = e.sar(s_even, eight);
        let s_odd = e.sar(s, eight);
        let even = multiply_pairs(e, u_even, s_even);
        let odd = multiply_pairs(e, u_odd, s_odd);
        let both = e.add(even, odd);
        return e.add(acc, both);
    }
    let (u, s) = (e.bits(u, I32X16), e.bits(s, I32X16));
    let (byte, top) = (e.ints(255), e.ints(24));
    let mut acc = acc;
    for j in 0..4 {
        let (right, left) = (e.ints(8 * j), e.ints(24 - 8 * j));
        let uj = e.shr(u, right);
        let uj = e.and(uj, byte);
        let sj = e.shl(s, left);
        let sj = e.sar(sj, top);
        let p = e.mul(uj, sj);
        acc = e.add(acc, p);
    }
    acc
}

/// [`dot_u8s8`] of nibbles `u` (0 … 15), which any product of bytes takes.
pub fn dot_nibbles(e: &mut Emitter, acc: Value, u: Value, s: Value) -> Value {
    match Dot::unsigned_by_signed(e) {
        None if e.caps.dotprod => SDOT.emit(e, acc, u, s),
        _ => dot_u8s8(e, acc, u, s),
    }
}

/// Sums of up to [`ShortSums::MOST`] [`dot_nibbles`] in 16-bit lanes: fewer instructions on machines with `pmaddubsw` and no `vpdpbusd`.
pub struct ShortSums;

impl ShortSums {
    /// Eight sums of two products are less than 2¹⁵: 8 · 2 · 15 · 128.
    pub const MOST: usize = 8;

    /// Whether they are the better way.
    pub fn pay(e: &Emitter) -> bool {
        e.caps.avx2 && Dot::unsigned_by_signed(e).is_none()
    }

    /// The sum of nothing.
    pub fn zero(e: &mut Emitter) -> Value {
        e.int_of(I16X32, 0)
    }

    /// Adds products of nibbles `u` and signed bytes `s`.
    pub fn add(e: &mut Emitter, sum: Value, u: Value, s: Value) -> Value {
        let two = multiply_bytes(e, u, s);
        e.add(sum, two)
    }

    /// Adds it all to a sum of 32 bits.
    pub fn finish(e: &mut Emitter, acc: Value, sum: Value) -> Value {
        let ones = e.int_of(I16X32, 1);
        let quads = multiply_pairs(e, sum, ones);
        e.add(acc, quads)
    }
}

/// Whether [`dot_u8s8`] is an instruction or two.
pub fn has_dot(caps: &TargetCaps) -> bool {
    caps.vnni512 || caps.vnni256 || caps.i8mm || caps.dotprod
}

/// An instruction that adds to each word the products of its four bytes.
#[derive(Clone, Copy)]
struct Dot {
    name: &'static str,
    /// Bytes of a register.
    bytes: usize,
}

/// Both operands signed.
const SDOT: Dot = Dot { name: "llvm.aarch64.neon.sdot.v4i32.v16i8", bytes: 16 };

impl Dot {
    /// That of the machine, if it has one.
    fn unsigned_by_signed(e: &Emitter) -> Option<Dot> {
        match &e.caps {
            caps if caps.vnni512 => Some(Dot { name: "llvm.x86.avx512.vpdpbusd.512", bytes: 64 }),
            caps if caps.vnni256 => Some(Dot { name: "llvm.x86.avx512.vpdpbusd.256", bytes: 32 }),
            caps if caps.i8mm => Some(Dot { name: "llvm.aarch64.neon.usdot.v4i32.v16i8", bytes: 16 }),
            _ => None,
        }
    }

    fn emit(self, e: &mut Emitter, acc: Value, a: Value, b: Value) -> Value {
        in_pieces(e, &[acc, a, b], 64 / self.bytes, |e, piece, ty| e.intrinsic(self.name, piece, ty))
    }
}

/// An operation on vectors as it is done on each of so many equal parts of them. The result has the type of the first operand.
fn in_pieces(
    e: &mut Emitter,
    operands: &[Value],
    count: usize,
    mut each: impl FnMut(&mut Emitter, &[Value], Type) -> Value,
) -> Value {
    let shape = |ty: Type| match ty {
        Type::Lanes(lanes, scalar) => (usize::from(lanes), scalar),
        _ => unreachable!("invariant: vectors are cut"),
    };
    let (lanes, scalar) = shape(operands[0].ty());
    if count == 1 {
        return each(e, operands, operands[0].ty());
    }
    let mut parts: Vec<Value> = (0..count)
        .map(|p| {
            let piece: Vec<Value> = operands
                .iter()
                .map(|&v| {
                    let width = shape(v.ty()).0 / count;
                    let pick: Vec<usize> = (p * width..(p + 1) * width).collect();
                    e.shuffle(v, v, &pick)
                })
                .collect();
            each(e, &piece, Type::Lanes((lanes / count) as u16, scalar))
        })
        .collect();
    let mut width = lanes / count;
    while parts.len() > 1 {
        let pick: Vec<usize> = (0..2 * width).collect();
        parts = parts.chunks(2).map(|two| e.shuffle(two[0], two[1], &pick)).collect();
        width *= 2;
    }
    parts[0]
}

/// `a₀b₀ + a₁b₁` of neighbouring 16-bit lanes (`pmaddwd`), in pieces of the machine's width. On ARM the products must fit 16 bits.
fn multiply_pairs(e: &mut Emitter, a: Value, b: Value) -> Value {
    let sums = e.ints(0);
    if e.caps.neon {
        let products = e.mul(a, b);
        return in_pieces(e, &[sums, products], 4, |e, piece, ty| {
            e.intrinsic("llvm.aarch64.neon.saddlp.v4i32.v8i16", &piece[1..], ty)
        });
    }
    let (name, count) = match &e.caps {
        caps if caps.avx512 => ("llvm.x86.avx512.pmaddw.d.512", 1),
        caps if caps.avx2 => ("llvm.x86.avx2.pmadd.wd", 2),
        _ => ("llvm.x86.sse2.pmadd.wd", 4),
    };
    in_pieces(e, &[sums, a, b], count, |e, piece, ty| e.intrinsic(name, &piece[1..], ty))
}

/// `u₀s₀ + u₁s₁` of neighbouring bytes as 16-bit lanes (`pmaddubsw`), saturating: of AVX2 and AVX-512.
fn multiply_bytes(e: &mut Emitter, u: Value, s: Value) -> Value {
    let sums = e.int_of(I16X32, 0);
    let (name, count) = match e.caps.avx512 {
        true => ("llvm.x86.avx512.pmaddubs.w.512", 1),
        false => ("llvm.x86.avx2.pmadd.ub.sw", 2),
    };
    in_pieces(e, &[sums, u, s], count, |e, piece, ty| e.intrinsic(name, &piece[1..], ty))
}

/// `acc + Σ₂ a·b` in each of 16 lanes, for pairs of bf16 `a` and `b` (both `vector<16xi32>`, the first of a pair in the low half).
/// `vdpbf16ps` takes subnormal numbers for 0.
pub fn dot_bf16(e: &mut Emitter, acc: Value, a: Value, b: Value) -> Value {
    if e.caps.bf16_512 {
        let halves = Type::Lanes(32, Scalar::BF16);
        let (a, b) = (e.bits(a, halves), e.bits(b, halves));
        return e.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", &[acc, a, b], F32X16);
    }
    let (low, high) = (e.ints(16), e.int_of(I32X16, 0xffff_0000));
    let widened = |e: &mut Emitter, x: Value| {
        let (first, second) = (e.shl(x, low), e.and(x, high));
        [e.bits(first, F32X16), e.bits(second, F32X16)]
    };
    let (a, b) = (widened(e, a), widened(e, b));
    a.into_iter().zip(b).fold(acc, |acc, (a, b)| e.multiply_add(a, b, acc))
}

/// Sixteen finite halves at `p` as f32, exactly.
pub fn load_halves(e: &mut Emitter, p: Value) -> Value {
    if e.caps.f16c {
        let v = e.load(p, Type::Lanes(16, Scalar::F16));
        return e.widen(v, Scalar::F32);
    }
    let v = e.load(p, Type::Lanes(16, Scalar::I16));
    let v = e.extend_unsigned(v, Scalar::I32);
    let (body, sign) = (e.ints(0x7fff), e.ints(0x8000));
    let (thirteen, sixteen) = (e.ints(13), e.ints(16));
    let m = e.and(v, body);
    let m = e.shl(m, thirteen);
    let m = e.bits(m, F32X16);
    // Re-biases the exponent; subnormal halves become normal in the multiplication.
    let bias = e.floats(f32::from_bits(0x7780_0000));
    let m = e.mul(m, bias);
    let m = e.bits(m, I32X16);
    let s = e.and(v, sign);
    let s = e.shl(s, sixteen);
    let m = e.or(m, s);
    e.bits(m, F32X16)
}

/// The weights `code − 8` of sixteen codes, each in the low four bits of its lane; higher bits are ignored.
pub fn decode_u4(e: &mut Emitter, codes: Value) -> Value {
    if e.caps.avx512 {
        let lanes = e.lane_numbers();
        let eight = e.ints(8);
        let table = e.sub(lanes, eight);
        let table = e.to_float(table);
        return e.intrinsic("llvm.x86.avx512.permvar.sf.512", &[table, codes], F32X16);
    }
    let (low, eight) = (e.ints(15), e.ints(8));
    let q = e.and(codes, low);
    let q = e.sub(q, eight);
    e.to_float(q)
}
