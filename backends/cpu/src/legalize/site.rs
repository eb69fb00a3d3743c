//! The operation that is being rewritten, and the operations that rewrites are built from. What is built carries the location of the
//! original.

use qcc_ir::{
    Dense, Dim, ElementType, Float, Function, InferError, Node, Op, OpId, TensorType, ValueId, ops::PadMode,
};
use qcc_params::{Expression, Parameters};

/// Why a rewrite failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The operations built do not fit each other.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// A size of the rewritten operations is beyond 64 bits.
    #[error("a size overflows")]
    TooLarge,
}

/// The replacements of an operation's results; `None` where the rewrite does not apply.
pub(super) type Rewritten = Result<Option<Vec<ValueId>>, Failure>;

/// An operation in its function, with the weights it may extend.
pub(super) struct Site<'a> {
    pub function: &'a mut Function,
    pub parameters: &'a mut Parameters,
    pub node: Node,
}

/// Positions along an axis that are worth a constant of the program, at most.
pub(super) const MOST_POSITIONS: i64 = 1 << 24;

/// A rewrite with one result.
pub(super) fn one(value: ValueId) -> Rewritten {
    Ok(Some(vec![value]))
}

impl Site<'_> {
    /// An operand that the operation table demands.
    pub fn operand(&self, slot: usize) -> ValueId {
        self.optional(slot).expect("invariant: arity was checked")
    }

    pub fn optional(&self, slot: usize) -> Option<ValueId> {
        self.node.operands.get(slot).copied().flatten()
    }

    pub fn ty(&self, value: ValueId) -> &TensorType {
        self.function.ty(value)
    }

    pub fn dims(&self, value: ValueId) -> Vec<Dim> {
        self.ty(value).dims.clone()
    }

    pub fn rank(&self, value: ValueId) -> usize {
        self.ty(value).rank()
    }

    /// Type of the first result.
    pub fn result_ty(&self) -> &TensorType {
        self.ty(self.node.results[0])
    }

    /// Whether a value depends on an argument of the function, or on the size of one. One that does not is a weight, or becomes one.
    pub fn is_computed(&self, value: ValueId) -> bool {
        let (mut seen, mut stack) = (vec![false; self.function.value_count()], vec![value]);
        while let Some(value) = stack.pop() {
            if std::mem::replace(&mut seen[value.index()], true) {
                continue;
            }
            match self.function.defining(value) {
                None | Some((_, Node { op: Op::Iota { .. }, .. })) => return true,
                Some((_, node)) => stack.extend(node.operands.iter().copied().flatten()),
            }
        }
        false
    }

    pub fn add(&mut self, op: Op, operands: &[ValueId]) -> Result<ValueId, Failure> {
        self.add_slots(op, operands.iter().copied().map(Some))
    }

    pub fn add_slots(
        &mut self,
        op: Op,
        operands: impl IntoIterator<Item = Option<ValueId>>,
    ) -> Result<ValueId, Failure> {
        Ok(self.function.add_one(op, operands, &self.node.location)?)
    }

    /// Adds an operation that does the work of the original and inherits its annotations.
    pub fn add_heir(
        &mut self,
        op: Op,
        operands: impl IntoIterator<Item = Option<ValueId>>,
    ) -> Result<Vec<ValueId>, Failure> {
        let id = OpId::new(self.function.node_count());
        let results = self.function.add(op, operands, &self.node.location)?;
        self.function.node_mut(id).annotations = self.node.annotations.clone();
        Ok(results.to_vec())
    }

    // ---- movement ----

    pub fn reshape(&mut self, x: ValueId, shape: Vec<Dim>) -> Result<ValueId, Failure> {
        if self.ty(x).dims == shape { Ok(x) } else { self.add(Op::Reshape { shape }, &[x]) }
    }

    pub fn transpose(&mut self, x: ValueId, permutation: Vec<i64>) -> Result<ValueId, Failure> {
        if permutation.iter().enumerate().all(|(i, &p)| p == i as i64) {
            return Ok(x);
        }
        self.add(Op::Transpose { permutation }, &[x])
    }

    /// Exchanges an axis with the last one.
    pub fn exchange_with_last(&mut self, x: ValueId, axis: usize) -> Result<ValueId, Failure> {
        let last = self.rank(x) - 1;
        let mut permutation: Vec<i64> = (0..=last as i64).collect();
        permutation.swap(axis, last);
        self.transpose(x, permutation)
    }

    /// `[batch, channels, spatial…]` as `[batch, spatial…, channels]`, in the form that `channels-last` recognises.
    pub fn channels_last(&mut self, x: ValueId) -> Result<ValueId, Failure> {
        let rank = self.rank(x) as i64;
        self.transpose(x, std::iter::once(0).chain(2..rank).chain([1]).collect())
    }

    /// `[batch, spatial…, channels]` as `[batch, channels, spatial…]`.
    pub fn channels_first(&mut self, x: ValueId) -> Result<ValueId, Failure> {
        let last = self.rank(x) as i64 - 1;
        self.transpose(x, [0, last].into_iter().chain(1..last).collect())
    }

    /// Elements at constant positions along an axis.
    pub fn pick(&mut self, x: ValueId, axis: usize, positions: &[i64]) -> Result<ValueId, Failure> {
        let dense = Dense::i64(&[positions.len() as i64], positions);
        let positions = self.function.add_constant(dense, &self.node.location);
        self.add(Op::Gather { axis: axis as i64 }, &[x, positions])
    }

    /// Elements `start..end` along an axis of constant size.
    pub fn slice(&mut self, x: ValueId, axis: usize, start: i64, end: i64) -> Result<ValueId, Failure> {
        if start == 0 && self.ty(x).dims[axis] == Dim::Const(end) {
            return Ok(x);
        }
        let op = Op::Slice { axes: vec![axis as i64], starts: vec![start], ends: vec![end], steps: vec![1] };
        self.add(op, &[x])
    }

    /// Zeros after the elements of an axis.
    pub fn zeros_after(&mut self, x: ValueId, axis: usize, count: i64) -> Result<ValueId, Failure> {
        if count == 0 {
            return Ok(x);
        }
        let rank = self.rank(x);
        let mut pads = vec![0; 2 * rank];
        pads[rank + axis] = count;
        self.add(Op::Pad { pads, mode: PadMode::Constant, value: Float(0.0) }, &[x])
    }

    // ---- elementwise ----

    /// A constant in full precision: the sum of two f32 constants where one does not hold the numbers.
    pub fn constant(&mut self, dims: &[i64], values: &[f64]) -> Result<ValueId, Failure> {
        #[allow(clippy::cast_possible_truncation, reason = "the rest goes into the second constant")]
        let high: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        #[allow(clippy::cast_possible_truncation, reason = "what is left now is below 2^-48 of the number")]
        let low: Vec<f32> = values.iter().zip(&high).map(|(v, h)| (*v - f64::from(*h)) as f32).collect();
        let exact = low.iter().all(|v| *v == 0.0);
        let high = self.function.add_constant(Dense::f32(dims, &high), &self.node.location);
        if exact {
            return Ok(high);
        }
        let low = self.function.add_constant(Dense::f32(dims, &low), &self.node.location);
        self.add(Op::Add {}, &[high, low])
    }

    pub fn cast(&mut self, x: ValueId, to: ElementType) -> Result<ValueId, Failure> {
        if self.ty(x).element == to { Ok(x) } else { self.add(Op::Cast { to }, &[x]) }
    }

    /// The constant a value is, as a parameter: packers read weights by name. `None` when it is no constant.
    pub fn constant_as_parameter(&mut self, value: ValueId) -> Option<ValueId> {
        let (_, node) = self.function.defining(value)?;
        let Op::Constant { .. } = node.op else { return None };
        let (op, ty) = (node.op.clone(), self.ty(value).clone());
        let expression = Expression { op, operands: Vec::new(), result: 0 };
        let name = self.parameters.insert_expression("constant", ty.clone(), expression);
        Some(self.function.add_parameter(&name, ty))
    }
}

/// A product of sizes.
pub(super) fn product(dims: &[Dim]) -> Result<Dim, Failure> {
    dims.iter().try_fold(Dim::Const(1), |n, d| n.checked_mul(d)).ok_or(Failure::TooLarge)
}
