//! Evaluation of many weights: in parallel, delivered in the order asked for, in bounded memory.
//!
//! Weights are taken in windows: as many in a row as together hold at most four times what the largest of them needs, one at least. A window
//! is evaluated in parallel, then delivered. Windows follow from sizes alone, so neither results nor their order depend on the number of
//! threads.

use std::ops::Range;
use std::sync::Arc;

use qcc_ir::Str;
use rayon::prelude::*;

use crate::cache::WeightCache;
use crate::parameters::{OpEvaluator, ParameterError, Parameters};
use crate::plan::{Plan, same_operation};
use crate::tensor::Tensor;

/// What a window may hold, in evaluations as large as the largest.
const WINDOW: u64 = 4;

impl Parameters {
    /// Evaluates `names` and gives each to `sink`, in their order. Neighbours that are results of one operation (codes and their scales)
    /// are computed together. What `cache` has is not computed.
    ///
    /// # Errors
    /// Of the first parameter, in order, that cannot be evaluated, before `sink` saw it; or what `sink` fails with.
    pub fn evaluate_in_order<E: From<ParameterError>>(
        &self,
        names: &[Str],
        evaluator: &dyn OpEvaluator,
        cache: Option<&WeightCache>,
        mut sink: impl FnMut(&Str, Arc<Tensor>) -> Result<(), E>,
    ) -> Result<(), E> {
        let groups = names.chunk_by(|a, b| same_operation(self, a, b));
        let mut plans = Vec::new();
        for group in groups {
            let plan = Plan::new(self, group)?;
            let peak = plan.peak_bytes();
            plans.push((group, plan, peak));
        }
        for window in windows(&plans.iter().map(|(_, _, peak)| *peak).collect::<Vec<_>>()) {
            let values: Vec<_> = plans[window.clone()]
                .par_iter()
                .map(|(group, plan, _)| match cache {
                    Some(cache) => cache.run(self, group, plan, evaluator),
                    None => plan.run(evaluator),
                })
                .collect();
            for ((group, _, _), values) in plans[window].iter().zip(values) {
                for (name, value) in group.iter().zip(values?) {
                    sink(name, value)?;
                }
            }
        }
        Ok(())
    }
}

fn windows(peaks: &[u64]) -> Vec<Range<usize>> {
    let budget = peaks.iter().max().map_or(0, |largest| largest.saturating_mul(WINDOW));
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
    fn windows_cover_all_and_hold_four_of_the_largest() {
        let ends = |peaks: &[u64]| windows(peaks).into_iter().map(|w| w.end).collect::<Vec<_>>();
        assert_eq!(ends(&[]), [0]);
        assert_eq!(ends(&[10, 10, 10, 10, 10]), [4, 5]);
        assert_eq!(ends(&[1, 1, 40, 1, 39, 90]), [6]);
        assert_eq!(ends(&[0, 0]), [2]);
        assert_eq!(ends(&[u64::MAX, 1]), [2]);
    }
}
