//! Where buffers lie in the arena, which they share where they are not alive at the same time: greedy by size with offsets (Pisarchyk and
//! Lee, "Efficient memory management for deep neural net inference", 2020). Done when sizes are numbers, so that gaps are what they are.

use crate::ALIGNMENT;
use crate::program::Entry;

/// A buffer: how large it is, and the steps between which it holds data, both included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub bytes: u64,
    pub first: u32,
    pub last: u32,
}

/// Where each buffer starts, and the bytes of all together.
#[derive(Debug)]
pub(crate) struct Places {
    pub starts: Vec<u64>,
    pub bytes: u64,
}

impl Places {
    /// Buffers choose one after the other, each the smallest gap that it fits in. Which order wastes least depends on the model: three are
    /// tried, until there is one that wastes nothing. `None` when all is larger than memory can be.
    pub fn new(buffers: &[Buffer]) -> Option<Places> {
        let sizes: Vec<u64> = buffers
            .iter()
            .map(|buffer| buffer.bytes.checked_next_multiple_of(ALIGNMENT as u64))
            .collect::<Option<_>>()?;
        let alive =
            alive(buffers.iter().zip(&sizes).map(|(buffer, size)| Buffer { bytes: *size, ..*buffer }))?;
        let least = alive.iter().copied().max().unwrap_or(0);
        let used = || (0..buffers.len()).filter(|&i| sizes[i] > 0);
        let size = |i: &usize| (std::cmp::Reverse(sizes[*i]), buffers[*i].first, *i);
        // The most that is alive while a buffer is: where memory is short, all that is there chooses first.
        let crowd = |i: &usize| {
            let Buffer { first, last, .. } = buffers[*i];
            std::cmp::Reverse(alive[first as usize..=last as usize].iter().copied().max())
        };
        let mut orders: [Vec<usize>; 3] = std::array::from_fn(|_| used().collect());
        orders[0].sort_by_key(size);
        orders[1].sort_by_cached_key(|i| (crowd(i), size(i)));
        orders[2].sort_by_cached_key(|i| (crowd(i), buffers[*i].first, size(i)));
        let mut best: Option<Places> = None;
        for order in orders {
            let places = Places::in_order(buffers, &sizes, &order)?;
            if best.as_ref().is_none_or(|best| places.bytes < best.bytes) {
                best = Some(places);
            }
            if best.as_ref().is_some_and(|best| best.bytes == least) {
                break;
            }
        }
        best
    }

    fn in_order(buffers: &[Buffer], sizes: &[u64], order: &[usize]) -> Option<Places> {
        let mut places = Places { starts: vec![0; buffers.len()], bytes: 0 };
        // Those that have their place, by it.
        let mut placed: Vec<usize> = Vec::with_capacity(order.len());
        for &i in order {
            let (mut end, mut best) = (0u64, None::<(u64, u64)>);
            for &other in &placed {
                if buffers[other].first > buffers[i].last || buffers[i].first > buffers[other].last {
                    continue;
                }
                let start = places.starts[other];
                let gap = start.saturating_sub(end);
                if gap >= sizes[i] && best.is_none_or(|(smallest, _)| gap < smallest) {
                    best = Some((gap, end));
                }
                end = end.max(start + sizes[other]);
            }
            let start = best.map_or(end, |(_, start)| start);
            places.starts[i] = start;
            places.bytes = places.bytes.max(start.checked_add(sizes[i])?);
            placed.insert(placed.partition_point(|&other| places.starts[other] <= start), i);
        }
        Some(places)
    }
}

/// Bytes that are alive at each step.
fn alive(buffers: impl Iterator<Item = Buffer>) -> Option<Vec<u64>> {
    let mut changes: Vec<i128> = Vec::new();
    for Buffer { bytes, first, last } in buffers {
        changes.resize(changes.len().max(last as usize + 2), 0);
        changes[first as usize] += i128::from(bytes);
        changes[last as usize + 1] -= i128::from(bytes);
    }
    let mut sum = 0;
    let alive = changes.into_iter().map(|change| {
        sum += change;
        u64::try_from(sum).ok()
    });
    alive.collect()
}

/// Memory for what the steps of an entry point hand on to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivationMemory {
    /// Bytes of the arena.
    pub arena: u64,
    /// Bytes of what is alive at once, at most: no arena for these steps is smaller.
    pub least: u64,
}

impl Entry {
    /// The buffers of the arena; `None` where sizes overflow.
    pub(crate) fn buffers(&self, symbols: &[u64]) -> Option<Vec<Buffer>> {
        let buffer = |slot: &crate::program::Slot| {
            Some(Buffer { bytes: slot.bytes.evaluate(symbols).ok()?, first: slot.first, last: slot.last })
        };
        self.slots.iter().map(buffer).collect()
    }

    /// The memory for activations where the program's symbols have these values; `None` where sizes overflow, or slots are in use at steps
    /// that there are not.
    pub fn activation_memory(&self, symbols: &[u64]) -> Option<ActivationMemory> {
        if self.slots.iter().any(|s| s.first > s.last || s.last as usize >= self.steps.len().max(1)) {
            return None;
        }
        let buffers = self.buffers(symbols)?;
        let least = alive(buffers.iter().copied())?.into_iter().max().unwrap_or(0);
        Some(ActivationMemory { arena: Places::new(&buffers)?.bytes, least })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(bytes: u64, first: u32, last: u32) -> Buffer {
        Buffer { bytes, first, last }
    }

    #[test]
    fn what_is_not_alive_at_once_shares_memory() {
        let places =
            Places::new(&[lives(64, 0, 1), lives(1, 1, 2), lives(128, 2, 3), lives(0, 0, 9)]).unwrap();
        assert_eq!((places.starts, places.bytes), (vec![0, 128, 0, 0], 192));
        // Two small ones fit where a large one was.
        let places = Places::new(&[lives(256, 0, 1), lives(128, 2, 3), lives(128, 2, 4)]).unwrap();
        assert_eq!((places.starts, places.bytes), (vec![0, 0, 128], 256));
    }

    #[test]
    fn buffers_that_are_alive_at_once_lie_apart() {
        let mut seed = 1u64;
        let mut random = |most: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % most
        };
        for _ in 0..200 {
            let buffers: Vec<Buffer> = (0..random(40))
                .map(|_| {
                    let first = random(30) as u32;
                    lives(random(5000), first, first + random(8) as u32)
                })
                .collect();
            let places = Places::new(&buffers).unwrap();
            for (i, a) in buffers.iter().enumerate() {
                let (start, end) = (places.starts[i], places.starts[i] + a.bytes);
                assert!(start.is_multiple_of(ALIGNMENT as u64) && end <= places.bytes);
                for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                    let apart = end <= places.starts[j] || places.starts[j] + b.bytes <= start;
                    let at_once = a.first <= b.last && b.first <= a.last;
                    assert!(apart || !at_once || a.bytes == 0 || b.bytes == 0, "{a:?} {b:?} {places:?}");
                }
            }
        }
    }

    #[test]
    fn more_than_memory_is_none() {
        assert!(Places::new(&[lives(u64::MAX, 0, 0)]).is_none());
        assert!(Places::new(&[lives(u64::MAX - 100, 0, 0), lives(100, 0, 0)]).is_none());
    }
}
