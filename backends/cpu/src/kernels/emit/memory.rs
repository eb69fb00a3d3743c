//! Addresses, loads and stores.

use super::{Emitter, F32X16, I8X64, Scalar, Type, Value};

/// A cache that lines are asked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// The first level.
    First,
    /// The second level.
    Second,
}

impl Emitter {
    /// `p + bytes`.
    pub fn at(&mut self, p: Value, bytes: Value) -> Value {
        self.op(
            Type::Ptr,
            format_args!("llvm.getelementptr {p}[{bytes}] : (!llvm.ptr, i64) -> !llvm.ptr, i8"),
        )
    }

    /// `p + bytes` for a constant distance.
    pub fn offset(&mut self, p: Value, bytes: i64) -> Value {
        if bytes == 0 {
            return p;
        }
        self.op(Type::Ptr, format_args!("llvm.getelementptr {p}[{bytes}] : (!llvm.ptr) -> !llvm.ptr, i8"))
    }

    /// `p + index · size`.
    pub fn element(&mut self, p: Value, index: Value, size: i64) -> Value {
        let bytes = self.times(index, size);
        self.at(p, bytes)
    }

    /// Reads a value; no alignment is assumed.
    pub fn load(&mut self, p: Value, ty: Type) -> Value {
        self.op(ty, format_args!("llvm.load {p} {{alignment = 1 : i64}} : !llvm.ptr -> {ty}"))
    }

    /// Sixteen f32 of the table at `p`, by index (`i32` lanes).
    pub fn gather(&mut self, p: Value, indices: Value) -> Value {
        let every =
            self.op(Type::Lanes(16, Scalar::I1), format_args!("arith.constant dense<true> : vector<16xi1>"));
        let other = self.floats(0.0);
        self.next += 1;
        let pointers = self.next;
        self.line(format_args!(
            "%v{pointers} = llvm.getelementptr {p}[{indices}] : (!llvm.ptr, {}) -> vector<16x!llvm.ptr>, f32",
            indices.ty
        ));
        self.op(
            F32X16,
            format_args!(
                "llvm.intr.masked.gather %v{pointers}, {every}, {other} {{alignment = 4 : i32}} : (vector<16x!llvm.ptr>, vector<16xi1>, vector<16xf32>) -> vector<16xf32>"
            ),
        )
    }

    /// Writes a value; no alignment is assumed.
    pub fn store(&mut self, x: Value, p: Value) {
        self.line(format_args!("llvm.store {x}, {p} {{alignment = 1 : i64}} : {}, !llvm.ptr", x.ty));
    }

    /// Reads the lanes that `mask` names and nothing else; the others are `other`'s.
    pub fn load_masked(&mut self, p: Value, mask: Value, other: Value) -> Value {
        let ty = other.ty;
        self.op(
            ty,
            format_args!(
                "llvm.intr.masked.load {p}, {mask}, {other} {{alignment = 1 : i32}} : (!llvm.ptr, {}, {ty}) -> {ty}",
                mask.ty
            ),
        )
    }

    /// Writes the lanes that `mask` names.
    pub fn store_masked(&mut self, x: Value, p: Value, mask: Value) {
        self.line(format_args!(
            "llvm.intr.masked.store {x}, {p}, {mask} {{alignment = 1 : i32}} : {}, {} into !llvm.ptr",
            x.ty, mask.ty
        ));
    }

    /// The mask of the first `count` (`i64`) of 16 or 64 lanes.
    pub fn mask(&mut self, count: Value, lanes: u16) -> Value {
        let scalar = if lanes == 16 { Scalar::I32 } else { Scalar::I8 };
        let most = self.int(i64::from(lanes));
        let count = self.min_int(count, most);
        let count = self.truncate(count, scalar);
        let count = self.splat(count, lanes);
        let numbers: Vec<String> = (0..lanes).map(|lane| lane.to_string()).collect();
        let ty = Type::Lanes(lanes, scalar);
        let lanes = self.op(ty, format_args!("arith.constant dense<[{}]> : {ty}", numbers.join(", ")));
        self.compare("slt", lanes, count)
    }

    /// Writes the first `count` (`i64`) lanes of sixteen or sixty-four.
    pub fn store_first(&mut self, x: Value, p: Value, count: Value) {
        let lanes = match x.ty {
            Type::Lanes(lanes, _) => lanes,
            _ => 1,
        };
        let all = self.int(i64::from(lanes));
        let whole = self.compare("sge", count, all);
        self.branch(
            whole,
            |e| e.store(x, p),
            |e| {
                let mask = e.mask(count, lanes);
                e.store_masked(x, p, mask);
            },
        );
    }

    /// Asks for the line at `p` to be brought near; there need be nothing.
    pub fn prefetch(&mut self, p: Value, to: Cache) {
        let hint = match to {
            Cache::First => 3,
            Cache::Second => 2,
        };
        self.line(format_args!(
            "\"llvm.intr.prefetch\"({p}) <{{cache = 1 : i32, hint = {hint} : i32, rw = 0 : i32}}> : (!llvm.ptr) -> ()"
        ));
    }

    /// Copies `bytes`, neither over- nor underrunning.
    pub fn copy_exact(&mut self, to: Value, from: Value, bytes: Value) {
        self.line(format_args!(
            "\"llvm.intr.memcpy\"({to}, {from}, {bytes}) <{{isVolatile = false}}> : (!llvm.ptr, !llvm.ptr, i64) -> ()"
        ));
    }

    /// Copies at least `bytes`, in whole 64-byte pieces: both sides need 63 spare bytes.
    pub fn copy_pieces(&mut self, to: Value, from: Value, bytes: Value) {
        let (zero, piece) = (self.int(0), self.int(64));
        self.repeat(zero, bytes, piece, &[], |e, i, _| {
            let s = e.at(from, i);
            let v = e.load(s, I8X64);
            let d = e.at(to, i);
            e.store(v, d);
            Vec::new()
        });
    }

    /// Fills at least `bytes` with a vector of bytes, in whole 64-byte pieces.
    pub fn fill_pieces(&mut self, to: Value, bytes: Value, with: Value) {
        let (zero, piece) = (self.int(0), self.int(64));
        self.repeat(zero, bytes, piece, &[], |e, i, _| {
            let d = e.at(to, i);
            e.store(with, d);
            Vec::new()
        });
    }
}
