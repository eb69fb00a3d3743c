//! An entry point with its symbols bound: sizes are numbers, the arena is laid out, and the kernels' arguments are numbers except for
//! addresses that change, of which a list is kept. Made once per combination of shapes and kept, so that running one again costs only
//! the patching of addresses.

use crate::arena::padded;
use crate::bind::{Extent, extent};
use crate::places::Places;
use crate::program::{Arg, Expr, Step};
use crate::{ALIGNMENT, KernelFn, Model, RuntimeError};

/// A kernel call.
#[derive(Clone, Copy)]
pub(crate) struct Command {
    pub kernel: KernelFn,
    /// Where its arguments start in [`Schedule::args`].
    pub args: usize,
    pub items: u64,
    pub grain: u64,
    /// Whether it runs together with the one before.
    pub beside: bool,
}

/// Bytes behind the last buffer of the arena, beside those behind every allocation: sixteen 64-bit integers are read at once.
const OVERREAD: u64 = ALIGNMENT as u64;

/// Bytes of an [`Arg::Fault`].
pub(crate) const FAULT_BYTES: u64 = 16;

/// What an address is relative to.
#[derive(Clone, Copy)]
pub(crate) enum Base {
    Arena,
    /// Index into the model's states.
    State(usize),
    /// Index into the caller's inputs, then outputs.
    Caller(usize),
    /// Where kernels say what went wrong.
    Faults,
}

/// An argument that is an address still to be filled in.
#[derive(Clone, Copy)]
pub(crate) struct Relocation {
    pub position: usize,
    pub base: Base,
    pub offset: u64,
}

/// A number still to be computed.
#[derive(Clone, Copy)]
pub(crate) struct Moving {
    pub position: usize,
    pub step: usize,
    pub arg: usize,
}

/// See the module.
pub(crate) struct Schedule {
    pub entry: usize,
    /// With 0 for what states hold.
    pub symbols: Vec<u64>,
    pub args: Vec<u64>,
    /// Numbers that change with what states hold: where they stand, as `[entry point][step][argument]` of the program says.
    pub moving: Vec<Moving>,
    /// Addresses that change when memory moves.
    pub own: Vec<Relocation>,
    /// Addresses that change with every call.
    pub callers: Vec<Relocation>,
    pub commands: Vec<Command>,
    pub inputs: Vec<Extent>,
    pub outputs: Vec<Extent>,
    /// In the order of the entry point's states.
    pub states: Vec<Extent>,
    /// Steps that may say that something went wrong, in the order of their places.
    pub faults: Vec<usize>,
    /// Tokens that the call adds to growing states.
    pub added: u64,
    pub arena_bytes: u64,
    /// Of each worker.
    pub scratch_bytes: u64,
    /// The memory layout that `own` was last filled in for; 0 for none.
    pub layout: u64,
    /// When it was last run.
    pub used: u64,
}

impl Schedule {
    /// Evaluates an entry point. All symbols that it uses have values.
    pub(crate) fn new(model: &Model, entry_index: usize, symbols: &[u64]) -> Result<Schedule, RuntimeError> {
        let entry = &model.program().entries[entry_index];
        let overflow = || RuntimeError::Overflow { symbols: symbols.to_vec() };
        let extents =
            |ports: &[_]| ports.iter().map(|port| extent(port, symbols)).collect::<Result<Vec<_>, _>>();

        let buffers = entry.buffers(symbols).ok_or_else(overflow)?;
        let places = Places::new(&buffers).ok_or_else(overflow)?;
        let slots: Vec<(u64, u64)> =
            places.starts.iter().zip(&buffers).map(|(start, buffer)| (*start, buffer.bytes)).collect();
        let mut schedule = Schedule {
            entry: entry_index,
            symbols: symbols.to_vec(),
            args: Vec::with_capacity(entry.steps.iter().map(|s| s.args.len()).sum()),
            moving: Vec::new(),
            own: Vec::new(),
            callers: Vec::new(),
            commands: Vec::with_capacity(entry.steps.len()),
            inputs: extents(&entry.inputs)?,
            outputs: extents(&entry.outputs)?,
            states: extents(&entry.states)?,
            faults: Vec::new(),
            added: entry.growth.as_ref().map_or(Ok(0), |growth| growth.added.evaluate(symbols))?,
            arena_bytes: places.bytes.checked_add(OVERREAD).ok_or_else(overflow)?,
            scratch_bytes: 0,
            layout: 0,
            used: 0,
        };
        let held = entry.growth.as_ref().map(|growth| Expr::Symbol(growth.held));
        for (index, step) in entry.steps.iter().enumerate() {
            schedule.step(model, (index, step), &slots, held.as_ref())?;
        }
        schedule.scratch_bytes = padded(schedule.scratch_bytes).ok_or_else(overflow)?;
        Ok(schedule)
    }

    fn step(
        &mut self,
        model: &Model,
        (index, step): (usize, &Step),
        slots: &[(u64, u64)],
        held: Option<&Expr>,
    ) -> Result<(), RuntimeError> {
        self.commands.push(Command {
            kernel: model.kernels()[step.kernel as usize],
            args: self.args.len(),
            items: step.items.evaluate(&self.symbols)?,
            grain: step.grain,
            beside: step.beside && index > 0,
        });
        self.scratch_bytes = self.scratch_bytes.max(step.scratch.evaluate(&self.symbols)?);
        for (arg_index, arg) in step.args.iter().enumerate() {
            let position = self.args.len();
            let mut value = 0;
            match arg {
                Arg::Slot { index, offset } => {
                    let (start, bytes) = slots[*index as usize];
                    let offset = offset.evaluate(&self.symbols)?;
                    if offset > bytes {
                        return Err(RuntimeError::Program(format!(
                            "step `{}` uses byte {offset} of slot {index}, which has {bytes} with the dimensions {:?}",
                            step.name, self.symbols
                        )));
                    }
                    self.own.push(Relocation { position, base: Base::Arena, offset: start + offset });
                }
                Arg::State(index) => {
                    let state = model.entry_states(self.entry)[*index as usize];
                    self.own.push(Relocation { position, base: Base::State(state), offset: 0 });
                }
                Arg::Input(index) => {
                    self.callers.push(Relocation {
                        position,
                        base: Base::Caller(*index as usize),
                        offset: 0,
                    });
                }
                Arg::Output(index) => {
                    let index = self.inputs.len() + *index as usize;
                    self.callers.push(Relocation { position, base: Base::Caller(index), offset: 0 });
                }
                Arg::Parameter { index, offset } => {
                    value = model.parameter_addresses()[*index as usize] + offset
                }
                Arg::Fault => {
                    let offset = FAULT_BYTES * self.faults.len() as u64;
                    self.own.push(Relocation { position, base: Base::Faults, offset });
                    self.faults.push(index);
                }
                Arg::Value(expr) => {
                    value = expr.evaluate(&self.symbols)?;
                    let mut moves = false;
                    expr.visit(&mut |inner| moves |= Some(inner) == held);
                    if moves {
                        self.moving.push(Moving { position, step: index, arg: arg_index });
                    }
                }
            }
            self.args.push(value);
        }
        Ok(())
    }
}
