//! Resizes as gathers at constant positions, one spatial axis after the other; linear ones blend two gathers. The image is built channels
//! last, so that whole pixels are copied; `channels-last` dissolves the transposes around it.

use qcc_ir::ops::{CoordinateTransform, NearestRounding, ResizeMode};
use qcc_ir::{Dim, ElementType, Op, ValueId};

use super::one_scale;
use super::site::{Failure, MOST_POSITIONS, Rewritten, Site, one};

/// What a result position reads: two neighbours and the weight of the second. Nearest neighbours have weight 0.
#[derive(Clone, Copy)]
struct Blend {
    low: i64,
    high: i64,
    weight: f64,
}

/// Rewrites `resize` of images whose spatial sizes are constants.
pub(super) fn resize(site: &mut Site<'_>) -> Rewritten {
    let Op::Resize { mode, coordinates, rounding, scales, .. } = site.node.op.clone() else {
        return Ok(None);
    };
    let x = site.operand(0);
    let element = site.ty(x).element;
    let constant = |dims: &[Dim]| dims.iter().map(Dim::constant).collect::<Option<Vec<_>>>();
    let (Some(input), Some(output)) =
        (constant(&site.ty(x).dims[2..]), constant(&site.result_ty().dims[2..]))
    else {
        return Ok(None);
    };
    if !one_scale(site.function, x)
        || input.contains(&0)
        || output.iter().any(|n| *n > MOST_POSITIONS)
        || (mode == ResizeMode::Linear && !element.is_float())
    {
        return Ok(None);
    }
    let mut y = site.channels_last(x)?;
    if mode == ResizeMode::Linear {
        y = site.cast(y, ElementType::F32)?;
    }
    // The last axis first: where images grow, its small pieces are copied while there are few of them.
    for i in (0..input.len()).rev() {
        let blends: Vec<Blend> = (0..output[i])
            .map(|o| {
                let at = coordinate(coordinates, o, input[i], output[i], scales[i].0);
                match mode {
                    ResizeMode::Nearest => nearest(at, rounding, input[i]),
                    ResizeMode::Linear => linear(at, input[i]),
                }
            })
            .collect();
        y = blend(site, y, 1 + i, &blends)?;
    }
    if mode == ResizeMode::Linear {
        y = site.cast(y, element)?;
    }
    one(site.channels_first(y)?)
}

/// The source coordinate that result position `o` reads, by the interpreter's rules.
#[allow(clippy::cast_precision_loss, reason = "image sizes are exact in f64")]
fn coordinate(rule: CoordinateTransform, o: i64, input: i64, output: i64, scale: f64) -> f64 {
    let o = o as f64;
    match rule {
        CoordinateTransform::HalfPixel => (o + 0.5) / scale - 0.5,
        CoordinateTransform::PytorchHalfPixel if output > 1 => (o + 0.5) / scale - 0.5,
        CoordinateTransform::AlignCorners if output > 1 => o * (input as f64 - 1.0) / (output as f64 - 1.0),
        CoordinateTransform::PytorchHalfPixel | CoordinateTransform::AlignCorners => 0.0,
        CoordinateTransform::Asymmetric => o / scale,
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the position is clamped to the axis first"
)]
fn nearest(x: f64, rounding: NearestRounding, input: i64) -> Blend {
    let rounded = match rounding {
        NearestRounding::RoundPreferFloor => (x - 0.5).ceil(),
        NearestRounding::RoundPreferCeil => (x + 0.5).floor(),
        NearestRounding::Floor => x.floor(),
        NearestRounding::Ceil => x.ceil(),
    };
    let at = rounded.clamp(0.0, (input - 1) as f64) as i64;
    Blend { low: at, high: at, weight: 0.0 }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the coordinate is clamped to the axis first"
)]
fn linear(x: f64, input: i64) -> Blend {
    let x = x.clamp(0.0, (input - 1) as f64);
    let (low, weight) = (x.floor() as i64, x - x.floor());
    // A neighbour with weight 0 is not read.
    let high = if weight == 0.0 { low } else { (low + 1).min(input - 1) };
    Blend { low, high, weight }
}

fn blend(site: &mut Site<'_>, x: ValueId, axis: usize, blends: &[Blend]) -> Result<ValueId, Failure> {
    let lows: Vec<i64> = blends.iter().map(|b| b.low).collect();
    let size = site.ty(x).dims[axis].constant();
    let all =
        size == i64::try_from(lows.len()).ok() && lows.iter().enumerate().all(|(i, low)| *low == i as i64);
    let low = if all { x } else { site.pick(x, axis, &lows)? };
    if blends.iter().all(|b| b.weight == 0.0) {
        return Ok(low);
    }
    let highs: Vec<i64> = blends.iter().map(|b| b.high).collect();
    let high = site.pick(x, axis, &highs)?;
    let mut dims = vec![blends.len() as i64];
    dims.resize(site.rank(x) - axis, 1);
    let near = site.constant(&dims, &blends.iter().map(|b| 1.0 - b.weight).collect::<Vec<_>>())?;
    let far = site.constant(&dims, &blends.iter().map(|b| b.weight).collect::<Vec<_>>())?;
    let low = site.add(Op::Mul {}, &[low, near])?;
    let high = site.add(Op::Mul {}, &[high, far])?;
    site.add(Op::Add {}, &[low, high])
}
