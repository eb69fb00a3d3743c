//! The scans and causal convolutions of a function.

use qcc_ir::{Function, Op, OpId, Str, ValueId};

/// An operation with a state.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// The operation.
    pub op: OpId,
    /// Its source in the model.
    pub name: Str,
}

impl Site {
    /// The `slot`-th operand; every operand but a convolution's bias is there.
    pub fn operand(&self, function: &Function, slot: usize) -> Option<ValueId> {
        function.node(self.op).operands.get(slot).copied().flatten()
    }

    /// The size of the `from_last`-th axis from the end of an operand.
    pub fn size(&self, function: &Function, slot: usize, from_last: usize) -> Option<usize> {
        let dims = &function.ty(self.operand(function, slot)?).dims;
        usize::try_from(dims.get(dims.len().checked_sub(from_last)?)?.constant()?).ok()
    }
}

/// All selective scans.
pub(super) fn scans(function: &Function) -> Vec<Site> {
    all(function, |op| matches!(op, Op::SelectiveScan {}))
}

/// All causal convolutions.
pub(super) fn windows(function: &Function) -> Vec<Site> {
    all(function, |op| matches!(op, Op::CausalConv {}))
}

fn all(function: &Function, is: impl Fn(&Op) -> bool) -> Vec<Site> {
    let site = |id: &OpId| Site { op: *id, name: function.node(*id).location.clone() };
    function.order().iter().filter(|id| is(&function.node(**id).op)).map(site).collect()
}
