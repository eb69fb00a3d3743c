//! Running a model. A state belongs to one caller: it holds the persistent buffers, the arena, the threads, and the schedules of the
//! shapes seen so far. A call checks everything first; from the first kernel on nothing can fail and nothing is allocated. Memory grows
//! when larger shapes come and is kept.

#![allow(unsafe_code)]

mod call;
mod kept;

use crate::program::{Arg, Entry};
use crate::schedule::{FAULT_BYTES, Schedule};
use crate::{AlignedBuffer, Model, Pool, RuntimeError};

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
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("model", &self.model)
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}
