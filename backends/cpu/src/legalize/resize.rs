//! Resizes as gathers at constant positions, one spatial axis after the other; linear ones blend two gathers. The image is built channels
//! last, so that whole pixels are copied; `channels-last` dissolves the transposes around it.

use qcc_ir::ops::{Neighbours, ResizeMode};
use qcc_ir::{Dim, ElementType, Op, ValueId};

use super::one_scale;
use super::site::{Failure, MOST_POSITIONS, Rewritten, Site, one};

/// Rewrites `resize` of images whose spatial sizes are constants.
pub(super) fn resize(site: &mut Site<'_>) -> Rewritten {
    let Op::Resize { mode, coordinates, rounding, scales, .. } = site.node.op.clone() else {
        return Ok(None);
    };
    let x = site.operand(0);
    let element = site.ty(x).element;
    let size = |dim: &Dim| dim.constant().and_then(|n| usize::try_from(n).ok());
    let constant = |dims: &[Dim]| dims.iter().map(size).collect::<Option<Vec<_>>>();
    let (Some(input), Some(output)) =
        (constant(&site.ty(x).dims[2..]), constant(&site.result_ty().dims[2..]))
    else {
        return Ok(None);
    };
    if !one_scale(site.function, x)
        || input.contains(&0)
        || output.iter().any(|n| *n > MOST_POSITIONS as usize)
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
        let blends: Vec<Neighbours> = (0..output[i])
            .map(|o| {
                let at = coordinates.source(o, input[i], output[i], scales[i].0);
                match mode {
                    ResizeMode::Linear => Neighbours::of(at, input[i]),
                    ResizeMode::Nearest => {
                        let position = rounding.position(at, input[i]);
                        Neighbours { low: position, high: position, weight: 0.0 }
                    }
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

fn blend(site: &mut Site<'_>, x: ValueId, axis: usize, blends: &[Neighbours]) -> Result<ValueId, Failure> {
    let lows: Vec<i64> = blends.iter().map(|b| b.low as i64).collect();
    let size = site.ty(x).dims[axis].constant();
    let all =
        size == i64::try_from(lows.len()).ok() && lows.iter().enumerate().all(|(i, low)| *low == i as i64);
    let low = if all { x } else { site.pick(x, axis, &lows)? };
    if blends.iter().all(|b| b.weight == 0.0) {
        return Ok(low);
    }
    let highs: Vec<i64> = blends.iter().map(|b| b.high as i64).collect();
    let high = site.pick(x, axis, &highs)?;
    let mut dims = vec![blends.len() as i64];
    dims.resize(site.rank(x) - axis, 1);
    let near = site.constant(&dims, &blends.iter().map(|b| 1.0 - b.weight).collect::<Vec<_>>())?;
    let far = site.constant(&dims, &blends.iter().map(|b| b.weight).collect::<Vec<_>>())?;
    let low = site.add(Op::Mul {}, &[low, near])?;
    let high = site.add(Op::Mul {}, &[high, far])?;
    site.add(Op::Add {}, &[low, high])
}
