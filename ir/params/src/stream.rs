//! Evaluation of many weights: in parallel, delivered in the order asked for, in bounded memory.
//!
//! Weights are taken in windows: as many in a row as together need at most [`WINDOW`] bytes more than the largest of them, one at least. A
//! window is evaluated in parallel while the one before is delivered. Windows follow from sizes alone, so neither results nor their order
//! depend on the number of threads.

use std::ops::Range;
use std::sync::Arc;

use qcc_ir::Str;
use rayon::prelude::*;

use crate::parameters::{OpEvaluator, ParameterError, Parameters};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// What a window may hold beside the largest evaluation.
const WINDOW: u64 = 512 << 20;

impl Parameters {
    /// Evaluates groups of parameters, what a group shares once. `make` turns a group's values into what is kept of them, in parallel;
    /// `sink` gets that, in the order of the groups. Both are told the group's index.
    ///
    /// # Errors
    /// Of the first group, in order, that cannot be evaluated or made, before `sink` saw it; or what `sink` fails with.
    pub fn stream<T: Send, E: From<ParameterError> + Send>(
        &self,
        groups: &[Vec<Str>],
        evaluator: &dyn OpEvaluator,
        make: impl Fn(usize, &[Arc<Tensor>]) -> Result<T, E> + Sync,
        mut sink: impl FnMut(usize, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let plans = groups.iter().map(|group| Plan::new(self, group)).collect::<Result<Vec<_>, _>>()?;
        let make_all = |window: Range<usize>| -> Vec<Result<T, E>> {
            window.into_par_iter().map(|i| make(i, &self.evaluate_plan(&plans[i], evaluator)?)).collect()
        };
        let peaks: Vec<u64> = plans.iter().map(|plan| plan.peak_bytes(evaluator)).collect();
        let mut made = (0, Vec::new());
        for window in windows(&peaks, WINDOW).into_iter().map(Some).chain([None]) {
            let mut next = (0, Vec::new());
            rayon::in_place_scope(|scope| {
                if let Some(window) = window {
                    scope.spawn(|_| next = (window.start, make_all(window)));
                }
                let (start, made) = std::mem::take(&mut made);
                made.into_iter().enumerate().try_for_each(|(i, made)| sink(start + i, made?))
            })?;
            made = next;
        }
        Ok(())
    }
}

fn windows(peaks: &[u64], beside: u64) -> Vec<Range<usize>> {
    let budget = peaks.iter().max().map_or(0, |largest| largest.saturating_add(beside));
    let (mut windows, mut start, mut held) = (Vec::new(), 0, 0u64);
    for (i, peak) in peaks.iter().enumerate() {
        held = held.saturating_add(*peak);
        if held > budget {
            windows.push(start..i);
            (start, held) = (i, *peak);
        }
    }
    windows.push(start..peaks.len());
    windows
}

#[cfg(test)]
mod tests {
    use super::windows;

    #[test]
    fn windows_cover_all_and_hold_so_much_beside_the_largest() {
        let ends = |peaks: &[u64]| windows(peaks, 30).into_iter().map(|w| w.end).collect::<Vec<_>>();
        assert_eq!(ends(&[]), [0]);
        assert_eq!(ends(&[10, 10, 10, 10, 10]), [4, 5]);
        assert_eq!(ends(&[1, 1, 40, 1, 39, 90]), [5, 6]);
        assert_eq!(ends(&[0, 0]), [2]);
        assert_eq!(ends(&[u64::MAX, 1]), [2]);
    }
}
