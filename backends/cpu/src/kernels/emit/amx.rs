//! Tile registers (Intel AMX): eight registers of up to 16 rows of 64 bytes, each of the size that was configured. Operations name their
//! registers, so values in them live no longer than the function that made them.

use super::{Emitter, I8, Type, Value};

/// Which operand's bytes have a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signs {
    /// Both.
    Both,
    /// The first's.
    First,
    /// The second's.
    Second,
}

impl Emitter {
    fn tile_op(&mut self, name: &str, tiles: &[u8], others: &[Value]) {
        let mut operands: Vec<Value> = tiles.iter().map(|&t| self.int_of(I8, i64::from(t))).collect();
        operands.extend(others);
        let (names, types) = super::lists(&operands);
        self.line(format_args!("llvm.call_intrinsic \"llvm.x86.{name}\"({names}) : ({types}) -> ()"));
    }

    /// Gives tile registers the sizes at `p`: 64 bytes, see "LDTILECFG" of Intel's manual. What they held is lost.
    pub fn tile_configure(&mut self, p: Value) {
        debug_assert!(p.ty() == Type::Ptr);
        self.tile_op("ldtilecfg", &[], &[p]);
    }

    /// Gives tile registers back, so that the system need not keep them.
    pub fn tile_release(&mut self) {
        self.tile_op("tilerelease", &[], &[]);
    }

    /// Fills a tile with zeros.
    pub fn tile_zero(&mut self, tile: u8) {
        self.tile_op("tilezero", &[tile], &[]);
    }

    /// Reads the rows of a tile, `stride` bytes from one to the next.
    pub fn tile_load(&mut self, tile: u8, p: Value, stride: Value) {
        self.tile_op("tileloadd64", &[tile], &[p, stride]);
    }

    /// Writes the rows of a tile, `stride` bytes from one to the next.
    pub fn tile_store(&mut self, tile: u8, p: Value, stride: Value) {
        self.tile_op("tilestored64", &[tile], &[p, stride]);
    }

    /// `sum[i][j] += Σₖ Σ₄ a[i][4k…] · b[k][4j…]`: i32 sums of products of bytes, modulo 2³².
    pub fn tile_dot(&mut self, signs: Signs, sum: u8, a: u8, b: u8) {
        let name = match signs {
            Signs::Both => "tdpbssd",
            Signs::First => "tdpbsud",
            Signs::Second => "tdpbusd",
        };
        self.tile_op(name, &[sum, a, b], &[]);
    }
}
