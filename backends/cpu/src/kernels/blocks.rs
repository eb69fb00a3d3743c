//! Weights in blocks along K, each with a scale by column: how the codes and scales of one block lie in a panel.
//!
//! Codes are unsigned, their zero point in the middle, so that they can be the unsigned operand of an integer product; a code that pads a
//! part of a block is 0 and adds nothing.

/// The form of a panel's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Blocks {
    /// Values along K that share a scale: a multiple of 8, above 64 of 32.
    pub block: u32,
    /// The codes.
    pub codes: BlockCodes,
    /// The scales behind the codes.
    pub scales: BlockScales,
}

/// How the codes of a block are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockCodes {
    /// Nibbles with zero point 8.
    U4,
    /// Bytes with zero point 128.
    U8,
}

/// How the scales of a block are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockScales {
    /// IEEE half.
    F16,
    /// IEEE single.
    F32,
}

impl BlockCodes {
    /// Bits of a code.
    pub fn bits(self) -> u32 {
        match self {
            BlockCodes::U4 => 4,
            BlockCodes::U8 => 8,
        }
    }

    /// The code of 0, and what is added to a signed code.
    pub fn zero(self) -> u8 {
        match self {
            BlockCodes::U4 => 8,
            BlockCodes::U8 => 128,
        }
    }
}

impl BlockScales {
    /// Bytes of a scale.
    pub fn bytes(self) -> u32 {
        match self {
            BlockScales::F16 => 2,
            BlockScales::F32 => 4,
        }
    }
}

impl Blocks {
    /// Nibbles with f16 scales.
    pub fn nibbles(block: u32) -> Blocks {
        Blocks { block, codes: BlockCodes::U4, scales: BlockScales::F16 }
    }

    /// Whether there are kernels for blocks of so many values.
    pub fn fits(block: u32) -> bool {
        block > 0 && block.is_multiple_of(8) && (block <= 64 || block.is_multiple_of(32))
    }

    /// Bytes of the codes of one column in a block.
    pub fn code_bytes(self) -> u64 {
        u64::from(self.block) * u64::from(self.codes.bits()) / 8
    }

    /// Bytes of one column in a block, its scale included.
    pub fn column_bytes(self) -> u64 {
        self.code_bytes() + u64::from(self.scales.bytes())
    }
}
