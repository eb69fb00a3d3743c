//! Running a model. A state belongs to one caller: it holds the persistent buffers, the arena, the threads, and the schedules of the
//! shapes seen so far. A call checks everything first; from the first kernel on nothing can fail and nothing is allocated. Memory grows
//! when larger shapes come and is kept.

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::time::Instant;

use crate::arena::padded;
use crate::bind::{Extent, bind, byte_size, check_count, check_limits};
use crate::growth::Tokens;
use crate::program::{Arg, Blocks, Entry, Expr};
use crate::schedule::{Base, FAULT_BYTES, Schedule};
use crate::{AlignedBuffer, Element, Model, Pool, RuntimeError};

/// How many schedules are kept; the one not used for longest makes room.
const SCHEDULES: usize = 16;

/// A tensor that a model reads: row-major, dense, little-endian, at any address.
#[derive(Clone, Copy, Debug)]
pub struct InputView<'a> {
    /// Its shape.
    pub shape: &'a [u64],
    /// Its elements: exactly as many bytes as the shape says.
    pub data: &'a [u8],
}

/// Where a model puts a tensor: row-major, dense, little-endian, at any address. One that is a multiple of an element's size saves a copy.
#[derive(Debug)]
pub struct OutputBuffer<'a> {
    /// At least as many bytes as the output has (see [`Model::output_shapes`]); those behind are left alone.
    pub data: &'a mut [u8],
}

/// Time that a step took so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepTime {
    /// The source operation.
    pub name: String,
    /// The kernel.
    pub kernel: String,
    /// How often it ran.
    pub calls: u64,
    /// Wall time, all calls together.
    pub seconds: f64,
    /// Operations on codes and on floats, all calls together.
    pub integer_operations: f64,
    /// As above.
    pub float_operations: f64,
    /// Operations on bf16 that they cannot do without.
    pub bf16_operations: f64,
    /// Bytes of the weights that a call reads; 0 where it looks up rows of them.
    pub weight_bytes: u64,
}

/// What is counted of a step.
#[derive(Clone, Copy, Default)]
struct Counted {
    calls: u64,
    seconds: f64,
    integer: f64,
    float: f64,
    bf16: f64,
}

/// A persistent buffer.
pub(crate) struct Persistent {
    /// Its shape; none before it is first used. Of one that grows, with 0 tokens.
    pub dims: Option<Vec<u64>>,
    pub bytes: u64,
    pub buffer: AlignedBuffer,
    /// Whether the caller wrote it, and expects that shape to be kept.
    pub written: bool,
    /// Of one that grows: its rows, and the tokens that each has room for.
    pub rows: u64,
    pub capacity: u64,
    /// Of one that grows: the tokens that it holds.
    pub held: u64,
}

/// What a caller needs to run a model.
pub struct State {
    model: Model,
    pool: Pool,
    persistent: Vec<Persistent>,
    /// Tokens that growing states are to have room for at least, and may hold at most.
    reserved: u64,
    most: u64,
    arena: AlignedBuffer,
    scratch: AlignedBuffer,
    /// Stand-ins for the caller's buffers that are not aligned.
    staging: AlignedBuffer,
    /// Where kernels say what went wrong.
    faults: AlignedBuffer,
    schedules: Vec<Schedule>,
    /// Changes when a buffer that kernels see moves.
    layout: u64,
    calls: u64,
    /// Working space of a call: symbols as bound, and with 0 for those the entry point does not use.
    bound: Vec<Option<u64>>,
    symbols: Vec<u64>,
    /// Working space of a call: addresses of inputs, then outputs.
    addresses: Vec<u64>,
    /// Of each step of each entry point, when profiling.
    profile: Option<Vec<Vec<Counted>>>,
}

impl State {
    /// A state with persistent buffers of zeros. `threads` counts the calling one; 0 means one for each core.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn new(model: &Model, threads: usize) -> Result<State, RuntimeError> {
        let entries = &model.program().entries;
        let ports = entries.iter().map(|e| e.inputs.len() + e.outputs.len()).max().unwrap_or(0);
        let symbols = model.program().symbols.len();
        let args =
            |entry: &Entry| entry.steps.iter().flat_map(|s| &s.args).filter(|a| **a == Arg::Fault).count();
        let faults = entries.iter().map(args).max();
        let persistent = model.states().iter().map(|_| Persistent {
            dims: None,
            bytes: 0,
            buffer: AlignedBuffer::empty(),
            written: false,
            rows: 0,
            capacity: 0,
            held: 0,
        });
        Ok(State {
            model: model.clone(),
            pool: Pool::new(threads)?,
            persistent: persistent.collect(),
            reserved: 0,
            most: u64::MAX,
            arena: AlignedBuffer::empty(),
            scratch: AlignedBuffer::empty(),
            staging: AlignedBuffer::empty(),
            faults: AlignedBuffer::zeroed(FAULT_BYTES * faults.unwrap_or(0) as u64, "what goes wrong")?,
            schedules: Vec::with_capacity(SCHEDULES),
            layout: 1,
            calls: 0,
            bound: vec![None; symbols],
            symbols: vec![0; symbols],
            addresses: Vec::with_capacity(ports),
            profile: None,
        })
    }

    /// The model it runs.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Makes the persistent buffers zero again; those that grow hold nothing, and keep their room.
    pub fn reset(&mut self) {
        for (index, persistent) in self.persistent.iter_mut().enumerate() {
            if self.model.blocks(index).is_none() {
                persistent.buffer.clear();
            }
            persistent.written = false;
            persistent.held = 0;
        }
    }

    /// Tokens that growing states hold.
    pub fn held(&self) -> u64 {
        self.persistent.iter().map(|p| p.held).max().unwrap_or(0)
    }

    /// Bytes that the states that grow take, with the room they have.
    pub fn growing_bytes(&self) -> u64 {
        let grows = |(index, p): (usize, &Persistent)| self.model.blocks(index).map(|_| p.bytes);
        self.persistent.iter().enumerate().filter_map(grows).sum()
    }

    /// The most tokens that growing states may hold; a call that would need more fails.
    pub fn limit_tokens(&mut self, most: u64) {
        self.most = most;
    }

    /// Makes room for so many tokens with the next call, so that calls up to there move nothing.
    pub fn reserve_tokens(&mut self, tokens: u64) {
        self.reserved = tokens;
    }

    /// Shape and contents of a persistent buffer.
    ///
    /// # Errors
    /// When there is none of this name, no call has given it a size yet, or it grows and lies in memory as packed codes.
    pub fn read_state(&self, name: &str) -> Result<(Vec<u64>, Cow<'_, [u8]>), RuntimeError> {
        let fail = |message: &str| RuntimeError::Tensor {
            what: "state",
            name: name.into(),
            message: message.into(),
        };
        let index = self.state_index(name)?;
        let persistent = &self.persistent[index];
        let dims = persistent.dims.clone().ok_or_else(|| fail("it has no size before the first call"))?;
        let Some(blocks) = self.model.blocks(index) else {
            return Ok((dims, Cow::Borrowed(&persistent.buffer[..persistent.bytes as usize])));
        };
        let width = self.element_bytes(index);
        let tokens = Tokens::new(blocks, &dims, width).ok_or_else(|| fail("its codes are packed"))?;
        let bytes = tokens.read(persistent, persistent.held);
        Ok((tokens.shape(persistent.held).to_vec(), Cow::Owned(bytes)))
    }

    /// Whether a persistent buffer lies in memory as packed codes, which cannot be read or written.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn is_packed(&self, name: &str) -> Result<bool, RuntimeError> {
        let index = self.state_index(name)?;
        let Some(blocks) = self.model.blocks(index) else { return Ok(false) };
        // Heads and features are constants.
        let constant = |dim: &Expr| if let Expr::Const(n) = dim { *n } else { 0 };
        let dims: Vec<u64> = self.model.states()[index].dims.iter().map(constant).collect();
        Ok(Tokens::new(blocks, &dims, self.element_bytes(index)).is_none())
    }

    /// Sets a persistent buffer. A later call whose inputs ask for another shape fails until [`State::reset`].
    ///
    /// # Errors
    /// When there is none of this name, or shape and size do not fit its declaration or each other.
    pub fn write_state(&mut self, name: &str, shape: &[u64], data: &[u8]) -> Result<(), RuntimeError> {
        let index = self.state_index(name)?;
        let fail = |message: String| RuntimeError::Tensor { what: "state", name: name.to_string(), message };
        let port = &self.model.states()[index];
        let fits = port.dims.len() == shape.len()
            && port.dims.iter().zip(shape).all(|(dim, n)| !matches!(dim, Expr::Const(c) if c != n));
        if !fits {
            return Err(fail(format!("shape {shape:?} does not fit its declaration {:?}", port.dims)));
        }
        if shape.get(1).is_some_and(|tokens| *tokens > 0) && self.is_packed(name)? {
            return Err(fail("its codes are packed".into()));
        }
        let bytes = byte_size(port, shape).ok_or_else(|| fail(format!("shape {shape:?} overflows")))?;
        if bytes != data.len() as u64 {
            return Err(fail(format!("{} bytes where shape {shape:?} has {bytes}", data.len())));
        }
        if let Some(blocks) = self.model.blocks(index).cloned() {
            return self.write_tokens(index, &blocks, shape, data);
        }
        self.resize_state(index, shape, bytes)?;
        self.persistent[index].buffer[..data.len()].copy_from_slice(data);
        self.persistent[index].written = true;
        Ok(())
    }

    /// Starts measuring the time of each step, from zero, or stops it.
    pub fn set_profiling(&mut self, on: bool) {
        let entries = &self.model.program().entries;
        self.profile = on.then(|| entries.iter().map(|e| vec![Counted::default(); e.steps.len()]).collect());
    }

    /// Times of an entry point's steps, in order; none unless profiling.
    ///
    /// # Errors
    /// When there is no such entry point.
    pub fn profile(&self, entry: &str) -> Result<Vec<StepTime>, RuntimeError> {
        let index = self.model.entry_index(entry)?;
        let program = self.model.program();
        let Some(profile) = &self.profile else { return Ok(Vec::new()) };
        let steps = program.entries[index].steps.iter().zip(&profile[index]);
        Ok(steps
            .map(|(step, counted)| StepTime {
                name: step.name.clone(),
                kernel: program.kernels[step.kernel as usize].clone(),
                calls: counted.calls,
                seconds: counted.seconds,
                integer_operations: counted.integer,
                float_operations: counted.float,
                bf16_operations: counted.bf16,
                weight_bytes: program.weight_bytes(step),
            })
            .collect())
    }

    /// Shapes of the outputs that inputs of these shapes give; see [`Model::output_shapes`].
    ///
    /// # Errors
    /// When there is no such entry point, it does not take these inputs, or a size overflows.
    pub fn output_shapes(&self, entry: &str, inputs: &[&[u64]]) -> Result<Vec<Vec<u64>>, RuntimeError> {
        self.model.output_shapes(entry, inputs)
    }

    /// Runs an entry point. Persistent buffers whose shape differs from the last call's start from zero.
    ///
    /// # Errors
    /// When there is no such entry point, the tensors are not those it takes, or memory is short: nothing has run then. When an index is outside
    /// its axis ([`RuntimeError::Index`]): the states are reset then, and outputs hold anything.
    pub fn run(
        &mut self,
        entry: &str,
        inputs: &[InputView<'_>],
        outputs: &mut [OutputBuffer<'_>],
    ) -> Result<(), RuntimeError> {
        let entry = self.model.entry_index(entry)?;
        let (schedule, held) = self.schedule(entry, inputs)?;
        self.check_sizes(schedule, inputs, outputs)?;
        self.reserve(schedule)?;
        self.advance(schedule, held)?;
        self.stage(schedule, inputs, outputs)?;
        self.patch(schedule);
        self.execute(schedule);
        self.check_faults(schedule)?;
        self.unstage(schedule, inputs.len(), outputs);
        let added = self.schedules[schedule].added;
        for place in self.growing(entry) {
            self.persistent[place].held = held + added;
        }
        Ok(())
    }

    fn element_bytes(&self, index: usize) -> u64 {
        Element::named(&self.model.states()[index].element).map_or(1, Element::bytes)
    }

    /// Sets a state that grows: all of them are to hold equally much.
    fn write_tokens(
        &mut self,
        index: usize,
        blocks: &Blocks,
        shape: &[u64],
        data: &[u8],
    ) -> Result<(), RuntimeError> {
        let width = self.element_bytes(index);
        let fail = |message: String| {
            let name = self.model.states()[index].name.clone();
            RuntimeError::Tensor { what: "state", name, message }
        };
        let (batch, held) = (shape[0], shape[1]);
        let mut dims = shape.to_vec();
        dims[1] = 0;
        let tokens = Tokens::new(blocks, &dims, width);
        if tokens.is_none() && held > 0 {
            return Err(fail("its codes are packed".into()));
        }
        let steps = self.model.program().entries.iter().filter_map(|entry| entry.growth.as_ref());
        let step = steps.map(|growth| growth.step).max().unwrap_or(1);
        let room = self.reserved.max(held).checked_next_multiple_of(step);
        let (Some(rows), Some(capacity)) = (batch.checked_mul(shape[2]), room) else {
            return Err(fail(format!("shape {shape:?} overflows")));
        };
        self.layout += 1;
        let persistent = &mut self.persistent[index];
        persistent.held = 0;
        persistent.grow(blocks, dims, rows, capacity)?;
        if let Some(tokens) = tokens {
            tokens.write(persistent, held, data);
        }
        persistent.written = true;
        persistent.held = held;
        Ok(())
    }

    /// Index of the schedule for these inputs' shapes, made if there is none, and what growing states hold before the call.
    fn schedule(&mut self, entry: usize, inputs: &[InputView<'_>]) -> Result<(usize, u64), RuntimeError> {
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

    /// The growing states of an entry point.
    fn growing(&self, entry: usize) -> Vec<usize> {
        let growth = self.model.program().entries[entry].growth.as_ref();
        let states = growth.map(|growth| growth.states.as_slice()).unwrap_or_default();
        states.iter().map(|blocks| self.model.entry_states(entry)[blocks.state as usize]).collect()
    }

    /// Tokens that growing states hold before a call; binds how many they are to have room for. Nothing else changes before the call is
    /// certain to run.
    fn room(&mut self, entry: usize) -> Result<u64, RuntimeError> {
        let Some(growth) = &self.model.program().entries[entry].growth else { return Ok(0) };
        let overflow = || RuntimeError::Overflow { symbols: self.symbols.clone() };
        let mut seen: Option<(usize, u64)> = None;
        let (mut restarts, mut room) = (false, 0);
        for (blocks, index) in growth.states.iter().zip(self.growing(entry)) {
            let persistent = &self.persistent[index];
            let port = &self.model.states()[index];
            let fail = |message: String| {
                Err(RuntimeError::Tensor { what: "state", name: port.name.clone(), message })
            };
            let rows = blocks.rows.evaluate(&self.symbols)?;
            let heads =
                port.dims[0].evaluate(&self.symbols)?.checked_mul(port.dims[2].evaluate(&self.symbols)?);
            if heads != Some(rows) {
                return fail(format!(
                    "it has {rows} rows where its shape has {heads:?}: compile the model again"
                ));
            }
            room = room.max(persistent.capacity);
            if persistent.dims.is_some() && persistent.rows != rows {
                restarts |= !persistent.written;
                if persistent.written {
                    return fail(format!(
                        "it was set with shape {:?}, the inputs ask for {rows} heads of sequences",
                        persistent.dims
                    ));
                }
                continue;
            }
            match seen {
                Some((other, held)) if held != persistent.held => {
                    let other = &self.model.states()[other].name;
                    return fail(format!(
                        "it holds {} tokens where `{other}` holds {held}: set all of them, or start anew",
                        persistent.held
                    ));
                }
                _ => seen = Some((index, persistent.held)),
            }
        }
        let held = match seen {
            Some((index, held)) if restarts && held > 0 && self.persistent[index].written => {
                let name = self.model.states()[index].name.clone();
                let message =
                    "others are of another number of sequences: set all of them, or start anew".into();
                return Err(RuntimeError::Tensor { what: "state", name, message });
            }
            Some((_, held)) if !restarts => held,
            _ => 0,
        };
        let needed = held.checked_add(growth.added.evaluate(&self.symbols)?).ok_or_else(overflow)?;
        if needed > self.most {
            return Err(RuntimeError::Full { needed, most: self.most });
        }
        if needed > room {
            room = room.saturating_mul(2).min(self.most).max(needed);
        }
        let room = room.max(self.reserved.min(self.most)).checked_next_multiple_of(growth.step);
        self.symbols[growth.capacity as usize] = room.ok_or_else(overflow)?;
        Ok(held)
    }

    fn check_sizes(
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
    fn reserve(&mut self, schedule: usize) -> Result<(), RuntimeError> {
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

    /// Gives a persistent buffer a shape and makes it zero.
    fn resize_state(&mut self, index: usize, dims: &[u64], bytes: u64) -> Result<(), RuntimeError> {
        let persistent = &mut self.persistent[index];
        // Until this has succeeded it has no shape.
        persistent.dims = None;
        persistent.written = false;
        if bytes > persistent.buffer.len() as u64 || persistent.buffer.is_empty() {
            self.layout += 1;
            persistent.buffer.reserve(bytes, "persistent state")?;
        }
        persistent.buffer.clear();
        persistent.bytes = bytes;
        persistent.dims = Some(dims.to_vec());
        Ok(())
    }

    /// Computes the numbers that change with what states hold.
    fn advance(&mut self, schedule: usize, held: u64) -> Result<(), RuntimeError> {
        let schedule = &mut self.schedules[schedule];
        let entry = &self.model.program().entries[schedule.entry];
        let Some(growth) = &entry.growth else { return Ok(()) };
        self.symbols.copy_from_slice(&schedule.symbols);
        self.symbols[growth.held as usize] = held;
        for moving in &schedule.moving {
            if let Arg::Value(expr) = &entry.steps[moving.step].args[moving.arg] {
                schedule.args[moving.position] = expr.evaluate(&self.symbols)?;
            }
        }
        Ok(())
    }

    /// Takes the addresses of the caller's buffers. Elements lie at multiples of their size: a buffer where they would not gets a stand-in, and
    /// an input is copied there.
    fn stage(
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
    fn patch(&mut self, schedule: usize) {
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

    fn execute(&mut self, schedule: usize) {
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
    fn check_faults(&mut self, schedule: usize) -> Result<(), RuntimeError> {
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
    fn unstage(&mut self, schedule: usize, inputs: usize, outputs: &mut [OutputBuffer<'_>]) {
        let extents = &self.schedules[schedule].outputs;
        for ((output, extent), &address) in outputs.iter_mut().zip(extents).zip(&self.addresses[inputs..]) {
            if address != output.data.as_ptr() as u64 {
                let offset = (address - self.staging.address()) as usize;
                let bytes = extent.bytes as usize;
                output.data[..bytes].copy_from_slice(&self.staging[offset..offset + bytes]);
            }
        }
    }

    fn state_index(&self, name: &str) -> Result<usize, RuntimeError> {
        let states = self.model.states();
        states.iter().position(|s| s.name == name).ok_or_else(|| RuntimeError::UnknownState {
            name: name.to_string(),
            known: states.iter().map(|s| s.name.clone()).collect(),
        })
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("model", &self.model)
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}
