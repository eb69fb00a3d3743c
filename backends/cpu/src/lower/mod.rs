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
mod recurrence;
mod rows;
mod view;
mod window;

use std::collections::{HashMap, HashSet};

use qcc_ir::{Definition, Dim, ElementType, Function, Node, Op, OpId, ValueId};
use qcc_runtime::program::{Arg, Entry, Expr, Limit, ParameterSlot, Port, Program, SCHEMA, Step, Work};

pub(crate) use contraction::{KernelForm, is_coded_weight, kernel_form, only_products_read, split_codes};
pub use error::LowerError;
pub use packing::{PackedParameter, PackingError};

use crate::kernels::TargetCaps;
use crate::loops::storage::Storage;
use buffers::{Buffer, Buffers};
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

/// The kind of a kernel, from its key: `hadamard` of `HadamardSpec { … }`.
fn family(key: &str) -> String {
    let name = key.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    name.trim_end_matches("Spec").to_ascii_lowercase()
}

/// Where a value is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub buffer: Buffer,
    pub storage: Storage,
}

impl Place {
    /// Whether the indices stored here are 64-bit, not 32-bit.
    fn index_is_wide(self) -> Result<bool, LowerError> {
        match self.storage {
            Storage::I64 => Ok(true),
            Storage::I32 => Ok(false),
            other => Err(LowerError::new(format!("indices stored as {other:?} are not supported"))),
        }
    }
}

/// One argument of a step.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Buffer(Buffer),
    /// So many bytes after the start of a virtual buffer.
    At(Buffer, i64),
    Size(Dim),
    Bits(u64),
    /// Where the kernel says that an index is outside.
    Fault,
}

/// A step whose buffers are still virtual.
pub(crate) struct PendingStep {
    name: String,
    kernel: u32,
    operands: Vec<Operand>,
    items: Expr,
    grain: u64,
    scratch: Expr,
    work: Work,
    /// Of a matrix product, which reads all else: where its result goes.
    product: Option<Buffer>,
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

    pub(crate) fn new_buffer(&mut self, dims: &[Dim], storage: Storage) -> Result<Buffer, LowerError> {
        let bytes =
            Self::count(dims)?.checked_mul(&Dim::Const(storage.bytes())).ok_or_else(LowerError::too_large)?;
        let bytes = self.expr(&bytes)?;
        Ok(self.buffers.add(bytes))
    }

    /// A buffer of so many bytes that no value owns.
    pub(crate) fn temporary(&mut self, bytes: &Dim) -> Result<Buffer, LowerError> {
        let bytes = self.expr(bytes)?;
        Ok(self.buffers.add(bytes))
    }

    /// How a value's elements lie in memory.
    pub(crate) fn storage_of(&self, value: ValueId) -> Result<Storage, LowerError> {
        Ok(match self.function.ty(value).element {
            ElementType::F32 => Storage::F32,
            ElementType::F16 => Storage::F16,
            ElementType::BF16 => Storage::BF16,
            ElementType::Bool => Storage::Bool,
            ElementType::I8 => Storage::I8,
            ElementType::U8 => Storage::U8,
            ElementType::I32 => Storage::I32,
            ElementType::I64 => Storage::I64,
            ElementType::Quant(q) => match q.storage {
                qcc_ir::Storage::UInt(_) => Storage::U8,
                // Block-scaled weights take signed activations; everything else the unsigned operand of `vpdpbusd`.
                qcc_ir::Storage::Int(_)
                    if contraction::feeds_block_weights(self.function, &self.uses, value) =>
                {
                    Storage::I8
                }
                qcc_ir::Storage::Int(_) => Storage::Biased,
                // All others as bit patterns.
                other if other.bits() <= 8 => Storage::U8,
                other => {
                    return Err(LowerError::new(format!("codes of {} are wider than a byte", other.name())));
                }
            },
            other => return Err(LowerError::new(format!("elements of type {other} have no CPU kernels"))),
        })
    }

    /// Where an operand is; parameters and constants become program parameters here.
    pub(crate) fn place(&mut self, value: ValueId) -> Result<Place, LowerError> {
        if let Some(place) = self.places.get(&value) {
            return Ok(*place);
        }
        if let Some(view) = self.views.get(&value).copied() {
            return self.materialise(value, view);
        }
        let storage = self.storage_of(value)?;
        if let Some(input) = self.callers.get(&value).copied() {
            let dims = self.function.ty(value).dims.clone();
            let own = Place { buffer: self.new_buffer(&dims, storage)?, storage };
            self.copy_all(own, input, &dims, "input")?;
            self.places.insert(value, own);
            return Ok(own);
        }
        let Definition::Result(op, _) = self.function.value(value).definition else {
            return Err(LowerError::new("an argument was not lowered"));
        };
        let node = self.function.node(op);
        let packed = match &node.op {
            Op::Parameter { name } => PackedParameter::plain(name, self.function.ty(value), storage)?,
            Op::Constant { value } => PackedParameter::constant(value, storage)?,
            other => {
                return Err(LowerError::new(format!(
                    "the result of `qcc.{}` is used before it is made",
                    other.name()
                )));
            }
        };
        let place = Place { buffer: self.parameter(packed), storage };
        self.places.insert(value, place);
        Ok(place)
    }

    /// Where an operand is, for a kernel that reads nothing past its end.
    pub(crate) fn exact_place(&mut self, value: ValueId) -> Result<Place, LowerError> {
        match self.callers.get(&value) {
            Some(input) if !self.places.contains_key(&value) => Ok(*input),
            _ => self.place(value),
        }
    }

    /// Whether an input need not be copied before its readers are known to need that: they read its elements in order, or move them.
    fn may_wait(&self, value: ValueId) -> bool {
        let readers = self.uses.get(&value).map(Vec::as_slice).unwrap_or_default();
        let plain = |(user, _): &(OpId, usize)| {
            let node = self.function.node(*user);
            matches!(node.op, Op::Transpose { .. } | Op::Quantize { .. })
        };
        !self.targets.contains_key(&value) && readers.iter().all(plain)
    }

    /// A buffer for a result: the output itself where that is its only target, else a virtual one that is copied there.
    pub(crate) fn result(&mut self, value: ValueId) -> Result<Place, LowerError> {
        let storage = self.storage_of(value)?;
        let unused = self.uses.get(&value).is_none_or(Vec::is_empty);
        let buffer = match self.targets.get(&value).map(Vec::as_slice) {
            Some([only @ Buffer::Output(_)]) if unused => *only,
            _ => self.new_buffer(&self.function.ty(value).dims, storage)?,
        };
        let place = Place { buffer, storage };
        self.places.insert(value, place);
        Ok(place)
    }

    pub(crate) fn parameter(&mut self, packed: PackedParameter) -> Buffer {
        if let Some(&index) = self.parameter_index.get(&packed.name) {
            return Buffer::Parameter(index);
        }
        let index = self.parameters.len() as u32;
        self.parameter_index.insert(packed.name.clone(), index);
        self.parameters.push(packed);
        Buffer::Parameter(index)
    }

    /// The kernel of this key, a spec as it prints; generated the first time it is needed.
    pub(crate) fn kernel(&mut self, key: &str, generate: impl FnOnce(&str, &TargetCaps) -> String) -> u32 {
        if let Some(&index) = self.kernel_index.get(key) {
            return index;
        }
        let index = self.kernels.len() as u32;
        let name = format!("qcc_kernel_{index}_{}", family(key));
        self.kernels.push((name.clone(), generate(&name, self.caps)));
        self.kernel_index.insert(key.to_string(), index);
        index
    }

    /// Adds a step. `items` work items, at least `grain` of them a thread.
    pub(crate) fn step(
        &mut self,
        name: &str,
        kernel: u32,
        operands: Vec<Operand>,
        items: &Dim,
        grain: u64,
    ) -> Result<(), LowerError> {
        let items = self.expr(items)?;
        self.step_with(name, kernel, operands, items, grain, Expr::Const(0));
        Ok(())
    }

    pub(crate) fn step_with(
        &mut self,
        name: &str,
        kernel: u32,
        operands: Vec<Operand>,
        items: Expr,
        grain: u64,
        scratch: Expr,
    ) {
        for operand in &operands {
            if let Operand::Buffer(buffer) | Operand::At(buffer, _) = operand {
                self.buffers.used(*buffer, self.steps.len());
            }
        }
        self.steps.push(PendingStep {
            name: name.to_string(),
            kernel,
            operands,
            items,
            grain: grain.max(1),
            scratch,
            work: Work::default(),
            product: None,
        });
    }

    /// Says that the last step is a matrix product, and where its result goes.
    pub(crate) fn is_product_into(&mut self, result: Buffer) {
        if let Some(step) = self.steps.last_mut() {
            step.product = Some(result);
        }
    }

    /// Which steps may run at the same time as those before them: matrix products of which none reads or writes another's result.
    fn beside(&self) -> Vec<bool> {
        let touches = |step: &PendingStep, buffer: Buffer| {
            step.operands.iter().any(|operand| match operand {
                Operand::Buffer(b) | Operand::At(b, _) => *b == buffer,
                _ => false,
            })
        };
        let mut first = 0;
        let mut beside = Vec::with_capacity(self.steps.len());
        for (index, step) in self.steps.iter().enumerate() {
            let apart = |other: &PendingStep| match (step.product, other.product) {
                (Some(mine), Some(theirs)) => !touches(other, mine) && !touches(step, theirs),
                _ => false,
            };
            let joins = index > 0 && self.steps[first..index].iter().all(apart);
            if !joins {
                first = index;
            }
            beside.push(joins);
        }
        beside
    }

    /// Says how many operations on f32 the last step does.
    pub(crate) fn works_on_floats(&mut self, operations: &Dim) -> Result<(), LowerError> {
        let float = self.expr(operations)?;
        self.works(Work { float, ..Work::default() });
        Ok(())
    }

    /// Says what arithmetic the last step does.
    pub(crate) fn works(&mut self, work: Work) {
        if let Some(step) = self.steps.last_mut() {
            step.work = work;
        }
    }

    /// What any of the steps that may run together uses has its place while the first and the last of them run.
    fn keep_while_together(&mut self, beside: &[bool]) {
        let mut first = 0;
        for (at, joins) in beside.iter().enumerate() {
            if !joins {
                first = at;
                continue;
            }
            // Those in between were widened before.
            for (step, other) in
                [(first, at), (at, first)].into_iter().chain((first + 1..at).map(|step| (step, at)))
            {
                for operand in &self.steps[step].operands {
                    if let Operand::Buffer(buffer) | Operand::At(buffer, _) = operand {
                        self.buffers.used(*buffer, other);
                    }
                }
            }
        }
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
