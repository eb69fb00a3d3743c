//! The command table of a compiled model: which kernels run, in which order, on which buffers, with sizes symbolic in the inputs' shapes.
//! A program carries no code and no weights; it refers to both by index.

use serde::{Deserialize, Serialize};

use crate::RuntimeError;
pub use crate::expr::Expr;

/// Version of the serial form. A program of another version is refused.
pub const SCHEMA: u32 = 5;

const MAGIC: &[u8; 4] = b"QCCP";

/// Everything a model does, apart from code and weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Names of the symbolic sizes, shared by all entry points.
    pub symbols: Vec<String>,
    /// The weights, as the kernels read them.
    pub parameters: Vec<ParameterSlot>,
    /// Names of the kernels, in the order of the kernel table.
    pub kernels: Vec<String>,
    /// CPU features the kernels need; see [`crate::features`].
    pub features: Vec<String>,
    /// Entry points.
    pub entries: Vec<Entry>,
}

/// A packed weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterSlot {
    /// Its name in the parameter file.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// An entry point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What the caller passes. A dimension is constant or a bare symbol, which it binds.
    pub inputs: Vec<Port>,
    /// What the caller gets, in buffers of his own.
    pub outputs: Vec<Port>,
    /// Buffers that keep their contents from call to call, zero at first. Entry points with a state of the same name share it.
    pub states: Vec<Port>,
    /// How those states grow that do: keys and values of attention.
    pub growth: Option<Growth>,
    /// What inputs may make of sizes, at most.
    pub limits: Vec<Limit>,
    /// The arena's buffers. Their contents do not outlive the call.
    pub slots: Vec<Slot>,
    /// Kernel calls, in order.
    pub steps: Vec<Step>,
}

/// A buffer of the arena. Those that are not in use at the same time may lie in the same place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its size.
    pub bytes: Expr,
    /// The first step that uses it.
    pub first: u32,
    /// The last one.
    pub last: u32,
}

/// A tensor at the border of an entry point: row-major, dense, little-endian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its element type, as [`crate::Element`] names it.
    pub element: String,
    /// Its shape.
    pub dims: Vec<Expr>,
}

/// The most that a size may be: there are no more positions in a table, say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The size.
    pub size: Expr,
    /// What it may be.
    pub most: Expr,
    /// The size in words, for messages: `seq`.
    pub name: String,
    /// The operation that has no more.
    pub place: String,
}

/// States that hold what was read so far and get more with each call: `[batch, held, heads, features]`. All of an entry point hold equally
/// many tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// The symbol whose value is how many tokens they held before the call. It may occur in the shapes of growing states and in
    /// [`Arg::Value`]s, nowhere else.
    pub held: u32,
    /// The symbol whose value is how many tokens there is room for.
    pub capacity: u32,
    /// Tokens that a call adds.
    pub added: Expr,
    /// Rooms are multiples of so many tokens.
    pub step: u64,
    /// The states that grow.
    pub states: Vec<Blocks>,
}

/// A growing state in memory: for each row of `rows`, blocks of `tokens` tokens, as many as there is room for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// Index into [`Entry::states`].
    pub state: u32,
    /// Number of rows: heads of all sequences.
    pub rows: Expr,
    /// Tokens of a block; they divide [`Growth::step`]. Unless it is packed its elements lie in the order feature, token.
    pub tokens: u64,
    /// Bytes of a block.
    pub bytes: u64,
    /// Whether blocks hold something else than elements of the port's type: packed codes and scales.
    pub packed: bool,
}

/// One kernel call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The source operation, for profiles.
    pub name: String,
    /// Index into [`Program::kernels`].
    pub kernel: u32,
    /// What the kernel finds in its argument array.
    pub args: Vec<Arg>,
    /// Number of work items; none means the step is skipped.
    pub items: Expr,
    /// Fewest items that are worth a thread, at least 1.
    pub grain: u64,
    /// Bytes of scratch memory each worker needs.
    pub scratch: Expr,
    /// What it computes, for comparisons with what a machine can do.
    pub work: Work,
    /// Whether it may run at the same time as the step before, and those that it may run with: none reads or writes what another writes.
    pub beside: bool,
}

/// Arithmetic that a step cannot do without: products and sums, each an operation. 0 where moving data is what takes time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// On codes of 8 bits and fewer.
    pub integer: Expr,
    /// On f32.
    pub float: Expr,
    /// On bf16.
    pub bf16: Expr,
}

impl Default for Work {
    fn default() -> Work {
        Work { integer: Expr::Const(0), float: Expr::Const(0), bf16: Expr::Const(0) }
    }
}

/// An argument of a kernel: an address or a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arg {
    /// An address in a buffer of the arena.
    Slot {
        /// Index into [`Entry::slots`].
        index: u32,
        /// Bytes from its start.
        offset: Expr,
    },
    /// An address in a weight.
    Parameter {
        /// Index into [`Program::parameters`].
        index: u32,
        /// Bytes from its start.
        offset: u64,
    },
    /// The caller's input of this index; only read.
    Input(u32),
    /// The caller's output of this index.
    Output(u32),
    /// The persistent buffer of this index in [`Entry::states`].
    State(u32),
    /// A number.
    Value(Expr),
    /// The address of two 64-bit numbers, zero at first, by which the kernel says that an index was outside its axis: first becomes 1, the
    /// second an index. The call fails then.
    Fault,
}

impl Blocks {
    /// Whether two entry points mean the same by them.
    pub(crate) fn agrees(&self, other: &Blocks) -> bool {
        let Blocks { rows, tokens, bytes, packed, .. } = self;
        (rows, tokens, bytes, packed) == (&other.rows, &other.tokens, &other.bytes, &other.packed)
    }
}

impl Entry {
    /// How a state grows, if it does.
    pub(crate) fn blocks(&self, state: &Port) -> Option<&Blocks> {
        let index = self.states.iter().position(|s| s.name == state.name)?;
        self.growth.as_ref()?.states.iter().find(|blocks| blocks.state as usize == index)
    }
}

impl Program {
    /// Bytes of the weights that a step reads whatever its inputs; none where it looks up rows, and so can be asked for one that is not there.
    pub fn weight_bytes(&self, step: &Step) -> u64 {
        if step.args.contains(&Arg::Fault) {
            return 0;
        }
        let mut read: Vec<u32> = step
            .args
            .iter()
            .filter_map(|arg| if let Arg::Parameter { index, .. } = arg { Some(*index) } else { None })
            .collect();
        read.sort_unstable();
        read.dedup();
        read.iter().filter_map(|index| self.parameters.get(*index as usize)).map(|p| p.bytes).sum()
    }

    /// The serial form: a magic number, the version, then the fields.
    ///
    /// # Errors
    /// When the program is not valid.
    pub fn encode(&self) -> Result<Vec<u8>, RuntimeError> {
        self.validate()?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(SCHEMA.to_le_bytes());
        postcard::to_extend(self, bytes).map_err(|e| RuntimeError::Program(e.to_string()))
    }

    /// Reads what [`Program::encode`] wrote, and validates it.
    ///
    /// # Errors
    /// When the bytes are something else, of another version, damaged, or describe an invalid program.
    pub fn decode(bytes: &[u8]) -> Result<Program, RuntimeError> {
        let fail = |message: &str| RuntimeError::Program(message.to_string());
        let rest =
            bytes.strip_prefix(MAGIC).ok_or_else(|| fail("it does not start with the magic number"))?;
        let (schema, rest) = rest.split_first_chunk::<4>().ok_or_else(|| fail("it is cut off"))?;
        let schema = u32::from_le_bytes(*schema);
        if schema != SCHEMA {
            return Err(fail(&format!("its version is {schema}, this runtime reads {SCHEMA}")));
        }
        let (program, rest) = postcard::take_from_bytes::<Program>(rest).map_err(|e| fail(&e.to_string()))?;
        if !rest.is_empty() {
            return Err(fail(&format!("{} bytes follow its end", rest.len())));
        }
        program.validate()?;
        Ok(program)
    }
}
