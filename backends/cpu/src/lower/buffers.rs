//! Virtual buffers and their lifetimes; the memory plan turns them into slots of the arena.

use qcc_passes::plan_memory;
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
            *steps = Some(steps.map_or((step, step), |(first, last)| (first.min(step), last.max(step))));
        }
    }

    /// Gives every buffer a slot, shared where lifetimes allow. Sizes are symbolic, so they are compared with every symbol at 64; a slot
    /// grows to the largest of its buffers.
    pub(crate) fn plan(&self) -> Plan {
        let lifetimes: Vec<_> = self
            .lifetimes
            .iter()
            .map(|l| {
                let (first, last) = l.steps.unwrap_or((0, 0));
                plan_memory::Lifetime { size: l.bytes.clone(), first, last }
            })
            .collect();
        let plan = plan_memory::plan(&lifetimes, |size| size.evaluate(&[64; 64]).unwrap_or(u64::MAX));
        let largest = |held: Vec<Expr>| held.into_iter().reduce(|a, b| Expr::Max(Box::new(a), Box::new(b)));
        Plan {
            slot: plan.slot.into_iter().map(|s| s as u32).collect(),
            slots: plan.slots.into_iter().map(|held| largest(held).unwrap_or(Expr::Const(0))).collect(),
        }
    }
}
