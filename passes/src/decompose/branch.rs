//! What an operation is in the sum that a layer was decomposed into.

use qcc_ir::attribute::Field;
use qcc_ir::{Function, Node, ValueId, keyword_enum};

/// The annotation, `qcc.branch` in IR text.
const ANNOTATION: &str = "branch";

keyword_enum! {
    /// What an operation is in the sum that a layer was decomposed into.
    Branch {
        /// The cluster of the lowest values of a weight.
        Low = "low",
        /// The cluster in the middle.
        Middle = "middle",
        /// The cluster of the highest values.
        High = "high",
        /// A factor of a weight's part of low rank; keeps floats.
        LowRank = "low_rank",
        /// The features with outliers; keeps floats.
        Outliers = "outliers",
        /// What is left of the layer beside a branch that keeps floats.
        Rest = "rest",
    }
}

impl Branch {
    /// The branch that an operation is, if it is one.
    pub fn of(node: &Node) -> Option<Branch> {
        node.annotations.get(ANNOTATION).and_then(Branch::from_attribute)
    }

    /// Whether the branch keeps floats, whatever format the layer gets.
    pub fn keeps_floats(self) -> bool {
        matches!(self, Branch::LowRank | Branch::Outliers)
    }

    /// Whether the branch stands for the layer where each layer counts once: every sum has one such branch.
    pub fn is_first(self) -> bool {
        matches!(self, Branch::Low | Branch::Rest)
    }

    /// Marks the operation that defines a value.
    pub(super) fn mark(self, function: &mut Function, value: ValueId) {
        if let Some((id, _)) = function.defining(value) {
            function.node_mut(id).annotations.insert(ANNOTATION.to_string(), self.to_attribute());
        }
    }
}
