//! Virtual buffers and their lifetimes: slots of the arena, which the runtime gives places when sizes are known.

use qcc_runtime::program::{Expr, Slot};

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

    /// A slot for each buffer, in their order. What no step touches takes nothing.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let slot = |l: &Lifetime| match l.steps {
            Some((first, last)) => Slot { bytes: l.bytes.clone(), first: first as u32, last: last as u32 },
            None => Slot { bytes: Expr::Const(0), first: 0, last: 0 },
        };
        self.lifetimes.iter().map(slot).collect()
    }
}
