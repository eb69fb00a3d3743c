//! Merging axes: adjacent axes that every operand walks with one stride become one axis, so kernels see few axes and long rows.

use qcc_ir::Dim;

use super::LowerError;

/// Axes of an iteration space with the strides of several operands along each.
#[derive(Clone, Debug)]
pub(crate) struct Axes {
    pub dims: Vec<Dim>,
    /// Per operand, one stride an axis, in elements.
    pub strides: Vec<Vec<Dim>>,
}

/// Row-major strides.
pub(crate) fn contiguous(dims: &[Dim]) -> Result<Vec<Dim>, LowerError> {
    let mut strides = vec![Dim::Const(1); dims.len()];
    for i in (0..dims.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1].checked_mul(&dims[i + 1]).ok_or_else(LowerError::too_large)?;
    }
    Ok(strides)
}

impl Axes {
    /// The same space with axes of size 1 dropped and adjacent axes merged; at least one axis stays.
    pub(crate) fn merged(&self) -> Result<Axes, LowerError> {
        let operands = self.strides.len();
        let mut dims: Vec<Dim> = Vec::new();
        let mut strides: Vec<Vec<Dim>> = vec![Vec::new(); operands];
        for i in (0..self.dims.len()).rev().filter(|&i| self.dims[i] != Dim::Const(1)) {
            // Axes are collected innermost first; the last collected one is the candidate to merge into.
            let joins = match dims.last() {
                None => false,
                Some(inner) => {
                    let mut all = true;
                    for (s, own) in strides.iter().zip(&self.strides) {
                        let next = s[s.len() - 1].checked_mul(inner).ok_or_else(LowerError::too_large)?;
                        all &= next == own[i];
                    }
                    all
                }
            };
            if joins {
                let last = dims.len() - 1;
                dims[last] = dims[last].checked_mul(&self.dims[i]).ok_or_else(LowerError::too_large)?;
            } else {
                dims.push(self.dims[i].clone());
                for (s, own) in strides.iter_mut().zip(&self.strides) {
                    s.push(own[i].clone());
                }
            }
        }
        if dims.is_empty() {
            dims.push(Dim::Const(1));
            strides.iter_mut().for_each(|s| s.push(Dim::Const(1)));
        }
        dims.reverse();
        strides.iter_mut().for_each(|s| s.reverse());
        Ok(Axes { dims, strides })
    }
}

/// Strides of an operand of `dims` when it broadcasts to a result of rank `rank`: 0 along axes it lacks or has with size 1.
pub(crate) fn broadcast(dims: &[Dim], rank: usize) -> Result<Vec<Dim>, LowerError> {
    let own = contiguous(dims)?;
    let missing = rank - dims.len();
    Ok((0..rank)
        .map(|i| match i.checked_sub(missing) {
            Some(j) if dims[j] != Dim::Const(1) => own[j].clone(),
            _ => Dim::Const(0),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dims(sizes: &[i64]) -> Vec<Dim> {
        sizes.iter().map(|&n| Dim::Const(n)).collect()
    }

    #[test]
    fn contiguous_operands_merge_to_one_axis() {
        let shape = vec![Dim::symbol("B"), Dim::Const(3), Dim::Const(1), Dim::Const(5)];
        let own = contiguous(&shape).expect("small");
        let axes = Axes { dims: shape, strides: vec![own.clone(), own] }.merged().expect("small");
        assert_eq!(axes.dims, [Dim::parse("15*B").expect("valid")]);
        assert_eq!(axes.strides, [dims(&[1]), dims(&[1])]);
    }

    #[test]
    fn a_broadcast_axis_stays_apart() {
        let shape = dims(&[2, 3, 4]);
        let axes = Axes {
            strides: vec![contiguous(&shape).expect("small"), broadcast(&dims(&[4]), 3).expect("small")],
            dims: shape,
        };
        let merged = axes.merged().expect("small");
        assert_eq!(merged.dims, dims(&[6, 4]));
        assert_eq!(merged.strides[1], dims(&[0, 1]));
    }
}
