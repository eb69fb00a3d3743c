//! States that grow: keys and values of attention. They lie in blocks of tokens, with room for more than they hold; when the room is used up
//! it doubles, and what they hold moves along.

use crate::program::Blocks;
use crate::state::Persistent;
use crate::{AlignedBuffer, RuntimeError};

impl Persistent {
    /// Gives the buffer room for `capacity` tokens in each of `rows` rows; what it holds stays where the rows are as many as before.
    pub(crate) fn grow(
        &mut self,
        blocks: &Blocks,
        dims: Vec<u64>,
        rows: u64,
        capacity: u64,
    ) -> Result<(), RuntimeError> {
        let overflow = || RuntimeError::Overflow { symbols: vec![rows, capacity] };
        let row = |tokens: u64| tokens.div_ceil(blocks.tokens).checked_mul(blocks.bytes);
        let (old_row, new_row) =
            (row(self.capacity).ok_or_else(overflow)?, row(capacity).ok_or_else(overflow)?);
        let bytes = rows.checked_mul(new_row).ok_or_else(overflow)?;
        let kept =
            if rows == self.rows { row(self.held.min(self.capacity)).ok_or_else(overflow)? } else { 0 };
        let mut buffer = AlignedBuffer::zeroed(bytes, "keys and values of attention")?;
        if kept > 0 {
            for index in 0..rows {
                let (from, to) = ((index * old_row) as usize, (index * new_row) as usize);
                buffer[to..to + kept as usize].copy_from_slice(&self.buffer[from..from + kept as usize]);
            }
        }
        let (held, written) = (if kept > 0 { self.held } else { 0 }, self.written);
        *self = Persistent { dims: Some(dims), bytes, buffer, written, rows, capacity, held };
        Ok(())
    }
}

/// Where the elements of a growing state are, if they are whole bytes.
pub(crate) struct Tokens {
    batch: u64,
    heads: u64,
    features: u64,
    width: u64,
    tokens: u64,
}

impl Tokens {
    /// Of a state of these dimensions, with elements of `width` bytes; none where blocks hold something else.
    pub(crate) fn new(blocks: &Blocks, dims: &[u64], width: u64) -> Option<Tokens> {
        let &[batch, _, heads, features] = dims else { return None };
        let bytes = features.checked_mul(width)?.checked_mul(blocks.tokens)?;
        (!blocks.packed && bytes == blocks.bytes).then_some(Tokens {
            batch,
            heads,
            features,
            width,
            tokens: blocks.tokens,
        })
    }

    /// `[batch, held, heads, features]`.
    pub(crate) fn shape(&self, held: u64) -> [u64; 4] {
        [self.batch, held, self.heads, self.features]
    }

    /// Each element of the first `held` tokens: where it is in a dense tensor, and where in a buffer with room for `capacity`.
    fn places(&self, held: u64, capacity: u64) -> impl Iterator<Item = (usize, usize)> + '_ {
        let block = self.features * self.width * self.tokens;
        let row_bytes = capacity.div_ceil(self.tokens) * block;
        let rows = move |b: u64, h: u64| (b * self.heads + h) * row_bytes;
        (0..self.batch).flat_map(move |b| {
            (0..held).flat_map(move |t| {
                (0..self.heads).flat_map(move |h| {
                    (0..self.features).map(move |f| {
                        let dense = ((b * held + t) * self.heads + h) * self.features + f;
                        let inner = (f * self.tokens + t % self.tokens) * self.width;
                        let own = rows(b, h) + t / self.tokens * block + inner;
                        ((dense * self.width) as usize, own as usize)
                    })
                })
            })
        })
    }

    /// The first `held` tokens, as a dense tensor.
    pub(crate) fn read(&self, from: &Persistent, held: u64) -> Vec<u8> {
        let width = self.width as usize;
        let mut dense = vec![0; (self.shape(held).iter().product::<u64>() * self.width) as usize];
        for (to, own) in self.places(held, from.capacity) {
            dense[to..to + width].copy_from_slice(&from.buffer[own..own + width]);
        }
        dense
    }

    /// Sets the first `held` tokens from a dense tensor.
    pub(crate) fn write(&self, to: &mut Persistent, held: u64, dense: &[u8]) {
        let width = self.width as usize;
        for (from, own) in self.places(held, to.capacity) {
            to.buffer[own..own + width].copy_from_slice(&dense[from..from + width]);
        }
    }
}
