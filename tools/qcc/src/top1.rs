//! Top-1 and top-5 accuracy: images are decoded on one side while the model runs on the other.

use std::sync::mpsc::sync_channel;

use qcc_data::ImageEntry;
use qcc_passes::Progress;

use crate::Failure;
use crate::vision::{ImageModel, best};

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Images whose class came first.
    pub top1: usize,
    /// Images whose class was among the first five.
    pub top5: usize,
    /// Images.
    pub images: usize,
}

impl Accuracy {
    /// Counts one image.
    fn count(&mut self, scores: &[f32], class: usize) {
        let best = best(scores, 5);
        self.images += 1;
        self.top1 += usize::from(best.first().is_some_and(|(first, _)| *first == class));
        self.top5 += usize::from(best.iter().any(|(one, _)| *one == class));
    }

    /// A number of images in percent.
    pub fn percent(&self, count: usize) -> f64 {
        100.0 * count as f64 / self.images.max(1) as f64
    }
}

/// Measures a model on labelled images; `offset` is added to each label.
///
/// # Errors
/// When an image cannot be read, the model cannot run, or a label is none of its classes.
pub fn measure(
    model: &mut ImageModel,
    entries: &[ImageEntry],
    offset: u32,
    progress: &dyn Progress,
) -> Result<Accuracy, Failure> {
    let (input, batch) = (model.input(), model.batch());
    let batches = input.batches(entries, batch)?;
    let mut accuracy = Accuracy::default();
    std::thread::scope(|scope| {
        // One batch waits while one runs and one is decoded.
        let (sender, receiver) = sync_channel(1);
        scope.spawn(move || {
            for batch in batches {
                let last = batch.is_err();
                // The other side has gone when it met an error.
                if sender.send(batch).is_err() || last {
                    break;
                }
            }
        });
        for batch in receiver {
            progress.report("classifying", accuracy.images, entries.len());
            let batch = batch?;
            let (scores, classes) = model.scores(&batch.data, batch.entries.len())?;
            for (entry, row) in batch.entries.iter().zip(scores.chunks_exact(classes)) {
                let class = entry.class.and_then(|c| c.checked_add(offset)).map(|c| c as usize);
                match class.filter(|c| *c < classes) {
                    Some(class) => accuracy.count(row, class),
                    None => {
                        return Err(Failure::input(format!(
                            "the label of `{}` plus the offset of {offset} is none of the model's {classes} classes; check the labels and `--label-offset`",
                            entry.name
                        )));
                    }
                }
            }
        }
        progress.report("classifying", entries.len(), entries.len());
        Ok(accuracy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_first_five_are_counted() {
        let mut accuracy = Accuracy::default();
        let row = [0.1, 0.9, 0.3, 0.4, 0.5, 0.6];
        for class in [1, 5, 0] {
            accuracy.count(&row, class);
        }
        assert_eq!(accuracy, Accuracy { top1: 1, top5: 2, images: 3 });
        assert!((accuracy.percent(accuracy.top5) - 66.666).abs() < 0.01);
    }
}
