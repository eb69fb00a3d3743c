//! The BLAKE3 hash of a file in memory, by all cores: weights that are mapped come into memory by as many threads as read them, and a
//! model's first call finds them there. Opening an artifact takes about as long as reading it. The
//! threads end with it: a pool as rayon's would stay in every program that loads a model.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use blake3::{Hash, Hasher};

/// Bytes of a piece, at most: a subtree of the hash.
const PIECE: usize = 4 << 20;

/// The hash of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> Hash {
    if bytes.len() <= PIECE {
        return blake3::hash(bytes);
    }
    let mut pieces = Vec::new();
    cut(bytes, 0, &mut pieces);
    let values: Vec<OnceLock<ChainingValue>> = pieces.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(piece, offset)) = pieces.get(at) else { break };
            let value = Hasher::new().set_input_offset(offset).update(piece).finalize_non_root();
            // Nobody else has this number.
            let _ = values[at].set(value);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(pieces.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where there is no thread, those that there are do its work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut values = values
        .into_iter()
        .map(|value| value.into_inner().expect("invariant: every piece was taken, and its thread has ended"));
    let left = left_subtree_len(bytes.len() as u64) as usize;
    let first = join(left, &mut values);
    let second = join(bytes.len() - left, &mut values);
    merge_subtrees_root(&first, &second, Mode::Hash)
}

/// The subtrees of no more than a piece, from left to right, with their offsets.
fn cut<'b>(bytes: &'b [u8], offset: u64, pieces: &mut Vec<(&'b [u8], u64)>) {
    if bytes.len() <= PIECE {
        pieces.push((bytes, offset));
        return;
    }
    let (first, second) = bytes.split_at(left_subtree_len(bytes.len() as u64) as usize);
    cut(first, offset, pieces);
    cut(second, offset + first.len() as u64, pieces);
}

/// The value of a subtree of so many bytes, of those of its pieces.
fn join(bytes: usize, values: &mut impl Iterator<Item = ChainingValue>) -> ChainingValue {
    if bytes <= PIECE {
        return values.next().expect("invariant: a value a piece");
    }
    let left = left_subtree_len(bytes as u64) as usize;
    let first = join(left, values);
    let second = join(bytes - left, values);
    merge_subtrees_non_root(&first, &second, Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_pieces_it_is_the_hash_of_the_whole() {
        let bytes: Vec<u8> =
            (0..5 * PIECE as u32 + 12_345).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for length in [0, 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1024, 3 * PIECE - 1, bytes.len()] {
            assert_eq!(digest(&bytes[..length]), blake3::hash(&bytes[..length]), "{length} bytes");
        }
    }
}
