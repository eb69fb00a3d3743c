//! Virtual buffers and their lifetimes; the memory plan turns them into slots of the arena.

use qcc_runtime::program::Expr;

/// What a step's argument points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffer {
    Virtual(u32),
    Parameter(u32),
    Input(u32),
    Output(u32),
    State(u32),
}

#[derive(Debug)]
struct Lifetime {
    bytes: Expr,
    /// First and last step that touches it.
    steps: Option<(usize, usize)>,
}

/// All virtual buffers of a function.
#[derive(Default)]
pub(crate) struct Buffers {
    lifetimes: Vec<Lifetime>,
}

/// The slot of each virtual buffer, and the size of each slot.
pub(crate) struct Plan {
    pub slot: Vec<u32>,
    pub slots: Vec<Expr>,
}

impl Buffers {
    pub(crate) fn add(&mut self, bytes: Expr) -> Buffer {
        self.lifetimes.push(Lifetime { bytes, steps: None });
        Buffer::Virtual(self.lifetimes.len() as u32 - 1)
    }

    pub(crate) fn used(&mut self, buffer: Buffer, step: usize) {
        if let Buffer::Virtual(v) = buffer {
            let steps = &mut self.lifetimes[v as usize].steps;
            *steps = Some(steps.map_or((step, step), |(first, _)| (first, step)));
        }
    }

    /// Linear scan in order of first use: a buffer takes the free slot whose size is nearest to its own, else a new one. Sizes are
    /// symbolic, so they are compared with every symbol at 64; a slot grows to the largest of its buffers.
    pub(crate) fn plan(&self) -> Plan {
        let typical = |e: &Expr| e.evaluate(&[64; 16]).unwrap_or(u64::MAX);
        let mut order: Vec<usize> = (0..self.lifetimes.len()).collect();
        order.sort_by_key(|&i| self.lifetimes[i].steps.map_or(0, |s| s.0));
        let mut slot = vec![0u32; self.lifetimes.len()];
        // Size, expressions held so far, last step of the present owner.
        let mut slots: Vec<(Vec<Expr>, Option<usize>)> = Vec::new();
        for i in order {
            let lifetime = &self.lifetimes[i];
            let (first, last) = lifetime.steps.unwrap_or((0, 0));
            let wanted = typical(&lifetime.bytes);
            let size = |held: &[Expr]| held.iter().map(typical).max().unwrap_or(0);
            let best = (0..slots.len())
                .filter(|&s| slots[s].1.is_none_or(|end| end < first))
                .min_by_key(|&s| size(&slots[s].0).abs_diff(wanted));
            let chosen = match best {
                // A much larger slot would be better kept for a large buffer only if one comes; reuse is still never worse than growing.
                Some(s) => s,
                None => {
                    slots.push((Vec::new(), None));
                    slots.len() - 1
                }
            };
            if !slots[chosen].0.contains(&lifetime.bytes) {
                slots[chosen].0.push(lifetime.bytes.clone());
            }
            slots[chosen].1 = Some(last);
            slot[i] = chosen as u32;
        }
        let slots = slots
            .into_iter()
            .map(|(held, _)| {
                let largest = held.into_iter().reduce(|a, b| Expr::Max(Box::new(a), Box::new(b)));
                largest.unwrap_or(Expr::Const(0))
            })
            .collect();
        Plan { slot, slots }
    }
}
