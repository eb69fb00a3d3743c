//! Rows of activations to codes and back, in any format: with scales that are given, or found in what shares them.

use qcc_ir::ScaleType;

use super::Levels;
use super::decode::{scale_codes, scales};
use super::encode::{Nearest, minifloat};
use crate::kernels::emit::{Emitter, F32, F32X16, I8X16, I32, Kernel, Scalar, Value};
use crate::kernels::{TargetCaps, row};
use crate::loops::storage::Storage;

/// A kernel between rows of f32 and rows of codes; a work item is a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowSpec {
    /// To codes, or from codes.
    pub direction: Direction,
    /// Which values share a scale.
    pub groups: Groups,
    /// The type of scales.
    pub scale: ScaleType,
    /// Whether there are zero points.
    pub zero_points: bool,
    /// Added to integer codes when they are stored.
    pub offset: i16,
}

/// What is made of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Codes with the scales that are given.
    Encode(Nearest),
    /// Codes and the scales they have.
    Find(Nearest, Found),
    /// Numbers.
    Decode(Levels, u8),
}

/// What a scale is found from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Bits of the f32 nearest to `1 / largest level` (of asymmetric codes: `1 / (highest − lowest)`).
    pub part: u32,
    /// `⌊log2⌋` of the largest level.
    pub exponent: i32,
    /// Whether negative numbers do not count.
    pub unsigned: bool,
}

/// Which values of rows share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Groups {
    /// All of all rows; only given.
    Tensor,
    /// Those of a column; only given.
    Column,
    /// Those of a row.
    Row,
    /// So many neighbours of a row.
    Block(u32),
}

/// Argument slots. `zeros`: zero points (`i32`), `tensor_scale`: what E4M3 scales are multiples of, `table`: the levels of a table.
pub const ARGS: [&str; 7] = ["x", "y", "scales", "zeros", "tensor_scale", "columns", "table"];

/// The kernel's MLIR text.
pub fn generate(spec: &RowSpec, name: &str, caps: &TargetCaps) -> String {
    let mut e = Emitter::new(caps);
    e.kernel(name, |e, k| rows(e, *spec, &k));
    e.finish()
}

struct Slots {
    scales: Value,
    zeros: Value,
    tensor_scale: Value,
    table: Value,
}

fn rows(e: &mut Emitter, spec: RowSpec, k: &Kernel) {
    let p = |e: &mut Emitter, slot: &str| k.pointer(e, &ARGS, slot);
    let (x, y) = (p(e, "x"), p(e, "y"));
    let slots = Slots {
        scales: p(e, "scales"),
        zeros: p(e, "zeros"),
        tensor_scale: p(e, "tensor_scale"),
        table: p(e, "table"),
    };
    let columns = k.size(e, &ARGS, "columns");
    let (from, to) = match spec.direction {
        Direction::Decode(..) => (1, 4),
        _ => (4, 1),
    };
    e.each(k.begin, k.end, |e, index| {
        let first = e.mul(index, columns);
        let (x, y) = (e.element(x, first, from), e.element(y, first, to));
        let one_group = |e: &mut Emitter, group: Value| spec.group(e, &slots, (x, y), columns, group);
        match spec.groups {
            Groups::Tensor | Groups::Column => {
                let zero = e.int(0);
                one_group(e, zero);
            }
            Groups::Row => one_group(e, index),
            Groups::Block(block) => {
                let (zero, count) = (e.int(0), e.ceil_div(columns, i64::from(block)));
                let before = e.mul(index, count);
                e.each(zero, count, |e, b| {
                    let first = e.times(b, i64::from(block));
                    let left = e.sub(columns, first);
                    let most = e.int(i64::from(block));
                    let count = e.min_int(left, most);
                    let (x, y) = (e.element(x, first, from), e.element(y, first, to));
                    let group = e.add(before, b);
                    spec.group(e, &slots, (x, y), count, group);
                });
            }
        }
    });
}

/// A scale in every lane and its zero point (`i64`).
struct Scaled {
    scale: Value,
    zero: Value,
}

impl RowSpec {
    /// The values at `x` that share a scale, or those of a row with a scale a column.
    fn group(self, e: &mut Emitter, slots: &Slots, (x, y): (Value, Value), count: Value, group: Value) {
        let by_column = self.groups == Groups::Column;
        match self.direction {
            Direction::Encode(nearest) if by_column => {
                self.by_column(e, slots, (x, y), count, |e, v, scale, zero, offset| {
                    let one = e.floats(1.0);
                    let inverse = e.div(one, scale);
                    // Zero points differ from lane to lane: they are added behind the rounding, and clamped there.
                    nearest.encode_lanes(e, v, inverse, zero, offset)
                })
            }
            Direction::Decode(levels, bits) if by_column => {
                self.by_column(e, slots, (x, y), count, |e, v, scale, zero, _| {
                    let zero = self.zero_points.then_some(zero);
                    let level = levels.decode(e, bits, v, zero, slots.table);
                    e.mul(level, scale)
                })
            }
            Direction::Encode(nearest) => {
                let scaled = self.given(e, slots, group);
                self.encode(e, nearest, &scaled, (x, y), count);
            }
            Direction::Find(nearest, found) => {
                let scaled = self.find(e, slots, nearest, found, x, count, group);
                self.encode(e, nearest, &scaled, (x, y), count);
            }
            Direction::Decode(levels, bits) => {
                let scaled = self.given(e, slots, group);
                let zero = self.zero_points.then(|| {
                    let zero = e.truncate(scaled.zero, Scalar::I32);
                    e.splat(zero, 16)
                });
                row::sweep(e, count, &[], |e, s, _| {
                    let codes = self.load_codes(e, x, s.column, levels);
                    let level = levels.decode(e, bits, codes, zero, slots.table);
                    let v = e.mul(level, scaled.scale);
                    s.store(e, v, y, 4);
                    Vec::new()
                });
            }
        }
    }

    fn by_column(
        self,
        e: &mut Emitter,
        slots: &Slots,
        (x, y): (Value, Value),
        count: Value,
        mut convert: impl FnMut(&mut Emitter, Value, Value, Value, i64) -> Value,
    ) {
        row::sweep(e, count, &[], |e, s, _| {
            let at = e.element(slots.scales, s.column, 4);
            let scale = scales(e, ScaleType::F32, at);
            let zero = if self.zero_points {
                let at = e.element(slots.zeros, s.column, 4);
                e.load(at, crate::kernels::emit::I32X16)
            } else {
                e.ints(0)
            };
            let (v, size) = match self.direction {
                Direction::Decode(levels, _) => (self.load_codes(e, x, s.column, levels), 4),
                _ => (s.load(e, x, 0.0), 1),
            };
            let v = convert(e, v, scale, zero, i64::from(self.offset));
            let v = if size == 1 { e.truncate(v, Scalar::I8) } else { v };
            s.store(e, v, y, size);
            Vec::new()
        });
    }

    fn encode(
        self,
        e: &mut Emitter,
        nearest: Nearest,
        scaled: &Scaled,
        (x, y): (Value, Value),
        count: Value,
    ) {
        let one = e.floats(1.0);
        let inverse = e.div(one, scaled.scale);
        row::sweep(e, count, &[], |e, s, _| {
            let v = s.load(e, x, 0.0);
            let codes = nearest.encode(e, v, inverse, scaled.zero, i64::from(self.offset));
            let codes = e.truncate(codes, Scalar::I8);
            s.store(e, codes, y, 1);
            Vec::new()
        });
    }

    /// Codes as bit patterns, or integers where they have an offset or are signed bytes.
    fn load_codes(self, e: &mut Emitter, x: Value, column: Value, levels: Levels) -> Value {
        let at = e.at(x, column);
        let codes = e.load(at, I8X16);
        let codes = match levels {
            Levels::Signed { .. } if self.offset == 0 => e.extend(codes, Scalar::I32),
            _ => e.extend_unsigned(codes, Scalar::I32),
        };
        if self.offset == 0 {
            return codes;
        }
        let offset = e.ints(i32::from(self.offset));
        e.sub(codes, offset)
    }

    fn zero_point(self, e: &mut Emitter, slots: &Slots, group: Value) -> Value {
        if !self.zero_points {
            return e.int(0);
        }
        let at = e.element(slots.zeros, group, 4);
        let zero = e.load(at, I32);
        e.extend(zero, Scalar::I64)
    }

    fn given(self, e: &mut Emitter, slots: &Slots, group: Value) -> Scaled {
        let size = i64::from(self.scale.bits()) / 8;
        let at = e.element(slots.scales, group, size);
        let scale = match self.scale {
            ScaleType::F32 => {
                let scale = e.load(at, F32);
                e.splat(scale, 16)
            }
            ScaleType::F16 => Storage::F16.load_splat(e, at),
            ScaleType::BF16 => Storage::BF16.load_splat(e, at),
            ScaleType::E4M3 | ScaleType::E8M0 => {
                let code = e.load(at, crate::kernels::emit::I8);
                let code = e.extend_unsigned(code, Scalar::I32);
                let code = e.splat(code, 16);
                let scale = scale_codes(e, self.scale, code);
                self.of_tensor(e, slots, scale)
            }
        };
        Scaled { scale, zero: self.zero_point(e, slots, group) }
    }

    /// An E4M3 scale times that of the tensor.
    fn of_tensor(self, e: &mut Emitter, slots: &Slots, scale: Value) -> Value {
        if self.scale != ScaleType::E4M3 {
            return scale;
        }
        let of_tensor = e.load(slots.tensor_scale, F32);
        let of_tensor = e.splat(of_tensor, 16);
        e.mul(scale, of_tensor)
    }

    /// Finds the scale of the numbers at `x`, and stores it.
    #[allow(clippy::too_many_arguments, reason = "one for each thing it reads")]
    fn find(
        self,
        e: &mut Emitter,
        slots: &Slots,
        nearest: Nearest,
        found: Found,
        x: Value,
        count: Value,
        group: Value,
    ) -> Scaled {
        let nothing = e.floats(0.0);
        // The largest, the least, and a sum that is NaN where a number is not finite.
        let seen = row::sweep(e, count, &[nothing, nothing, nothing], |e, s, seen| {
            let v = s.load(e, x, 0.0);
            let size = if self.zero_points || found.unsigned { v } else { e.magnitude(v) };
            let most = e.larger(size, seen[0]);
            let least = e.smaller(v, seen[1]);
            let none = e.sub(v, v);
            let finite = e.add(seen[2], none);
            vec![most, least, finite]
        });
        let most = e.fold(seen[0], Emitter::larger);
        let least = e.fold(seen[1], Emitter::smaller);
        let finite = e.fold(seen[2], Emitter::add);
        let part = e.float_of(F32, f32::from_bits(found.part));
        let to = e.element(slots.scales, group, i64::from(self.scale.bits()) / 8);
        match self.scale {
            ScaleType::E8M0 => {
                let bits = e.bits(most, I32);
                let shift = e.int_of(I32, 23);
                let field = e.shr(bits, shift);
                let exponent = e.int_of(I32, i64::from(found.exponent));
                let code = e.sub(field, exponent);
                let (low, high) = (e.int_of(I32, 0), e.int_of(I32, 254));
                let code = e.max_int(code, low);
                let code = e.min_int(code, high);
                let number = e.compare_float("ord", finite, finite);
                let none = e.int_of(I32, 255);
                let code = e.select(number, code, none);
                let byte = e.truncate(code, Scalar::I8);
                e.store(byte, to);
                let code = e.splat(code, 16);
                Scaled { scale: scale_codes(e, self.scale, code), zero: e.int(0) }
            }
            ScaleType::E4M3 => {
                let of_tensor = e.load(slots.tensor_scale, F32);
                let one = e.float_of(F32, 1.0);
                let inverse = e.div(one, of_tensor);
                let scale = e.mul(most, part);
                let scale = e.mul(scale, inverse);
                let scale = e.splat(scale, 16);
                let float = qcc_ir::Storage::Fp8E4M3.minifloat().expect("invariant: it is a small float");
                let code = minifloat(e, float, scale);
                let least = e.ints(1);
                let code = e.max_int(code, least);
                let byte = e.lane(code, 0);
                let byte = e.truncate(byte, Scalar::I8);
                e.store(byte, to);
                let scale = scale_codes(e, self.scale, code);
                Scaled { scale: self.of_tensor(e, slots, scale), zero: e.int(0) }
            }
            _ => {
                let span = if self.zero_points { e.sub(most, least) } else { most };
                let scale = e.mul(span, part);
                let scale = e.splat(scale, 16);
                let (scale, empty) = self.rounded(e, scale, to);
                let zero = match nearest {
                    Nearest::Integer { lo, hi, .. } if self.zero_points => {
                        let one = e.floats(1.0);
                        let inverse = e.div(one, scale);
                        let inverse = e.lane(inverse, 0);
                        let below = e.mul(least, inverse);
                        let zero = asymmetric_zero(e, below, lo, hi, empty);
                        let at = e.element(slots.zeros, group, 4);
                        e.store(zero, at);
                        e.extend(zero, Scalar::I64)
                    }
                    _ => e.int(0),
                };
                Scaled { scale, zero }
            }
        }
    }

    /// A scale (in every lane) as its type holds it, 1 where that is 0; stores it, and says where it was.
    fn rounded(self, e: &mut Emitter, scale: Value, to: Value) -> (Value, Value) {
        let storage = match self.scale {
            ScaleType::F16 => Storage::F16,
            ScaleType::BF16 => Storage::BF16,
            _ => Storage::F32,
        };
        let mut scale = scale;
        let limit = match self.scale {
            ScaleType::F16 => Some(65504.0),
            // The largest bfloat16.
            ScaleType::BF16 => Some(f32::from_bits(0x7F7F_0000)),
            _ => None,
        };
        if let Some(limit) = limit {
            let infinity = e.floats(f32::INFINITY);
            let finite = e.compare_float("one", scale, infinity);
            let most = e.floats(limit);
            let held = e.smaller(scale, most);
            scale = e.select(finite, held, scale);
        }
        let stored = storage.narrow(e, scale);
        let back = storage.widen(e, stored);
        let (nothing, one) = (e.floats(0.0), e.floats(1.0));
        let empty = e.compare_float("oeq", back, nothing);
        let scale = e.select(empty, one, back);
        debug_assert_eq!(scale.ty(), F32X16);
        let stored = storage.narrow(e, scale);
        let first = e.lane(stored, 0);
        e.store(first, to);
        let empty = e.lane(empty, 0);
        (scale, empty)
    }
}

/// `lo − round(below)` within the codes; where nothing is scaled the code of 0.
fn asymmetric_zero(e: &mut Emitter, below: Value, lo: i16, hi: i16, empty: Value) -> Value {
    let rounded = {
        // Ties to even; beyond the codes only the sign matters.
        let most = e.float_of(F32, 65536.0);
        let held = e.smaller(below, most);
        let least = e.float_of(F32, -65536.0);
        let held = e.larger(held, least);
        let round = e.float_of(F32, crate::kernels::math::ROUND);
        let shifted = e.add(held, round);
        let bits = e.bits(shifted, I32);
        let base = e.int_of(I32, i64::from(crate::kernels::math::ROUND.to_bits() as i32));
        e.sub(bits, base)
    };
    let low = e.int_of(I32, i64::from(lo));
    let high = e.int_of(I32, i64::from(hi));
    let zero = e.sub(low, rounded);
    let zero = e.max_int(zero, low);
    let zero = e.min_int(zero, high);
    let nothing = e.int_of(I32, i64::from(lo.max(0)));
    e.select(empty, nothing, zero)
}
