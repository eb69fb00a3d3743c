//! Folders of images as labelled data sets and as batches of model input.
//!
//! Memory is bounded by one batch: a batch's images are decoded in parallel into its buffer when it is asked for.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::error::{DataError, Result};
use crate::image::RgbImage;
use crate::preprocess::{Layout, Preprocess};
use crate::read;

/// One image of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEntry {
    /// File name within the folder.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its class index, where labels were read.
    pub class: Option<u32>,
}

impl ImageEntry {
    /// An image without a label, such as one named on the command line.
    pub fn unlabelled(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        ImageEntry { name, path, class: None }
    }
}

/// The JPEG and PNG files (by extension) of a folder, sorted by name.
///
/// Errors: the folder cannot be listed or holds no image.
pub fn list(folder: &Path) -> Result<Vec<ImageEntry>> {
    let mut entries = Vec::new();
    for file in fs::read_dir(folder).map_err(DataError::reading(folder))? {
        let path = file.map_err(DataError::reading(folder))?.path();
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        if matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png")) {
            entries.push(ImageEntry::unlabelled(path));
        }
    }
    if entries.is_empty() {
        return Err(DataError::malformed(folder, "no .jpg, .jpeg or .png file in this folder"));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.path.cmp(&b.path)));
    Ok(entries)
}

/// The images that a labels file names, in its order. Each line is `image-file-name class-index`; blank lines are
/// skipped, and a name may contain spaces.
///
/// Errors: a line of another form or an image that `folder` lacks (both with the line), or no line at all.
pub fn labelled(folder: &Path, labels: &Path) -> Result<Vec<ImageEntry>> {
    let mut entries = Vec::new();
    for (number, line) in read::text(labels)?.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |reason: String| DataError::line(labels, number + 1, reason);
        let Some((name, class)) = line.rsplit_once(char::is_whitespace) else {
            return Err(wrong(format!("`{line}` has no class; write `image-file-name class-index`")));
        };
        let class = class.parse().map_err(|_| {
            wrong(format!("`{class}` is not a class index; write `image-file-name class-index`"))
        })?;
        let name = name.trim_end();
        let path = folder.join(name);
        if !path.is_file() {
            return Err(wrong(format!("{} has no image `{name}`", folder.display())));
        }
        entries.push(ImageEntry { name: name.to_string(), path, class: Some(class) });
    }
    if entries.is_empty() {
        return Err(DataError::malformed(labels, "no labels; write lines of `image-file-name class-index`"));
    }
    Ok(entries)
}

/// The calibration subset: of n entries every ⌊n/samples⌋-th, at most `samples` of them.
pub fn every_nth<T: Clone>(entries: &[T], samples: usize) -> Vec<T> {
    let step = (entries.len() / samples.max(1)).max(1);
    entries.iter().step_by(step).take(samples).cloned().collect()
}

/// What a model takes: images of this size and layout, normalised so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageInput {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Order of the axes.
    pub layout: Layout,
    /// Normalisation.
    pub preprocess: Preprocess,
}

impl ImageInput {
    /// Elements of one image.
    ///
    /// Errors: an extent of 0, or a size beyond [`crate::image::PIXEL_LIMIT`].
    pub fn elements(&self) -> Result<usize> {
        let pixels = u64::from(self.width) * u64::from(self.height);
        if pixels == 0 || pixels > crate::image::PIXEL_LIMIT {
            return Err(DataError::Request(format!(
                "an input of {} x {} pixels cannot be filled from images",
                self.width, self.height
            )));
        }
        Ok(pixels as usize * 3)
    }

    /// Reads one image as `elements()` numbers.
    pub fn read(&self, path: &Path) -> Result<Vec<f32>> {
        let mut input = vec![0.0; self.elements()?];
        self.write(&RgbImage::read(path)?, &mut input);
        Ok(input)
    }

    /// Batches of `batch` images (the last may be smaller), decoded when asked for.
    ///
    /// Errors: a batch of 0 or a size that cannot be filled.
    pub fn batches<'e>(&self, entries: &'e [ImageEntry], batch: usize) -> Result<ImageBatches<'e>> {
        if batch == 0 {
            return Err(DataError::Request("a batch of 0 images; use at least 1".to_string()));
        }
        Ok(ImageBatches { input: *self, elements: self.elements()?, rest: entries, batch })
    }

    fn write(&self, image: &RgbImage, input: &mut [f32]) {
        self.preprocess.write(image, self.width, self.height, self.layout, input);
    }
}

/// Some images as one input tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageBatch<'e> {
    /// Which images.
    pub entries: &'e [ImageEntry],
    /// Image after image, each in the input's layout (row-major `[n, 3, h, w]` or `[n, h, w, 3]`).
    pub data: Vec<f32>,
}

/// Iterator over batches; see [`ImageInput::batches`]. Ends after the first error.
#[derive(Debug)]
pub struct ImageBatches<'e> {
    input: ImageInput,
    elements: usize,
    rest: &'e [ImageEntry],
    batch: usize,
}

impl<'e> Iterator for ImageBatches<'e> {
    type Item = Result<ImageBatch<'e>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (entries, rest) = self.rest.split_at(self.batch.min(self.rest.len()));
        self.rest = rest;
        let mut data = vec![0.0; entries.len() * self.elements];
        let outcomes: Vec<Result<()>> = data
            .par_chunks_exact_mut(self.elements)
            .zip(entries)
            .map(|(input, entry)| {
                self.input.write(&RgbImage::read(&entry.path)?, input);
                Ok(())
            })
            .collect();
        // The first failing image by order, whichever thread finished first.
        if let Err(error) = outcomes.into_iter().collect::<Result<()>>() {
            self.rest = &[];
            return Some(Err(error));
        }
        Some(Ok(ImageBatch { entries, data }))
    }
}

#[cfg(test)]
mod tests;
