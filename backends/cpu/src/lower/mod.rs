//! Lowering: functions of the IR become a [`Program`] (a table of kernel calls), the text of the kernels it calls, and packed parameters.
//!
//! They must be in the form the backend's pipeline leaves behind (see [`crate::pipeline`]): legal operations only, images channels
//! last, weights folded into parameters. Each operation becomes a few steps; elementwise operations fuse into one. Buffers are virtual
//! until every step is known; the runtime gives them places when sizes are.

mod attention;
mod axes;
mod buffers;
mod coded;
mod contraction;
mod elementwise;
mod error;
mod hadamard;
mod movement;
mod norm;
mod packing;
mod places;
mod recurrence;
mod rows;
mod steps;
mod view;
mod window;

use std::collections::{HashMap, HashSet};

use qcc_ir::{Dim, Function, Node, Op, OpId, ValueId};
use qcc_runtime::program::{Arg, Entry, Expr, Limit, ParameterSlot, Port, Program, SCHEMA, Step};

pub(crate) use contraction::{KernelForm, is_coded_weight, kernel_form, only_products_read, split_codes};
pub use error::LowerError;
pub use packing::{PackedParameter, PackingError};

use crate::kernels::TargetCaps;
use crate::loops::storage::Storage;
use buffers::{Buffer, Buffers};
pub(crate) use places::Place;
pub(crate) use steps::Operand;
use steps::PendingStep;
use view::View;

/// A lowered model.
pub struct Lowered {
    /// The command table.
    pub program: Program,
    /// Name and MLIR text of each kernel, in the order of `program.kernels`.
    pub kernels: Vec<(String, String)>,
    /// The parameters, in the order of `program.parameters`.
    pub parameters: Vec<PackedParameter>,
}

/// Lowers functions, the entry points of a program, for a machine.
///
/// # Errors
/// When an operation, type or shape has no kernel on the CPU.
pub fn lower<'f>(
    functions: impl IntoIterator<Item = &'f Function>,
    caps: &TargetCaps,
    features: Vec<String>,
) -> Result<Lowered, LowerError> {
    let (mut shared, mut entries) = (Shared::default(), Vec::new());
    for function in functions {
        let mut lowering = Lowering::new(function, caps, shared);
        lowering.arguments()?;
        lowering.join()?;
        for id in lowering.order() {
            let node = function.node(id);
            lowering.node(id, node).map_err(|e| e.at(node))?;
        }
        let (entry, tables) = lowering.finish()?;
        entries.push(entry);
        shared = tables;
    }
    let Shared { symbols, kernels, parameters, .. } = shared;
    let slots = parameters.iter().map(|p| ParameterSlot { name: p.name.clone(), bytes: p.bytes }).collect();
    let program = Program {
        schema: SCHEMA,
        symbols,
        parameters: slots,
        kernels: kernels.iter().map(|(name, _)| name.clone()).collect(),
        features,
        entries,
    };
    Ok(Lowered { program, kernels, parameters })
}

/// What the entry points of a program share.
#[derive(Default)]
struct Shared {
    symbols: Vec<String>,
    kernels: Vec<(String, String)>,
    kernel_index: HashMap<String, u32>,
    parameters: Vec<PackedParameter>,
    parameter_index: HashMap<String, u32>,
}

/// The name of an input or state in the program: the argument's, or its number.
pub fn argument_name(function: &Function, index: usize) -> String {
    match &*function.value(function.arguments()[index]).name {
        "" => format!("arg{index}"),
        name => name.to_string(),
    }
}

/// The name of an output in the program: the result's, or its number.
pub fn result_name(function: &Function, index: usize) -> String {
    match function.result_names.get(index).map(|n| &**n) {
        None | Some("") => format!("result{index}"),
        Some(name) => name.to_string(),
    }
}

/// Whether a kernel of a program is a Hadamard transform, by its name.
pub fn is_transform(kernel: &str) -> bool {
    kernel.rsplit('_').next() == Some("hadamard")
}

pub(crate) struct Lowering<'a> {
    function: &'a Function,
    caps: &'a TargetCaps,
    symbols: Vec<String>,
    kernels: Vec<(String, String)>,
    kernel_index: HashMap<String, u32>,
    parameters: Vec<PackedParameter>,
    parameter_index: HashMap<String, u32>,
    buffers: Buffers,
    steps: Vec<PendingStep>,
    places: HashMap<ValueId, Place>,
    /// Where the caller has the inputs.
    callers: HashMap<ValueId, Place>,
    /// Values that become a part of a concatenation where they are made.
    joined: HashMap<ValueId, movement::Joined>,
    /// Values that are columns of others; they have no place until one is needed.
    views: HashMap<ValueId, View>,
    uses: HashMap<ValueId, Vec<(OpId, usize)>>,
    /// Sums of the codes of each block of a dynamically quantized value, and the block's size.
    block_sums: HashMap<ValueId, (Buffer, u32)>,
    growing: attention::Growing,
    /// The most that sizes may be.
    limits: Vec<Limit>,
    /// Keys and values where attention reads them.
    caches: HashMap<ValueId, attention::Cache>,
    /// Angles of positions, by those and frequencies.
    angles: HashMap<(ValueId, ValueId), attention::Angles>,
    /// Operations that fused into the step of an earlier one.
    skipped: HashSet<OpId>,
    /// Results of elementwise operations that the quantize that reads them computes.
    made_by_quantize: HashMap<ValueId, elementwise::Group>,
    /// Function results by value: the output (or state) each one goes to.
    targets: HashMap<ValueId, Vec<Buffer>>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    states: Vec<Port>,
}

impl<'a> Lowering<'a> {
    fn new(function: &'a Function, caps: &'a TargetCaps, shared: Shared) -> Self {
        let Shared { symbols, kernels, kernel_index, parameters, parameter_index } = shared;
        Lowering {
            function,
            caps,
            symbols,
            kernels,
            kernel_index,
            parameters,
            parameter_index,
            buffers: Buffers::default(),
            steps: Vec::new(),
            places: HashMap::new(),
            callers: HashMap::new(),
            joined: HashMap::new(),
            views: HashMap::new(),
            uses: function.uses(),
            block_sums: HashMap::new(),
            growing: attention::Growing::default(),
            limits: Vec::new(),
            caches: HashMap::new(),
            angles: HashMap::new(),
            skipped: HashSet::new(),
            made_by_quantize: HashMap::new(),
            targets: HashMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            states: Vec::new(),
        }
    }

    /// Inputs are copied into buffers of our own: kernels may read a little past an end, which a caller's buffer does not promise. Where the only
    /// readers read exactly what there is, no copy is made ([`Lowering::exact_place`]).
    fn arguments(&mut self) -> Result<(), LowerError> {
        let function = self.function;
        let is_state = |index: usize| function.states.iter().any(|s| s.argument == index);
        let arguments = || function.arguments().iter().enumerate();
        // Inputs bind sizes; what states hold is no such size.
        let inputs = arguments().filter(|(index, _)| !is_state(*index));
        for symbol in inputs.flat_map(|(_, value)| &function.ty(*value).dims).flat_map(Dim::symbols) {
            if !self.symbols.iter().any(|s| **s == *symbol) {
                self.symbols.push(symbol.to_string());
            }
        }
        for (index, &value) in arguments() {
            let state = function.states.iter().find(|s| s.argument == index);
            let next = state.map(|s| function.results[s.result]);
            if let Some(next) = next.filter(|next| function.ty(value) != function.ty(*next)) {
                self.growing_state(index, next)?;
                continue;
            }
            let storage = self.storage_of(value)?;
            let port = self.port(value, &argument_name(function, index), storage)?;
            if state.is_some() {
                self.states.push(port);
                let buffer = Buffer::State(self.states.len() as u32 - 1);
                self.places.insert(value, Place { buffer, storage });
            } else {
                self.inputs.push(port);
                let input = Place { buffer: Buffer::Input(self.inputs.len() as u32 - 1), storage };
                self.callers.insert(value, input);
                if !self.may_wait(value) {
                    self.place(value)?;
                }
            }
        }
        for (index, &value) in function.results.iter().enumerate() {
            if self.is_grown(value) {
                continue;
            }
            let storage = self.storage_of(value)?;
            let target = match function.states.iter().find(|s| s.result == index) {
                Some(state) => {
                    let argument = function.arguments()[state.argument];
                    self.places[&argument].buffer
                }
                None => {
                    self.outputs.push(self.port(value, &result_name(function, index), storage)?);
                    Buffer::Output(self.outputs.len() as u32 - 1)
                }
            };
            self.targets.entry(value).or_default().push(target);
        }
        Ok(())
    }

    /// The function's operations, linear layers of the same input one after the other: their steps may run at the same time.
    fn order(&self) -> Vec<OpId> {
        let function = self.function;
        let is_linear = |id: OpId| matches!(function.node(id).op, Op::Linear {} | Op::QuantizedLinear { .. });
        let (mut order, mut done) = (Vec::with_capacity(function.order().len()), HashSet::new());
        for &id in function.order() {
            if !done.insert(id) {
                continue;
            }
            order.push(id);
            let Some(x) = function.node(id).operands.first().copied().flatten().filter(|_| is_linear(id))
            else {
                continue;
            };
            for &(other, slot) in self.uses.get(&x).map(Vec::as_slice).unwrap_or_default() {
                let ready = |value: ValueId| match function.defining(value) {
                    None => true,
                    Some((made, node)) => {
                        let stored = matches!(node.op, Op::Parameter { .. } | Op::Constant { .. });
                        stored || done.contains(&made) || is_coded_weight(function, node)
                    }
                };
                let operands = function.node(other).operands.iter().flatten();
                if slot == 0 && is_linear(other) && !done.contains(&other) && operands.copied().all(ready) {
                    done.insert(other);
                    order.push(other);
                }
            }
        }
        order
    }

    fn port(&self, value: ValueId, name: &str, storage: Storage) -> Result<Port, LowerError> {
        let element = match storage {
            Storage::F32 => "f32",
            Storage::F16 => "f16",
            Storage::BF16 => "bf16",
            Storage::I8 => "i8",
            Storage::U8 => "u8",
            Storage::I32 => "i32",
            Storage::I64 => "i64",
            Storage::Bool => "bool",
            Storage::Biased => {
                return Err(LowerError::new(format!(
                    "`{name}`: quantized inputs and outputs are not supported"
                )));
            }
        };
        let dims = self.function.ty(value).dims.iter().map(|d| self.expr(d)).collect::<Result<_, _>>()?;
        Ok(Port { name: name.to_string(), element: element.to_string(), dims })
    }

    fn node(&mut self, id: OpId, node: &Node) -> Result<(), LowerError> {
        if self.skipped.contains(&id) {
            return Ok(());
        }
        match &node.op {
            // Materialised where they are used.
            Op::Parameter { .. } | Op::Constant { .. } => Ok(()),
            Op::Reshape { .. } => self.alias(node),
            Op::Slice { .. } => self.slice(node),
            Op::Concat { .. } if self.is_grown(node.results[0]) => self.grow(node),
            Op::Transpose { .. } | Op::Concat { .. } | Op::Pad { .. } | Op::Broadcast { .. } => {
                self.movement(node)
            }
            Op::Embedding {} if contraction::is_coded_table(self.function, node) => {
                self.packed_embedding(node)
            }
            Op::Embedding {} | Op::Gather { .. } => self.gather(node),
            // The products that read it decode it.
            Op::Dequantize {} | Op::Cast { .. } if self.is_decoded_by_readers(node) => Ok(()),
            Op::Cast { .. } if self.is_widened_by_readers(node) => Ok(()),
            Op::Linear {} | Op::QuantizedLinear { .. } => self.linear(node),
            Op::Conv { .. } | Op::QuantizedConv { .. } => self.conv(node),
            Op::Matmul {} => self.matmul(node),
            Op::MaxPool { .. } | Op::AvgPool { .. } => self.pool(node),
            Op::Softmax { .. }
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::Hadamard { .. }
            | Op::DynamicQuantize { .. } => self.rows(node),
            Op::ReduceMean { .. } | Op::ReduceSum { .. } | Op::ReduceMax { .. } => self.reduce(node),
            Op::CausalConv {} | Op::SelectiveScan {} | Op::SelectiveScanStates {} => self.recurrence(node),
            Op::Iota { size } => self.iota(node, size),
            Op::Positions { axis } => self.positions(node, *axis),
            Op::RotaryEmbedding { interleaved } => self.rotary_embedding(node, *interleaved),
            Op::Attention { .. } => self.attention(node),
            _ => self.elementwise(node),
        }
    }

    // ---- what the families build on ----

    /// Whether an operation decodes a weight for kernels that do so themselves.
    fn is_decoded_by_readers(&self, node: &Node) -> bool {
        let readers = self.uses.get(&node.results[0]).map(Vec::as_slice).unwrap_or_default();
        is_coded_weight(self.function, node)
            && !self.function.results.contains(&node.results[0])
            && only_products_read(self.function, readers)
    }

    /// Whether an operation widens what products of bf16 read as it is.
    fn is_widened_by_readers(&self, node: &Node) -> bool {
        contraction::feeds_bf16_products(self.function, &self.uses, node)
    }

    /// A size as an expression over the program's symbols.
    pub(crate) fn expr(&self, dim: &Dim) -> Result<Expr, LowerError> {
        let constant = |c: i64| {
            u64::try_from(c)
                .map(Expr::Const)
                .map_err(|_| LowerError::new(format!("size {dim} has a negative term")))
        };
        match dim {
            Dim::Const(c) => constant(*c),
            Dim::Symbolic(p) => {
                let mut sum: Option<Expr> = None;
                for (symbols, c) in p.terms() {
                    let mut term = constant(*c)?;
                    for symbol in symbols {
                        let index = self.symbols.iter().position(|s| **s == **symbol);
                        let index = index
                            .ok_or_else(|| LowerError::new(format!("no input binds the size `{symbol}`")))?;
                        let factor = Expr::Symbol(index as u32);
                        term = if *c == 1 && term == Expr::Const(1) {
                            factor
                        } else {
                            Expr::Mul(Box::new(term), Box::new(factor))
                        };
                    }
                    sum = Some(match sum {
                        None => term,
                        Some(sum) => Expr::Add(Box::new(sum), Box::new(term)),
                    });
                }
                Ok(sum.unwrap_or(Expr::Const(0)))
            }
        }
    }

    /// `⌈dim / by⌉`.
    pub(crate) fn expr_ceil_div(&self, dim: &Dim, by: u64) -> Result<Expr, LowerError> {
        Ok(match self.expr(dim)? {
            Expr::Const(n) => Expr::Const(n.div_ceil(by)),
            e if by == 1 => e,
            e => Expr::CeilDiv(Box::new(e), by),
        })
    }

    /// Number of elements of a shape.
    pub(crate) fn count(dims: &[Dim]) -> Result<Dim, LowerError> {
        dims.iter().try_fold(Dim::Const(1), |n, d| n.checked_mul(d)).ok_or_else(LowerError::too_large)
    }

    fn finish(mut self) -> Result<(Entry, Shared), LowerError> {
        self.store_results()?;
        let beside = self.beside();
        self.keep_while_together(&beside);
        let mut steps = Vec::with_capacity(self.steps.len());
        for (step, beside) in self.steps.iter().zip(beside) {
            let args = step
                .operands
                .iter()
                .map(|operand| {
                    Ok(match operand {
                        Operand::Buffer(Buffer::Virtual(v)) => {
                            Arg::Slot { index: *v, offset: Expr::Const(0) }
                        }
                        Operand::Buffer(Buffer::Parameter(index)) => {
                            Arg::Parameter { index: *index, offset: 0 }
                        }
                        Operand::Buffer(Buffer::Input(index)) => Arg::Input(*index),
                        Operand::Buffer(Buffer::Output(index)) => Arg::Output(*index),
                        Operand::Buffer(Buffer::State(index)) => Arg::State(*index),
                        Operand::At(Buffer::Virtual(v), bytes) => {
                            Arg::Slot { index: *v, offset: Expr::Const(*bytes as u64) }
                        }
                        Operand::At(other, _) => {
                            return Err(LowerError::new(format!("{other:?} has no inner addresses")));
                        }
                        Operand::Size(dim) => Arg::Value(self.expr(dim)?),
                        Operand::Fault => Arg::Fault,
                        Operand::Bits(bits) => Arg::Value(Expr::Const(*bits)),
                    })
                })
                .collect::<Result<Vec<_>, LowerError>>()?;
            steps.push(Step {
                name: step.name.clone(),
                kernel: step.kernel,
                args,
                items: step.items.clone(),
                grain: step.grain,
                scratch: step.scratch.clone(),
                work: step.work.clone(),
                beside,
            });
        }
        let growth = self.growth()?;
        let entry = Entry {
            name: self.function.name.clone(),
            inputs: self.inputs,
            outputs: self.outputs,
            states: self.states,
            growth,
            limits: self.limits,
            slots: self.buffers.slots(),
            steps,
        };
        let Lowering { symbols, kernels, kernel_index, parameters, parameter_index, .. } = self;
        Ok((entry, Shared { symbols, kernels, kernel_index, parameters, parameter_index }))
    }

    /// Copies results to outputs and states where the step that made them did not write there itself.
    fn store_results(&mut self) -> Result<(), LowerError> {
        let function = self.function;
        let mut done: Vec<ValueId> = Vec::new();
        for &value in &function.results {
            if done.contains(&value) {
                continue;
            }
            done.push(value);
            if self.is_grown(value) {
                continue;
            }
            let from = self.place(value)?;
            for target in self.targets[&value].clone() {
                if target != from.buffer {
                    let to = Place { buffer: target, storage: from.storage };
                    self.copy_all(to, from, &function.ty(value).dims, "output")?;
                }
            }
        }
        Ok(())
    }
}
