//! The two versions of each value: channels-first as the function was written, channels-last as it will run. Each is made when it is
//! first wanted, by a transpose, or by a reshape where the order of the elements is the same.

use std::collections::{HashMap, HashSet};

use qcc_ir::{Dim, Function, InferError, Op, OpId, TensorType, ValueId};
use smallvec::SmallVec;

type Operands = SmallVec<[Option<ValueId>; 4]>;

/// Versions by the value of the original function.
pub(super) struct Versions {
    first: HashMap<ValueId, ValueId>,
    last: HashMap<ValueId, ValueId>,
    /// Images whose channels are split in two axes, in the order batch, spatial, outer channels, inner channels.
    split: HashMap<ValueId, ValueId>,
    transposes: HashSet<OpId>,
}

/// Axis of the channels-first tensor that is axis `i` of the channels-last one.
pub(super) fn to_last(rank: usize) -> Vec<i64> {
    let spatial = 2..rank as i64;
    std::iter::once(0).chain(spatial).chain([1]).collect()
}

/// Axis of the channels-last tensor that is axis `i` of the channels-first one.
pub(super) fn to_first(rank: usize) -> Vec<i64> {
    let last = rank as i64 - 1;
    [0, last].into_iter().chain(1..last).collect()
}

/// Where a channels-first axis is in the channels-last tensor.
pub(super) fn axis_last(axis: i64, rank: usize) -> i64 {
    match axis {
        0 => 0,
        1 => rank as i64 - 1,
        spatial => spatial - 1,
    }
}

/// Whether both orders have the same elements in the same places: one channel, or one pixel.
pub(super) fn same_order(ty: &TensorType) -> bool {
    let one = Dim::Const(1);
    ty.dims.get(1) == Some(&one) || ty.dims.iter().skip(2).all(|d| *d == one)
}

impl Versions {
    pub(super) fn new(function: &Function) -> Versions {
        let first = function.arguments().iter().map(|&a| (a, a)).collect();
        Versions { first, last: HashMap::new(), split: HashMap::new(), transposes: HashSet::new() }
    }

    /// Whether a value has a channels-last version already.
    pub(super) fn has_last(&self, value: ValueId) -> bool {
        self.last.contains_key(&value)
    }

    /// Says which value is the channels-first version of `value`.
    pub(super) fn set_first(&mut self, value: ValueId, first: ValueId) {
        self.first.insert(value, first);
    }

    /// Says which value is the channels-last version of `value`.
    pub(super) fn set_last(&mut self, value: ValueId, last: ValueId) {
        self.last.insert(value, last);
    }

    /// The version of an image with split channels.
    pub(super) fn split(&self, value: ValueId) -> Option<ValueId> {
        self.split.get(&value).copied()
    }

    /// Says which value is the version of an image with split channels.
    pub(super) fn set_split(&mut self, value: ValueId, split: ValueId) {
        self.split.insert(value, split);
    }

    /// The channels-first version.
    pub(super) fn first(&mut self, function: &mut Function, value: ValueId) -> Result<ValueId, InferError> {
        if let Some(first) = self.first.get(&value) {
            return Ok(*first);
        }
        let ty = function.ty(value).clone();
        let first = if let Some(&split) = self.split.get(&value) {
            let rank = ty.rank() as i64;
            let permutation = [0, rank - 2, rank - 1].into_iter().chain(1..rank - 2).collect();
            self.transpose(function, split, permutation)?
        } else {
            let last = *self.last.get(&value).expect("invariant: a value met by the walk has a version");
            self.reorder(function, last, &ty, to_first(ty.rank()), ty.dims.clone())?
        };
        self.first.insert(value, first);
        Ok(first)
    }

    /// The channels-last version of a value of rank 3 or more.
    pub(super) fn last(&mut self, function: &mut Function, value: ValueId) -> Result<ValueId, InferError> {
        if let Some(last) = self.last.get(&value) {
            return Ok(*last);
        }
        let first = self.first(function, value)?;
        let ty = function.ty(value).clone();
        let permutation = to_last(ty.rank());
        let dims = permutation.iter().map(|&p| ty.dims[p as usize].clone()).collect();
        let last = self.reorder(function, first, &ty, permutation, dims)?;
        self.last.insert(value, last);
        Ok(last)
    }

    fn reorder(
        &mut self,
        function: &mut Function,
        value: ValueId,
        channels_first: &TensorType,
        permutation: Vec<i64>,
        dims: Vec<Dim>,
    ) -> Result<ValueId, InferError> {
        if same_order(channels_first) {
            let location = function.value(value).name.clone();
            return function.add_one(Op::Reshape { shape: dims }, [value], &location);
        }
        self.transpose(function, value, permutation)
    }

    fn transpose(
        &mut self,
        function: &mut Function,
        value: ValueId,
        permutation: Vec<i64>,
    ) -> Result<ValueId, InferError> {
        let location = function.value(value).name.clone();
        self.transposes.insert(OpId::new(function.node_count()));
        function.add_one(Op::Transpose { permutation }, [value], &location)
    }

    /// How many of the transposes made are still needed.
    pub(super) fn live_transposes(&self, function: &Function) -> usize {
        function.order().iter().filter(|id| self.transposes.contains(id)).count()
    }

    /// Adds `op` as the channels-last form of `id`: its first result is the channels-last version of the original's, further ones (scales)
    /// have no order of axes.
    pub(super) fn rebuild(
        &mut self,
        function: &mut Function,
        id: OpId,
        op: Op,
        operands: Operands,
    ) -> Result<(), InferError> {
        let location = function.node(id).location.clone();
        let new = OpId::new(function.node_count());
        let results = function.add(op, operands, &location)?;
        function.node_mut(new).annotations = function.node(id).annotations.clone();
        let old = function.node(id).results.clone();
        self.set_last(old[0], results[0]);
        for (old, new) in old.iter().zip(&results).skip(1) {
            self.set_first(*old, *new);
        }
        Ok(())
    }
}
