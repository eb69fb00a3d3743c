//! Large weights in pieces of rows, where every step of a plan leaves rows apart: what lies between the file and the result stays in the
//! processor's caches, and the pieces of one weight are evaluated in parallel. Results do not depend on it.

use std::sync::Arc;

use rayon::prelude::*;

use super::{Plan, bytes};
use crate::parameters::{OpEvaluator, ParameterError, Source};
use crate::tensor::Tensor;

/// Elements of a piece, about.
const PIECE: usize = 1 << 18;

impl Plan<'_> {
    /// The values of the parameters, in the order of the names.
    ///
    /// # Errors
    /// When bytes do not fit their type or an operation fails.
    pub(crate) fn run_in_pieces(
        &self,
        evaluator: &dyn OpEvaluator,
    ) -> Result<Vec<Arc<Tensor>>, ParameterError> {
        let Some((all, of_piece)) = self.rows(evaluator) else { return self.run(evaluator, None) };
        let pieces: Vec<_> =
            (0..all).step_by(of_piece).map(|start| start..all.min(start + of_piece)).collect();
        let values: Vec<_> =
            pieces.par_iter().map(|rows| self.run(evaluator, Some(rows))).collect::<Result<_, _>>()?;
        let whole = |i: usize| Arc::new(Tensor::joined(values.iter().map(|piece| &*piece[i])));
        Ok((0..self.names.len()).map(whole).collect())
    }

    /// All rows, and the rows of a piece, if the weights are more than one.
    pub(super) fn rows(&self, evaluator: &dyn OpEvaluator) -> Option<(usize, usize)> {
        let first = self.steps.first()?.types.first()?;
        let size = first.dims.first()?;
        let rows = usize::try_from(size.constant()?).ok()?;
        let elements = usize::try_from(first.elements()?.constant()?).ok()?;
        let of_piece = rows.checked_mul(PIECE)?.checked_div(elements)?.max(1);
        let from_file = |name: &str| match self.parameters.source(name) {
            Some(Source::Bytes(stored)) => self.parameters.ty(name).is_some_and(|ty| {
                ty.dims.first() == Some(size) && bytes(ty) == stored.as_slice().len() as u64
            }),
            _ => false,
        };
        let apart = self.steps.iter().all(|step| {
            evaluator.is_row_wise(&step.expression.op)
                && step.types.iter().all(|ty| ty.dims.first() == Some(size))
                && step
                    .expression
                    .operands
                    .iter()
                    .flatten()
                    .all(|o| self.step_of(o).is_some() || from_file(o))
        });
        let computed = self.names.iter().all(|name| self.step_of(name).is_some());
        (of_piece < rows && apart && computed).then_some((rows, of_piece))
    }
}
