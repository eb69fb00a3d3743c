//! Steps of the program: the kernels they call, what they read and write, which of them run together.

use qcc_ir::Dim;
use qcc_runtime::program::{Expr, Work};

use super::buffers::Buffer;
use super::packing::PackedParameter;
use super::{LowerError, Lowering};
use crate::kernels::TargetCaps;

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
    pub(super) name: String,
    pub(super) kernel: u32,
    pub(super) operands: Vec<Operand>,
    pub(super) items: Expr,
    pub(super) grain: u64,
    pub(super) scratch: Expr,
    pub(super) work: Work,
    /// Of a matrix product, which reads all else: where its result goes.
    pub(super) product: Option<Buffer>,
}

/// The kind of a kernel, from its key: `hadamard` of `HadamardSpec { … }`.
fn family(key: &str) -> String {
    let name = key.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    name.trim_end_matches("Spec").to_ascii_lowercase()
}

impl Lowering<'_> {
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
    pub(super) fn beside(&self) -> Vec<bool> {
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
    pub(super) fn keep_while_together(&mut self, beside: &[bool]) {
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
}
