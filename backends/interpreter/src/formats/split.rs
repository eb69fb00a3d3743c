//! Split codes: SplitQuant (arXiv 2501.12428) as one tensor. Where the paper makes three layers whose weights have disjoint supports, a code
//! names one of three clusters and a level of it, and each cluster has a scale and a zero point. So no part has to hold a zero that is not
//! there, and the range of a part is that of its values.
//!
//! Clusters, tables and codes are computed in f64 from the values, and scales rounded to their type; what a code stands for is the
//! arithmetic of the caller: `(level − zero point) · scale`.

use qcc_ir::element::SPLIT_CLUSTERS;
use qcc_ir::ops::Rounding;
use qcc_ir::{QuantType, ScaleType, Storage};
use qcc_params::Data;

use super::clusters::clusters;
use super::tensor::{Parameters, Quantized, Scales};
use super::{FormatError, check_count, scale_indices};
use crate::real::Real;

/// A scale is at least the largest magnitude of its cluster times this, so that zero points have at most 22 bits and a level less its zero
/// point is exact in f32.
const LEAST_SCALE: f64 = 1.0 / (1 << 22) as f64;

/// The table of a group that shares one.
struct Table {
    /// What separates neighbours; infinity above the last cluster there is.
    boundaries: [f64; SPLIT_CLUSTERS - 1],
    scales: [f64; SPLIT_CLUSTERS],
    zero_points: [i32; SPLIT_CLUSTERS],
}

impl Table {
    /// The table of finite values for levels `0 ..= highest`.
    fn new<R: Real>(values: Vec<f64>, highest: i32, q: QuantType) -> Table {
        let mut table = Table {
            boundaries: [f64::INFINITY; SPLIT_CLUSTERS - 1],
            scales: [1.0; SPLIT_CLUSTERS],
            zero_points: [0; SPLIT_CLUSTERS],
        };
        let found = clusters(values, SPLIT_CLUSTERS);
        for (i, cluster) in found.iter().enumerate() {
            let step = (cluster.greatest - cluster.least) / f64::from(highest);
            let largest = cluster.least.abs().max(cluster.greatest.abs());
            let scale = R::from_f64(step.max(largest * LEAST_SCALE)).as_scale(q.scale).to_f64();
            if scale > 0.0 {
                table.scales[i] = scale;
            }
            table.zero_points[i] = (-(cluster.least / table.scales[i]).round_ties_even()).to_i32();
        }
        for (boundary, pair) in table.boundaries.iter_mut().zip(found.windows(2)) {
            *boundary = pair[0].centre.midpoint(pair[1].centre);
        }
        table
    }

    fn cluster(&self, x: f64) -> usize {
        let [low, high] = self.boundaries;
        // No value is below infinity's cluster, not even infinity.
        if x <= low || low == f64::INFINITY {
            0
        } else if x >= high && high < f64::INFINITY {
            2
        } else {
            1
        }
    }

    fn code(&self, x: f64, levels: i32, rounding: Rounding) -> i32 {
        let x = if x.is_nan() { 0.0 } else { x };
        let cluster = self.cluster(x);
        let level = (x / self.scales[cluster]).rounded(rounding) + f64::from(self.zero_points[cluster]);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "there are three clusters"
        )]
        let cluster = cluster as i32;
        cluster * levels + level.clamp(0.0, f64::from(levels - 1)).to_i32()
    }
}

/// How many levels a cluster has.
fn levels(q: QuantType) -> Result<i32, FormatError> {
    match q.storage {
        Storage::Split(bits @ 2..=8) => Ok(1 << bits),
        other => Err(FormatError::Unimplemented(other.name())),
    }
}

/// Split codes of `values` `dims` as `q` says, with a table for each group of [`scale_indices`]. NaN and infinities belong to no cluster: they
/// are coded as the nearest number there is, NaN as 0.
///
/// # Errors
/// When `q` is no split format, or the count of values is not that of the sizes.
pub(super) fn quantize_split<R: Real>(
    values: &[R],
    dims: &[usize],
    q: QuantType,
    rounding: Rounding,
) -> Result<Quantized<R>, FormatError> {
    let levels = levels(q)?;
    check_scale(q)?;
    let (indices, count) = scale_indices(dims, q.granularity)?;
    check_count("values", values.len(), indices.len())?;
    let mut groups = vec![Vec::new(); count];
    for (x, &i) in values.iter().zip(&indices) {
        let x = x.to_f64();
        if x.is_finite() {
            groups[i].push(x);
        }
    }
    let tables: Vec<Table> = groups.into_iter().map(|group| Table::new::<R>(group, levels - 1, q)).collect();
    let codes = values.iter().zip(&indices).map(|(x, &i)| tables[i].code(x.to_f64(), levels, rounding));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are below 3 · 2ⁿ")]
    let codes = if qcc_params::tensor::wide_codes(q.storage) {
        Data::U16(codes.map(|c| c as u16).collect())
    } else {
        Data::U8(codes.map(|c| c as u8).collect())
    };
    let scales = Scales::Floats(tables.iter().flat_map(|t| t.scales).map(R::from_f64).collect());
    let zero_points = tables.iter().flat_map(|t| t.zero_points).collect();
    Ok(Quantized { codes, parameters: Parameters::new(scales, Some(zero_points)) })
}

fn check_scale(q: QuantType) -> Result<(), FormatError> {
    match q.scale {
        ScaleType::F32 | ScaleType::F16 | ScaleType::BF16 => Ok(()),
        ScaleType::E4M3 | ScaleType::E8M0 => Err(FormatError::ScaleType(q.scale)),
    }
}

/// Numbers that split codes `dims` stand for; tables as [`quantize_split`] makes them.
///
/// # Errors
/// When `q` is no split format, counts disagree, or a code is not one of the format's.
pub(super) fn dequantize_split<R: Real>(
    codes: &Data,
    dims: &[usize],
    q: QuantType,
    parameters: &Parameters<R>,
) -> Result<Vec<R>, FormatError> {
    let Scales::Floats(scales) = &parameters.scales else { return Err(FormatError::ScaleType(q.scale)) };
    let zero_points = parameters.zero_points.as_deref().ok_or(FormatError::Missing("zero points"))?;
    let levels = levels(q)?;
    let codes: Vec<i32> = match codes {
        Data::U8(codes) => codes.iter().copied().map(i32::from).collect(),
        Data::U16(codes) => codes.iter().copied().map(i32::from).collect(),
        _ => return Err(FormatError::Unimplemented(format!("{} held as other elements", q.storage.name()))),
    };
    let (indices, count) = scale_indices(dims, q.granularity)?;
    check_count("codes", codes.len(), indices.len())?;
    check_count("scales", scales.len(), count * SPLIT_CLUSTERS)?;
    check_count("zero points", zero_points.len(), count * SPLIT_CLUSTERS)?;
    let value = |(&code, &i): (&i32, &usize)| {
        let cluster = usize::try_from(code / levels).ok().filter(|c| *c < SPLIT_CLUSTERS);
        let outside = FormatError::Code { code, lowest: 0, highest: 3 * levels - 1 };
        let at = i * SPLIT_CLUSTERS + cluster.ok_or(outside)?;
        Ok(R::from_i32((code % levels).saturating_sub(zero_points[at])) * scales[at])
    };
    codes.iter().zip(&indices).map(value).collect()
}
