//! A call, step by step: bind sizes, check, find memory, put addresses in, run the kernels.

use std::time::Instant;

use super::{InputView, OutputBuffer, SCHEDULES, State};
use crate::RuntimeError;
use crate::arena::padded;
use crate::bind::{Extent, bind, check_count, check_limits};
use crate::program::Expr;
use crate::schedule::{Base, FAULT_BYTES, Schedule};

impl State {
    /// Index of the schedule for these inputs' shapes, made if there is none, and what growing states hold before the call.
    pub(super) fn schedule(
        &mut self,
        entry: usize,
        inputs: &[InputView<'_>],
    ) -> Result<(usize, u64), RuntimeError> {
        self.bound.fill(None);
        let program = self.model.program();
        bind(program, &program.entries[entry], inputs.iter().map(|i| i.shape), &mut self.bound)?;
        for (symbol, bound) in self.symbols.iter_mut().zip(&self.bound) {
            *symbol = bound.unwrap_or(0);
        }
        check_limits(&program.entries[entry], &self.symbols)?;
        let held = self.room(entry)?;
        self.calls += 1;
        let known = self.schedules.iter().position(|s| s.entry == entry && s.symbols == self.symbols);
        let index = match known {
            Some(index) => index,
            None => {
                let schedule = Schedule::new(&self.model, entry, &self.symbols)?;
                if self.schedules.len() < SCHEDULES {
                    self.schedules.push(schedule);
                    self.schedules.len() - 1
                } else {
                    let oldest = (0..SCHEDULES).min_by_key(|&i| self.schedules[i].used).unwrap_or(0);
                    self.schedules[oldest] = schedule;
                    oldest
                }
            }
        };
        self.schedules[index].used = self.calls;
        Ok((index, held))
    }

    pub(super) fn check_sizes(
        &self,
        schedule: usize,
        inputs: &[InputView<'_>],
        outputs: &[OutputBuffer<'_>],
    ) -> Result<(), RuntimeError> {
        let schedule = &self.schedules[schedule];
        let entry = &self.model.program().entries[schedule.entry];
        check_count(entry, "outputs", entry.outputs.len(), outputs.len())?;
        for ((port, extent), input) in entry.inputs.iter().zip(&schedule.inputs).zip(inputs) {
            if input.data.len() as u64 != extent.bytes {
                let message = format!(
                    "{} bytes where shape {:?} of {} has {}",
                    input.data.len(),
                    extent.dims,
                    port.element,
                    extent.bytes
                );
                return Err(RuntimeError::Tensor { what: "input", name: port.name.clone(), message });
            }
        }
        for ((port, extent), output) in entry.outputs.iter().zip(&schedule.outputs).zip(outputs) {
            if (output.data.len() as u64) < extent.bytes {
                let message = format!(
                    "room for {} bytes where shape {:?} of {} has {}",
                    output.data.len(),
                    extent.dims,
                    port.element,
                    extent.bytes
                );
                return Err(RuntimeError::Tensor { what: "output", name: port.name.clone(), message });
            }
        }
        for (extent, &index) in schedule.states.iter().zip(self.model.entry_states(schedule.entry)) {
            let persistent = &self.persistent[index];
            if persistent.written && persistent.dims.as_ref() != Some(&extent.dims) {
                let message = format!(
                    "it was set with shape {:?}, the inputs ask for {:?}",
                    persistent.dims, extent.dims
                );
                return Err(RuntimeError::Tensor {
                    what: "state",
                    name: self.model.states()[index].name.clone(),
                    message,
                });
            }
        }
        Ok(())
    }

    /// Memory for a call: arena, scratch memory, persistent buffers.
    pub(super) fn reserve(&mut self, schedule: usize) -> Result<(), RuntimeError> {
        let threads = self.pool.threads() as u64;
        let needs = &self.schedules[schedule];
        // A buffer that fails to grow is gone, so the layout changes either way.
        if needs.arena_bytes > self.arena.len() as u64 {
            self.layout += 1;
            self.arena.reserve(needs.arena_bytes, "intermediate values")?;
        }
        let overflow = || RuntimeError::Overflow { symbols: needs.symbols.clone() };
        let scratch = needs.scratch_bytes.checked_mul(threads).ok_or_else(overflow)?;
        self.scratch.reserve(scratch, "scratch memory")?;
        let entry = needs.entry;
        for place in 0..self.model.entry_states(entry).len() {
            let index = self.model.entry_states(entry)[place];
            if let (Some(blocks), Some(growth)) =
                (self.model.blocks(index), &self.model.program().entries[entry].growth)
            {
                let needs = &self.schedules[schedule];
                let rows = blocks.rows.evaluate(&needs.symbols)?;
                let room = needs.symbols[growth.capacity as usize];
                let persistent = &mut self.persistent[index];
                if persistent.rows != rows || persistent.capacity != room || persistent.dims.is_none() {
                    let dims = needs.states[place].dims.clone();
                    self.layout += 1;
                    persistent.grow(blocks, dims, rows, room)?;
                }
                continue;
            }
            let extent = &self.schedules[schedule].states[place];
            if self.persistent[index].dims.as_ref() != Some(&extent.dims) {
                let extent = extent.clone();
                self.resize_state(index, &extent.dims, extent.bytes)?;
            }
        }
        Ok(())
    }

    /// Takes the addresses of the caller's buffers. Elements lie at multiples of their size: a buffer where they would not gets a stand-in, and
    /// an input is copied there.
    pub(super) fn stage(
        &mut self,
        schedule: usize,
        inputs: &[InputView<'_>],
        outputs: &mut [OutputBuffer<'_>],
    ) -> Result<(), RuntimeError> {
        let schedule = &self.schedules[schedule];
        let aligned = |address: u64, extent: &Extent| address.is_multiple_of(extent.element.max(1));
        self.addresses.clear();
        self.addresses.extend(inputs.iter().map(|i| i.data.as_ptr() as u64));
        self.addresses.extend(outputs.iter_mut().map(|o| o.data.as_mut_ptr() as u64));
        let mut total = 0u64;
        let extents = || schedule.inputs.iter().chain(&schedule.outputs);
        for (address, extent) in self.addresses.iter().zip(extents()) {
            if !aligned(*address, extent) {
                let whole = padded(extent.bytes).and_then(|n| total.checked_add(n));
                total = whole.ok_or_else(|| RuntimeError::Overflow { symbols: schedule.symbols.clone() })?;
            }
        }
        self.staging.reserve(total, "copies of inputs and outputs that are not aligned")?;
        let mut offset = 0u64;
        for (index, (address, extent)) in self.addresses.iter_mut().zip(extents()).enumerate() {
            if aligned(*address, extent) {
                continue;
            }
            *address = self.staging.address() + offset;
            if let Some(input) = inputs.get(index) {
                self.staging[offset as usize..][..input.data.len()].copy_from_slice(input.data);
            }
            offset += padded(extent.bytes).expect("invariant: it was summed above");
        }
        Ok(())
    }

    /// Fills in addresses: the caller's, and where memory has moved our own.
    pub(super) fn patch(&mut self, schedule: usize) {
        let schedule = &mut self.schedules[schedule];
        let addresses = &self.addresses;
        let (arena, faults, persistent) = (self.arena.address(), self.faults.address(), &self.persistent);
        let address = |base| match base {
            Base::Arena => arena,
            Base::State(index) => persistent[index].buffer.address(),
            Base::Caller(index) => addresses[index],
            Base::Faults => faults,
        };
        let own: &[_] = if schedule.layout == self.layout { &[] } else { &schedule.own };
        for relocation in own.iter().chain(&schedule.callers) {
            schedule.args[relocation.position] = address(relocation.base) + relocation.offset;
        }
        schedule.layout = self.layout;
    }

    pub(super) fn execute(&mut self, schedule: usize) {
        let schedule = &self.schedules[schedule];
        let args = schedule.args.as_ptr() as usize;
        let (scratch, stride) = (self.scratch.address(), schedule.scratch_bytes);
        let steps = &self.model.program().entries[schedule.entry].steps;
        let mut times = self.profile.as_mut().map(|p| p[schedule.entry].as_mut_slice());
        let mut first = 0;
        while first < schedule.commands.len() {
            let more = schedule.commands[first + 1..].iter().take_while(|command| command.beside).count();
            let group = first..first + 1 + more;
            let commands = &schedule.commands[group.clone()];
            let start = times.is_some().then(Instant::now);
            let items = commands.iter().fold(0u64, |sum, command| sum.saturating_add(command.items));
            let grain = commands.iter().map(|command| command.grain).min().unwrap_or(1);
            self.pool.parallel_for(items, grain, |worker, begin, end| {
                let scratch = scratch + worker as u64 * stride;
                // The items of all follow each other.
                let mut before = 0u64;
                for command in commands {
                    let (from, to) = (begin.max(before), end.min(before + command.items));
                    if from < to {
                        let args = args + command.args * size_of::<u64>();
                        // SAFETY: `Model::new`'s caller promises that the kernel keeps to its arguments. Those point into buffers of the
                        // sizes that the program asked for, alive and not moved until this call ends; each worker has scratch memory
                        // of its own, and what runs together writes nothing that the others use.
                        unsafe {
                            (command.kernel)(
                                args as *const u64,
                                from - before,
                                to - before,
                                scratch as *mut u8,
                            )
                        }
                    }
                    before += command.items;
                }
            });
            if let (Some(start), Some(times)) = (start, &mut times) {
                let seconds = start.elapsed().as_secs_f64();
                // A count that does not fit is none.
                let count = |size: &Expr| size.evaluate(&self.symbols).map_or(0.0, |n| n as f64);
                for (command, at) in commands.iter().zip(group.clone()) {
                    let counted = &mut times[at];
                    counted.seconds += seconds * command.items as f64 / (items as f64).max(1.0);
                    counted.calls += 1;
                    counted.integer += count(&steps[at].work.integer);
                    counted.float += count(&steps[at].work.float);
                    counted.bf16 += count(&steps[at].work.bf16);
                }
            }
            first = group.end;
        }
    }

    /// Fails where a kernel said that something went wrong. What came of it may be in the states, so these begin anew.
    pub(super) fn check_faults(&mut self, schedule: usize) -> Result<(), RuntimeError> {
        let schedule = &self.schedules[schedule];
        for (at, &step) in schedule.faults.iter().enumerate() {
            let fault = &mut self.faults[at * FAULT_BYTES as usize..][..FAULT_BYTES as usize];
            if fault.iter().all(|byte| *byte == 0) {
                continue;
            }
            let index = i64::from_ne_bytes(fault[8..].try_into().expect("invariant: eight bytes are left"));
            let place = self.model.program().entries[schedule.entry].steps[step].name.clone();
            self.faults.fill(0);
            self.reset();
            return Err(RuntimeError::Index { place, index });
        }
        Ok(())
    }

    /// Copies outputs from their stand-ins.
    pub(super) fn unstage(&mut self, schedule: usize, inputs: usize, outputs: &mut [OutputBuffer<'_>]) {
        let extents = &self.schedules[schedule].outputs;
        for ((output, extent), &address) in outputs.iter_mut().zip(extents).zip(&self.addresses[inputs..]) {
            if address != output.data.as_ptr() as u64 {
                let offset = (address - self.staging.address()) as usize;
                let bytes = extent.bytes as usize;
                output.data[..bytes].copy_from_slice(&self.staging[offset..offset + bytes]);
            }
        }
    }
}
