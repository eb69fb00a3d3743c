//! How close a model's outputs are to another's: cosine, signal to quantization noise, largest difference, and agreement of the best
//! class (over rows of the last axis).

use qcc_passes::Progress;

use crate::Failure;
use crate::cases::Cases;
use crate::session::Session;
use crate::tensor::to_f64;
use crate::vision::best;

/// What is reported as the ratio of equal outputs, in decibels: JSON has no infinity.
const EQUAL_DB: f64 = 999.0;

/// Sums over all outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Closeness {
    product: f64,
    square: f64,
    reference_square: f64,
    error_square: f64,
    max_abs_error: f64,
    rows: usize,
    agreeing: usize,
}

impl Closeness {
    /// Counts an output whose last axis has `width` elements.
    fn add(&mut self, output: &[f64], reference: &[f64], width: usize) {
        for (&a, &b) in output.iter().zip(reference) {
            self.product += a * b;
            self.square += a * a;
            self.reference_square += b * b;
            self.error_square += (a - b) * (a - b);
            let error = (a - b).abs();
            // Not `f64::max`, which passes over NaN.
            if error > self.max_abs_error || error.is_nan() {
                self.max_abs_error = error;
            }
        }
        if width > 1 {
            let first = |row: &[f64]| {
                let row: Vec<f32> = row.iter().map(|&x| x as f32).collect();
                best(&row, 1).first().map(|(class, _)| *class)
            };
            for (a, b) in output.chunks_exact(width).zip(reference.chunks_exact(width)) {
                self.rows += 1;
                self.agreeing += usize::from(first(a) == first(b));
            }
        }
    }

    /// Cosine of the angle between the outputs; 1 where both are zero.
    pub fn cosine(&self) -> f64 {
        let norms = (self.square * self.reference_square).sqrt();
        if norms == 0.0 && self.square == self.reference_square { 1.0 } else { self.product / norms }
    }

    /// Power of the reference's outputs over power of the difference, in decibels.
    pub fn sqnr_db(&self) -> f64 {
        if self.error_square == 0.0 {
            return EQUAL_DB;
        }
        10.0 * (self.reference_square / self.error_square).log10()
    }

    /// Largest difference.
    pub fn max_abs_error(&self) -> f64 {
        self.max_abs_error
    }

    /// Share of rows whose largest element is the same, from 0 to 1; none without rows.
    pub fn top1_agreement(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.agreeing as f64 / self.rows as f64)
    }
}

/// Compares two models on cases. A language model is compared on `logits` alone, others on all outputs.
///
/// # Errors
/// When one cannot run, or their outputs differ in number or shape.
pub fn measure(
    model: &mut Session,
    reference: &mut Session,
    cases: &Cases,
    progress: &dyn Progress,
) -> Result<Closeness, Failure> {
    let names = |session: &Session| -> Vec<String> {
        let names: Vec<String> = session.entry().outputs.iter().map(|p| p.name.clone()).collect();
        if names.iter().any(|n| n == "logits") { vec!["logits".into()] } else { names }
    };
    let (ours, theirs) = (names(model), names(reference));
    if ours.len() != theirs.len() {
        return Err(Failure::input(format!(
            "the models have different outputs: {} and {}",
            ours.join(", "),
            theirs.join(", ")
        )));
    }
    let index = |session: &Session, name: &str| session.entry().outputs.iter().position(|p| p.name == name);
    let mut closeness = Closeness::default();
    for case in 0..cases.len() {
        progress.report("comparing", case, cases.len());
        for session in [&mut *model, &mut *reference] {
            let inputs = cases.inputs(case, session.entry())?;
            session.reset();
            session.run(&inputs.iter().map(|t| t.view()).collect::<Vec<_>>())?;
        }
        for (name, other) in ours.iter().zip(&theirs) {
            // By name where both have it, else in order.
            let other = if theirs.contains(name) { name } else { other };
            let (Some(a), Some(b)) = (index(model, name), index(reference, other)) else { continue };
            let ((a_shape, a_bytes), (b_shape, b_bytes)) = (model.output(a), reference.output(b));
            if a_shape != b_shape {
                return Err(Failure::input(format!(
                    "output `{name}` has shape {a_shape:?} in one model and {b_shape:?} in the other"
                )));
            }
            let output = to_f64(&model.entry().outputs[a].element, a_bytes)?;
            let expected = to_f64(&reference.entry().outputs[b].element, b_bytes)?;
            closeness.add(&output, &expected, a_shape.last().copied().unwrap_or(1) as usize);
        }
    }
    progress.report("comparing", cases.len(), cases.len());
    Ok(closeness)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_outputs_are_as_close_as_can_be() {
        let mut same = Closeness::default();
        same.add(&[1.0, -2.0, 0.5, 3.0], &[1.0, -2.0, 0.5, 3.0], 2);
        assert!((same.cosine() - 1.0).abs() < 1e-15);
        assert_eq!((same.sqnr_db(), same.max_abs_error()), (EQUAL_DB, 0.0));
        assert_eq!(same.top1_agreement(), Some(1.0));
    }

    #[test]
    fn noise_is_measured_against_the_reference() {
        let mut noisy = Closeness::default();
        noisy.add(&[11.0, 0.0], &[10.0, 0.0], 1);
        assert!((noisy.sqnr_db() - 20.0).abs() < 1e-12);
        assert_eq!((noisy.max_abs_error(), noisy.top1_agreement()), (1.0, None));
        noisy.add(&[0.0, 1.0, 2.0, 1.0], &[1.0, 0.0, 2.0, 1.0], 2);
        assert_eq!(noisy.top1_agreement(), Some(0.5));
    }

    #[test]
    fn a_nan_is_not_passed_over() {
        let mut broken = Closeness::default();
        broken.add(&[f64::NAN, 1.0], &[1.0, 1.0], 1);
        assert!(broken.cosine().is_nan() && broken.sqnr_db().is_nan() && broken.max_abs_error().is_nan());
    }
}
