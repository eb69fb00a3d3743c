//! Edits of a function, in the manner of tract's `ModelPatch`: build new operations beside the old ones, say which old value each new one
//! replaces, and apply all of it at once. A redirect that would change a type is refused, so a patch cannot break the function.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::entity::ValueId;
use crate::function::Function;
use crate::infer::InferError;
use crate::ops::Op;

/// A set of new operations and redirections. Values made by [`Patch::add`] live in the function at once but are dead until applied.
#[derive(Debug, Default)]
pub struct Patch {
    redirects: Vec<(ValueId, ValueId)>,
    /// Operations from this index on belong to the patch: their operands mean what they say and are not redirected.
    first_new: Option<usize>,
}

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The types differ.
    #[error("a patch replaces `{name}` of type {old} by a value of type {new}; a rewrite must keep the type")]
    TypeChanged {
        /// Source of the replaced value.
        name: String,
        /// Its type.
        old: String,
        /// The replacement's type.
        new: String,
    },
}

impl Patch {
    /// An empty patch.
    pub fn new() -> Patch {
        Patch::default()
    }

    /// Adds an operation with one result.
    ///
    /// # Errors
    /// When the operands do not fit the operation.
    pub fn add(
        &mut self,
        function: &mut Function,
        op: Op,
        operands: impl IntoIterator<Item = impl Into<Option<ValueId>>>,
        location: &str,
    ) -> Result<ValueId, InferError> {
        self.first_new.get_or_insert(function.node_count());
        function.add_one(op, operands, location)
    }

    /// Adds an operation with any number of results.
    ///
    /// # Errors
    /// When the operands do not fit the operation.
    pub fn add_all(
        &mut self,
        function: &mut Function,
        op: Op,
        operands: impl IntoIterator<Item = impl Into<Option<ValueId>>>,
        location: &str,
    ) -> Result<SmallVec<[ValueId; 2]>, InferError> {
        self.first_new.get_or_insert(function.node_count());
        function.add(op, operands, location)
    }

    /// Says that `new` replaces `old` everywhere.
    pub fn redirect(&mut self, old: ValueId, new: ValueId) {
        self.redirects.push((old, new));
    }

    /// Applies all redirections, removes what died, restores the order. Returns how many values were redirected.
    ///
    /// # Errors
    /// When a replacement has another type; the function is then unchanged but for dead operations.
    pub fn apply(self, function: &mut Function) -> Result<usize, PatchError> {
        for &(old, new) in &self.redirects {
            let (a, b) = (function.ty(old), function.ty(new));
            if a.dims != b.dims || a.element != b.element {
                return Err(PatchError::TypeChanged {
                    name: function.value(old).name.to_string(),
                    old: format!("{a:?}"),
                    new: format!("{b:?}"),
                });
            }
        }
        let first_new = self.first_new.unwrap_or(function.node_count());
        let map: HashMap<ValueId, ValueId> = self.redirects.iter().copied().collect();
        function.redirect(&map, first_new);
        function.sort();
        function.remove_dead();
        Ok(self.redirects.len())
    }
}
