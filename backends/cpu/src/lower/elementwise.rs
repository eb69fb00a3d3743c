//! Elementwise operations: chains whose inner results have one use become one kernel.

use qcc_ir::{
    Dim, ElementType, Function, Granularity, Node, Op, ValueId,
    ops::{Rounding, Special},
};

use qcc_runtime::program::Expr;

use super::axes::{Axes, broadcast, contiguous};
use super::buffers::Buffer;
use super::coded::is_plain;
use super::rows::quantizes_rows;
use super::{LowerError, Lowering, Operand};
use crate::kernels::quantize::TokenFormat;
use crate::loops::elementwise::{Elementwise, Input, Step, supported};
use crate::loops::storage::Storage;

/// Operands and steps of one kernel, at most: registers are finite.
const MOST_INPUTS: usize = 10;
const MOST_STEPS: usize = 16;

/// A group of operations that become one kernel.
#[derive(Default)]
pub(super) struct Group {
    /// Values read, each with the sizes it broadcasts from.
    inputs: Vec<(ValueId, Vec<Dim>)>,
    /// Steps whose operands are still named by value.
    steps: Vec<(Op, Vec<Part>)>,
}

impl Group {
    /// Its steps, with operands counted from the first input on.
    fn steps(&self) -> Vec<Step> {
        let index = |part: &Part| match part {
            Part::Input(i) => *i,
            Part::Step(s) => self.inputs.len() + s,
        };
        let step = |(op, parts): &(Op, Vec<Part>)| Step {
            op: op.clone(),
            operands: parts.iter().map(index).collect(),
        };
        self.steps.iter().map(step).collect()
    }
}

/// An operand of a step under construction.
#[derive(Clone, Copy)]
enum Part {
    Input(usize),
    Step(usize),
}

fn elementwise(function: &Function, node: &Node) -> bool {
    let Some(Some(x)) = node.operands.first() else { return false };
    let element = function.ty(*x).element;
    match &node.op {
        Op::Quantize { to, narrow, rounding, special } => {
            *rounding == Rounding::HalfEven
                && *special == Special::Saturate
                && to.quantized().is_some_and(|q| {
                    q.granularity == Granularity::Tensor
                        && is_plain(q)
                        && q.storage.integer_range(*narrow).is_some()
                })
        }
        Op::Dequantize {} => element.quantized().is_some_and(is_plain),
        op => element.quantized().is_none() && supported(op, element.is_integer()),
    }
}

impl Lowering<'_> {
    /// Lowers an elementwise operation, unless its only user takes it into a kernel of its own.
    pub(super) fn elementwise(&mut self, node: &Node) -> Result<(), LowerError> {
        if self.quantized_rows(node)? {
            return Ok(());
        }
        if !elementwise(self.function, node) && matches!(node.op, Op::Quantize { .. } | Op::Dequantize {}) {
            return self.coded_rows(node);
        }
        if !elementwise(self.function, node) {
            let x = node.operands.first().copied().flatten().map(|x| self.function.ty(x).to_string());
            return Err(LowerError::new(format!("has no CPU kernel for {}", x.unwrap_or_default())));
        }
        if self.fuses_into_user(node) {
            return Ok(());
        }
        let mut group = Group::default();
        self.collect(node, &mut group);
        if self.quantize_takes_group(node, &group) {
            self.made_by_quantize.insert(node.results[0], group);
            return Ok(());
        }
        self.emit(node, &group)
    }

    /// Whether the only reader of a group is a quantize of rows that can compute it, row by row.
    fn quantize_takes_group(&self, node: &Node, group: &Group) -> bool {
        let y = node.results[0];
        let ty = self.function.ty(y);
        let Some(columns) = ty.dims.last().filter(|d| d.constant().is_some()) else { return false };
        let by_rows = |dims: &[Dim]| dims == ty.dims || dims.is_empty() || dims == [columns.clone()];
        let reader = match self.uses.get(&y).map(Vec::as_slice) {
            Some([(user, 0)]) => &self.function.node(*user).op,
            _ => return false,
        };
        !self.targets.contains_key(&y)
            && ty.element == ElementType::F32
            && ty.rank() > 1
            && group.inputs.len() <= MOST_INPUTS
            && group.inputs.iter().all(|(_, dims)| by_rows(dims))
            && quantizes_rows(reader)
    }

    /// The step of a group whose rows are quantized as they are made.
    pub(super) fn quantized_group(
        &mut self,
        (node, group): (&Node, &Group),
        format: TokenFormat,
        (codes, scales, sums): (Buffer, Operand, Operand),
    ) -> Result<(), LowerError> {
        let dims = self.function.ty(node.results[0]).dims.clone();
        let (columns, outer) = dims.split_last().ok_or_else(|| LowerError::new("a scalar has no rows"))?;
        let row_length = columns
            .constant()
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| LowerError::new("rows of symbolic length are not quantized as they are made"))?;
        let rows = Self::count(outer)?;
        let mut places = Vec::new();
        for (x, _) in &group.inputs {
            places.push(self.place(*x)?);
        }
        let by_row = |own: &[Dim]| if *own == dims { columns.clone() } else { Dim::Const(0) };
        let in_row = |own: &[Dim]| Dim::Const(i64::from(!own.is_empty()));
        let strides: Vec<[Dim; 2]> = group.inputs.iter().map(|(_, own)| [by_row(own), in_row(own)]).collect();
        let inputs = places.iter().zip(&strides);
        let spec = Elementwise {
            rank: 2,
            inputs: inputs
                .map(|(place, [_, step])| Input { storage: place.storage, splat: *step == Dim::Const(0) })
                .collect(),
            steps: group.steps(),
            output: Storage::F32,
            token: Some(format),
        };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| spec.generate(name, caps));
        let mut operands = vec![Operand::Buffer(codes)];
        operands.extend(places.iter().map(|place| Operand::Buffer(place.buffer)));
        operands.extend([rows.clone(), columns.clone()].map(Operand::Size));
        operands.extend(strides.into_iter().flatten().map(Operand::Size));
        operands.extend([scales, sums]);
        let scratch = spec.scratch_bytes(row_length);
        let rows = self.expr(&rows)?;
        self.step_with(&node.location, kernel, operands, rows, 1, Expr::Const(scratch));
        Ok(())
    }

    /// Whether the only use of a result is an elementwise operation of the same shape.
    fn fuses_into_user(&self, node: &Node) -> bool {
        let y = node.results[0];
        if self.targets.contains_key(&y) {
            return false;
        }
        match self.uses.get(&y).map(Vec::as_slice) {
            Some([(user, slot)]) => {
                let user = self.function.node(*user);
                // Scales and zero points are read as scalars, not lanes.
                let scalar = matches!(user.op, Op::Quantize { .. } | Op::Dequantize {}) && *slot > 0;
                !scalar
                    && elementwise(self.function, user)
                    && !self.is_widened_by_readers(user)
                    && self.function.ty(user.results[0]).dims == self.function.ty(y).dims
            }
            _ => false,
        }
    }

    /// Adds the steps of a node, and of those that fuse into it, to the group.
    fn collect(&self, node: &Node, group: &mut Group) -> Part {
        let mut parts = Vec::new();
        for (slot, operand) in node.operands.iter().enumerate() {
            let Some(x) = *operand else { continue };
            let inner = self.function.defining(x).filter(|(id, inner)| {
                !self.skipped.contains(id)
                    && elementwise(self.function, inner)
                    && self.fuses_into_user(inner)
                    && group.inputs.len() + 2 < MOST_INPUTS
                    && group.steps.len() + 2 < MOST_STEPS
                    && !self.places.contains_key(&x)
            });
            parts.push(match inner {
                Some((_, inner)) => self.collect(inner, group),
                None => {
                    let dims = self.operand_dims(node, slot, x);
                    let known = group.inputs.iter().position(|(v, d)| *v == x && *d == dims);
                    Part::Input(known.unwrap_or_else(|| {
                        group.inputs.push((x, dims));
                        group.inputs.len() - 1
                    }))
                }
            });
        }
        group.steps.push((node.op.clone(), parts));
        // Lanes are wider than these types: what follows in the kernel must see the value as it would be stored.
        let element = self.function.ty(node.results[0]).element;
        let narrow =
            [ElementType::F16, ElementType::BF16, ElementType::I8, ElementType::U8, ElementType::I32];
        if narrow.contains(&element) && !matches!(node.op, Op::Cast { .. }) {
            let last = Part::Step(group.steps.len() - 1);
            group.steps.push((Op::Cast { to: element }, vec![last]));
        }
        Part::Step(group.steps.len() - 1)
    }

    /// The sizes an operand broadcasts from: its own, but for per-channel scales, which stand along their axis.
    fn operand_dims(&self, node: &Node, slot: usize, x: ValueId) -> Vec<Dim> {
        let dims = self.function.ty(x).dims.clone();
        let Some(data) = node.operands[0] else { return dims };
        let data_ty = self.function.ty(data);
        match (&node.op, slot, data_ty.element.quantized().map(|q| q.granularity)) {
            (Op::Dequantize {}, 1.., Some(Granularity::Channel { axis })) => {
                let mut aligned = vec![Dim::Const(1); data_ty.rank()];
                if let (Some(at), Some(n)) = (aligned.get_mut(usize::from(axis)), dims.first()) {
                    *at = n.clone();
                }
                aligned
            }
            _ => dims,
        }
    }

    fn emit(&mut self, node: &Node, group: &Group) -> Result<(), LowerError> {
        if group.inputs.len() > MOST_INPUTS {
            return Err(LowerError::new(format!(
                "fuses {} operands; the limit is {MOST_INPUTS}",
                group.inputs.len()
            )));
        }
        let y = node.results[0];
        // Places first: a group that was refused a fused operand may still have to make it.
        let mut inputs = Vec::new();
        let dims = self.function.ty(y).dims.clone();
        // Sixteen elements at a time: nothing is read past the end of whole sixteens.
        let sixteens = match Self::count(&dims)? {
            Dim::Const(n) => n % 16 == 0,
            Dim::Symbolic(p) => p.terms().iter().all(|(_, c)| c % 16 == 0),
        };
        for (x, own) in &group.inputs {
            let exact =
                sixteens && *own == dims && group.inputs.iter().all(|(_, d)| *d == dims || d.is_empty());
            inputs.push(if exact { self.exact_place(*x)? } else { self.place(*x)? });
        }
        let mut strides = vec![contiguous(&dims)?];
        for (_, own) in &group.inputs {
            strides.push(broadcast(own, dims.len())?);
        }
        let axes = Axes { dims, strides }.merged()?;
        let rank = axes.dims.len();
        let out = self.result(y)?;
        let spec = Elementwise {
            rank,
            inputs: inputs
                .iter()
                .zip(&axes.strides[1..])
                .map(|(place, strides)| Input {
                    storage: place.storage,
                    splat: strides[rank - 1] == Dim::Const(0),
                })
                .collect(),
            steps: group.steps(),
            output: out.storage,
            token: None,
        };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| spec.generate(name, caps));
        let mut operands = vec![Operand::Buffer(out.buffer)];
        operands.extend(inputs.iter().map(|place| Operand::Buffer(place.buffer)));
        operands.extend(axes.dims.iter().cloned().map(Operand::Size));
        operands.extend(axes.strides[1..].iter().flatten().cloned().map(Operand::Size));
        if rank == 1 {
            let items = self.expr_ceil_div(&axes.dims[0], 16)?;
            self.step_with(&node.location, kernel, operands, items, 256, Expr::Const(0));
            return Ok(());
        }
        let rows = Self::count(&axes.dims[..rank - 1])?;
        self.step(&node.location, kernel, operands, &rows, 16)
    }
}
