//! `H`: second moments of what layers read, over the calibration samples, in f64.

use faer::linalg::matmul::matmul;
use faer::reborrow::ReborrowMut;
use faer::{Accum, Mat, Par};
use qcc_interpreter::patches;
use qcc_ir::ops::ImageLayout;
use qcc_ir::{Function, Module, Op, ValueId};
use qcc_params::{Parameters, Tensor};
use rayon::prelude::*;

use crate::observe::Walk;
use crate::pass::PassError;

/// Columns of moments that are added to together.
const COLUMNS: usize = 128;

/// `2 · mean(xᵀ x)` over rows `x` of an activation.
#[derive(Clone, Debug)]
pub(crate) struct Gram {
    /// `[width, width]`.
    pub matrix: Mat<f64>,
    /// Rows seen.
    pub rows: usize,
}

impl Gram {
    pub(crate) fn new(width: usize) -> Gram {
        Gram { matrix: Mat::zeros(width, width), rows: 0 }
    }

    /// Takes in rows, each as wide as the matrix.
    pub(crate) fn see(&mut self, values: &[f32]) {
        let width = self.matrix.nrows();
        let count = values.len() / width.max(1);
        if count == 0 {
            return;
        }
        let x = Mat::from_fn(count, width, |row, column| f64::from(values[row * width + column]));
        #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
        let (before, after) = (self.rows as f64, (self.rows + count) as f64);
        let share = before / after;
        // The lower half, a few columns each; what they are does not depend on the number of threads.
        let (mut chunks, mut rest) = (Vec::new(), self.matrix.as_mut());
        while rest.ncols() > 0 {
            let most = COLUMNS.min(rest.ncols());
            let (columns, others) = rest.split_at_col_mut(most);
            chunks.push(columns);
            rest = others;
        }
        chunks.into_par_iter().enumerate().for_each(|(chunk, columns)| {
            let first = chunk * COLUMNS;
            let own = x.subcols(first, columns.ncols());
            let below = x.subcols(first, width - first);
            let mut lower = columns.subrows_mut(first, width - first);
            lower.rb_mut().col_iter_mut().flat_map(|column| column.iter_mut()).for_each(|h| *h *= share);
            matmul(lower, Accum::Add, below.transpose(), own, 2.0 / after, Par::Seq);
        });
        for first in (0..width).step_by(COLUMNS) {
            for column in first + COLUMNS..width {
                for row in first..first + COLUMNS {
                    self.matrix[(row, column)] = self.matrix[(column, row)];
                }
            }
        }
        self.rows += count;
    }
}

/// Something that layers read, as the rows that their weights are multiplied with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Read {
    /// The activation.
    pub value: ValueId,
    /// How a convolution reads it; the last axis as it is otherwise.
    pub window: Option<Window>,
}

/// The geometry of a convolution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Window {
    /// Sizes of the weight.
    weight: Vec<usize>,
    strides: Vec<i64>,
    pads: Vec<i64>,
    dilations: Vec<i64>,
    groups: usize,
    layout: ImageLayout,
}

impl Read {
    /// What an operation with a weight of these sizes reads from `value`; none where it is neither linear nor a convolution.
    pub fn of(op: &Op, value: ValueId, weight: &[usize]) -> Option<Read> {
        let window = match op {
            Op::Linear {} => None,
            Op::Conv { strides, pads, dilations, groups, layout } => Some(Window {
                weight: weight.to_vec(),
                strides: strides.clone(),
                pads: pads.clone(),
                dilations: dilations.clone(),
                groups: usize::try_from(*groups).ok()?,
                layout: *layout,
            }),
            _ => return None,
        };
        Some(Read { value, window })
    }

    /// What its moments take.
    pub fn bytes(&self, function: &Function) -> u64 {
        let (groups, width) = self.size(function);
        let width = width as u64;
        width.saturating_mul(width).saturating_mul(8).saturating_mul(groups as u64)
    }

    /// Groups, and columns of each.
    fn size(&self, function: &Function) -> (usize, usize) {
        match &self.window {
            Some(window) => (window.groups, window.weight.iter().skip(1).product()),
            None => {
                let last = function.ty(self.value).dims.last().and_then(qcc_ir::Dim::constant);
                (1, last.and_then(|n| usize::try_from(n).ok()).unwrap_or(1))
            }
        }
    }

    /// Moments of nothing yet, one for each group of a convolution.
    fn start(&self, function: &Function) -> Vec<Gram> {
        let (groups, width) = self.size(function);
        vec![Gram::new(width); groups]
    }

    /// Takes in what was read of a sample.
    fn see(&self, grams: &mut [Gram], x: &Tensor) -> Result<(), String> {
        let values = &*x.to_f32_vec();
        let Some(Window { weight, strides, pads, dilations, groups, layout }) = &self.window else {
            grams.iter_mut().for_each(|gram| gram.see(values));
            return Ok(());
        };
        let window = [strides.as_slice(), pads, dilations];
        let see = |group: usize, rows: &[f32]| grams[group].see(rows);
        patches(values, &x.dims, weight, window, *groups, *layout, see).map_err(|e| e.to_string())
    }
}

/// What looks at moments, in words.
pub(crate) const NEEDS: &str = "rounding by what layers read needs data";

/// Bytes of moments that are measured together, if one alone does not take more.
const BATCH: u64 = 256 << 20;

/// How many of these, from the first on, are measured together; each counts once.
pub(crate) fn batch(function: &Function, reads: &[Read]) -> usize {
    let mut bytes: u64 = 0;
    let together = reads.iter().enumerate().take_while(|(i, read)| {
        let seen = reads[..*i].contains(read);
        bytes = bytes.saturating_add(if seen { 0 } else { read.bytes(function) });
        *i == 0 || bytes <= BATCH
    });
    together.count()
}

/// Each of these once, in order.
pub(crate) fn distinct(reads: &[Read]) -> Vec<Read> {
    let mut distinct: Vec<Read> = Vec::new();
    for read in reads {
        if !distinct.contains(read) {
            distinct.push(read.clone());
        }
    }
    distinct
}

/// The moments of what layers of the entry function read, one for each group, and a step of the walk to these layers.
///
/// # Errors
/// When the module does not run, or an activation is not finite.
pub(crate) fn moments(
    pass: &'static str,
    walk: &mut Walk<'_>,
    module: &Module,
    parameters: &Parameters,
    reads: &[Read],
    later: &[ValueId],
) -> Result<Vec<Vec<Gram>>, PassError> {
    let function = &module.functions[0];
    let mut all: Vec<Vec<Gram>> = reads.iter().map(|read| read.start(function)).collect();
    let values: Vec<ValueId> = reads.iter().map(|read| read.value).collect();
    let mut infinite = None;
    walk.advance(module, parameters, &values, &values, later, |tensors| {
        infinite = tensors.iter().position(|tensor| !tensor.to_f32_vec().iter().all(|x| x.is_finite()));
        if infinite.is_some() {
            return Err("an activation is not finite".into());
        }
        all.par_iter_mut()
            .zip(reads.par_iter().zip(tensors))
            .try_for_each(|(grams, (read, x))| read.see(grams, x))
    })
    .map_err(|e| match infinite {
        Some(at) => {
            let what = "the calibration samples give NaN or infinite activations here";
            PassError::at(pass, &function.value(reads[at].value).name, what)
        }
        None => e,
    })?;
    Ok(all)
}
