//! Atoms: one hardware product each, with a portable form of the same integers.
//!
//! LLVM forms `vpdpbusd` neither from loops nor from partial reductions, so it is called by name.

use super::emit::{Emitter, F32X16, I32X16, Scalar, Type, Value};

const I16X32: Type = Type::Lanes(32, Scalar::I16);

/// `acc + Σ₄ u·s` in each of 16 lanes, for bytes `u` unsigned and `s` signed (both `vector<64xi8>`), modulo 2³².
pub fn dot_u8s8(e: &mut Emitter, acc: Value, u: Value, s: Value) -> Value {
    if e.caps.vnni512 {
        return e.intrinsic("llvm.x86.avx512.vpdpbusd.512", &[acc, u, s], I32X16);
    }
    if e.caps.sse2 {
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

/// `a₀b₀ + a₁b₁` of neighbouring 16-bit lanes (`pmaddwd`), in pieces of the machine's width.
fn multiply_pairs(e: &mut Emitter, a: Value, b: Value) -> Value {
    if e.caps.avx512 {
        return e.intrinsic("llvm.x86.avx512.pmaddw.d.512", &[a, b], I32X16);
    }
    let (name, lanes) =
        if e.caps.avx2 { ("llvm.x86.avx2.pmadd.wd", 16) } else { ("llvm.x86.sse2.pmadd.wd", 8) };
    let mut parts: Vec<Value> = (0..32 / lanes)
        .map(|p| {
            let pick: Vec<usize> = (p * lanes..(p + 1) * lanes).collect();
            let (x, y) = (e.shuffle(a, a, &pick), e.shuffle(b, b, &pick));
            e.intrinsic(name, &[x, y], Type::Lanes((lanes / 2) as u16, Scalar::I32))
        })
        .collect();
    let mut width = lanes / 2;
    while parts.len() > 1 {
        let pick: Vec<usize> = (0..2 * width).collect();
        parts = parts.chunks(2).map(|two| e.shuffle(two[0], two[1], &pick)).collect();
        width *= 2;
    }
    parts[0]
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
