//! Image models: one f32 input of three channels, classes out.

use qcc_data::{ImageInput, Layout, Preprocess};
use qcc_runtime::program::{Entry, Expr, Port};
use qcc_runtime::{InputView, Model};

use crate::Failure;
use crate::session::{ENTRY, Session, constant};

/// Images that go through a model at a time where it does not say.
const BATCH: usize = 8;
/// Height and width where the model takes any: those of ImageNet classifiers.
const SIZE: u32 = 224;

/// A compiled image classifier.
pub struct ImageModel {
    session: Session,
    input: ImageInput,
    fixed_batch: Option<usize>,
    padded: Vec<f32>,
}

impl ImageModel {
    /// The image model that `model` is.
    ///
    /// # Errors
    /// When it is none, or cannot run.
    pub fn new(model: &Model, preprocess: Preprocess, threads: usize) -> Result<ImageModel, Failure> {
        let session = Session::new(model, threads)?;
        let (input, fixed_batch) = match session.entry().inputs.as_slice() {
            [port] => image_port(port, preprocess)?,
            ports => {
                return Err(Failure::input(format!(
                    "this is no image model: it takes {} inputs, not one image",
                    ports.len()
                )));
            }
        };
        Ok(ImageModel { session, input, fixed_batch, padded: Vec::new() })
    }

    /// What images become.
    pub fn input(&self) -> ImageInput {
        self.input
    }

    /// Images it takes at a time.
    pub fn batch(&self) -> usize {
        self.fixed_batch.unwrap_or(BATCH)
    }

    /// Images it takes at a time, if that is fixed.
    pub fn fixed_batch(&self) -> Option<usize> {
        self.fixed_batch
    }

    /// The session, to measure.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Scores of `images` images, image after image, and how many each has.
    ///
    /// # Errors
    /// When the model cannot run, or gives no scores.
    pub fn scores(&mut self, data: &[f32], images: usize) -> Result<(&[f32], usize), Failure> {
        let run = self.fixed_batch.unwrap_or(images);
        let (elements, shape) = (self.input.elements()?, shape(&self.input, run));
        let data = if run > images {
            self.padded.clear();
            self.padded.extend_from_slice(data);
            self.padded.resize(run * elements, 0.0);
            &self.padded
        } else {
            data
        };
        self.session.reset();
        self.session.run(&[InputView { shape: &shape, data: bytemuck::cast_slice(data) }])?;
        if self.session.entry().outputs.is_empty() {
            return Err(Failure::input("this is no classifier: it has no output"));
        }
        let (shape, scores) = self.session.output_f32(0)?;
        if shape.first() != Some(&(run as u64)) || scores.is_empty() {
            return Err(Failure::input(format!(
                "this is no classifier: {run} images give an output of shape {shape:?}"
            )));
        }
        let classes = scores.len() / run;
        Ok((&scores[..images * classes], classes))
    }
}

/// Whether a model takes images and nothing else.
pub fn takes_images(model: &Model) -> bool {
    let image = |entry: &Entry| match entry.inputs.as_slice() {
        [port] => image_sizes(port).is_some(),
        _ => false,
    };
    model.entry(ENTRY).is_ok_and(image)
}

/// What an input port takes, if it takes images, and its batch size if that is fixed.
pub fn image_port(port: &Port, preprocess: Preprocess) -> Result<(ImageInput, Option<usize>), Failure> {
    let Some((layout, height, width)) = image_sizes(port) else {
        let dims: Vec<String> = port.dims.iter().map(dim).collect();
        return Err(Failure::input(format!(
            "this is no image model: its input `{}` is {} × {}, not f32 of batch, 3 channels, height and width",
            port.name,
            port.element,
            dims.join(" × ")
        )));
    };
    let input = ImageInput { width, height, layout, preprocess };
    input.elements()?;
    match constant(port, 0) {
        Some(0) => Err(Failure::input("this model takes 0 images at a time")),
        batch => Ok((input, batch.map(|n| n as usize))),
    }
}

/// Where channels are in the images that a port takes, their height and their width; none where it takes something else.
fn image_sizes(port: &Port) -> Option<(Layout, u32, u32)> {
    let dims: Vec<Option<u64>> = (0..port.dims.len()).map(|axis| constant(port, axis)).collect();
    let size = |d: Option<u64>| d.map_or(Some(SIZE), |d| u32::try_from(d).ok());
    match (port.element.as_str(), dims.as_slice()) {
        ("f32", &[_, Some(3), height, width]) => Some((Layout::Chw, size(height)?, size(width)?)),
        ("f32", &[_, height, width, Some(3)]) => Some((Layout::Hwc, size(height)?, size(width)?)),
        _ => None,
    }
}

fn dim(expr: &Expr) -> String {
    match expr {
        Expr::Const(n) => n.to_string(),
        _ => "?".into(),
    }
}

/// The shape of `images` images.
pub fn shape(input: &ImageInput, images: usize) -> [u64; 4] {
    let (n, h, w) = (images as u64, u64::from(input.height), u64::from(input.width));
    match input.layout {
        Layout::Chw => [n, 3, h, w],
        Layout::Hwc => [n, h, w, 3],
    }
}

/// The `k` best classes with their scores, best first; of equal ones the lower class first. NaN comes last.
pub fn best(scores: &[f32], k: usize) -> Vec<(usize, f32)> {
    let key = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| key(scores[b]).total_cmp(&key(scores[a])).then(a.cmp(&b)));
    order.truncate(k);
    order.into_iter().map(|class| (class, scores[class])).collect()
}

/// Scores as probabilities: as they are where they are some already, else their softmax.
pub fn probabilities(scores: &[f32]) -> Vec<f32> {
    let sum: f64 = scores.iter().map(|&x| f64::from(x)).sum();
    if scores.iter().all(|x| (0.0..=1.0).contains(x)) && (sum - 1.0).abs() < 1e-3 {
        return scores.to_vec();
    }
    let largest = f64::from(scores.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weights: Vec<f64> = scores.iter().map(|&x| (f64::from(x) - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|w| (w / total) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(dims: Vec<Expr>) -> Port {
        Port { name: "data".into(), element: "f32".into(), dims }
    }

    #[test]
    fn the_layout_is_told_by_the_channels() {
        let c = Expr::Const;
        let (input, batch) =
            image_port(&port(vec![Expr::Symbol(0), c(3), c(32), c(48)]), Preprocess::UNIT).expect("an image");
        assert_eq!((input.layout, input.height, input.width, batch), (Layout::Chw, 32, 48, None));
        let (input, batch) =
            image_port(&port(vec![c(2), c(32), c(48), c(3)]), Preprocess::UNIT).expect("an image");
        assert_eq!((input.layout, input.height, input.width, batch), (Layout::Hwc, 32, 48, Some(2)));
        assert!(image_port(&port(vec![c(2), c(1), c(32), c(48)]), Preprocess::UNIT).is_err());
    }

    #[test]
    fn the_best_come_first() {
        assert_eq!(best(&[1.0, f32::NAN, 3.0, 3.0], 2), [(2, 3.0), (3, 3.0)]);
        assert_eq!(best(&[1.0], 5), [(0, 1.0)]);
    }

    #[test]
    fn probabilities_stay_as_they_are() {
        assert_eq!(probabilities(&[0.25, 0.75]), [0.25, 0.75]);
        assert_eq!(probabilities(&[1000.0, 1000.0]), [0.5, 0.5]);
    }
}
