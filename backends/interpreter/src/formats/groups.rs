//! Which elements of a tensor share a scale.

use std::ops::Range;

use qcc_ir::Granularity;

use super::FormatError;

/// The groups of a tensor's elements, row-major. Neighbours that share a scale are a run; each row of so many elements begins with one.
#[derive(Clone, Debug)]
pub struct Groups {
    elements: usize,
    count: usize,
    /// Elements of a row, and of a run in it.
    row: usize,
    run: usize,
    /// Blocks along an axis that is not the last: size of the axis, elements of a block along it, elements of a step along it.
    strided: Option<(usize, usize, usize)>,
}

impl Groups {
    /// The groups of a tensor `dims`.
    ///
    /// # Errors
    /// When the granularity names an axis the tensor does not have.
    pub fn new(dims: &[usize], granularity: Granularity) -> Result<Groups, FormatError> {
        let elements: usize = dims.iter().product();
        let split = |axis: u8| {
            let a = usize::from(axis);
            match dims.get(a) {
                Some(&size) => Ok((size, dims[a + 1..].iter().product::<usize>().max(1))),
                None => Err(FormatError::Axis { axis, rank: dims.len() }),
            }
        };
        let groups = |count, row, run| Groups { elements, count, row, run, strided: None };
        Ok(match granularity {
            Granularity::Tensor => groups(1, elements.max(1), elements.max(1)),
            Granularity::Channel { axis } => {
                let (size, inner) = split(axis)?;
                groups(size, inner, inner)
            }
            Granularity::Token => {
                let row = dims.last().copied().unwrap_or(1).max(1);
                groups(dims[..dims.len().saturating_sub(1)].iter().product(), row, row)
            }
            Granularity::Block { axis, block } => {
                let (size, inner) = split(axis)?;
                let block = usize::try_from(block.max(1)).unwrap_or(usize::MAX);
                let outer: usize = dims[..usize::from(axis)].iter().product();
                let inners: usize = dims[usize::from(axis) + 1..].iter().product();
                let count = outer * size.div_ceil(block) * inners;
                match inner {
                    1 => groups(count, size.max(1), block),
                    _ => Groups { strided: Some((size, block, inner)), ..groups(count, 1, 1) },
                }
            }
        })
    }

    /// Number of groups.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// The group of an element.
    pub fn of(&self, at: usize) -> usize {
        if let Some((size, block, inner)) = self.strided {
            let (outer, along) = (at / inner / size, at / inner % size);
            return (outer * size.div_ceil(block) + along / block) * inner + at % inner;
        }
        (at / self.row * self.row.div_ceil(self.run) + at % self.row / self.run) % self.count
    }

    /// The runs, in order, each with its group.
    pub fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> + '_ {
        let (mut start, mut column, mut next) = (0, 0, 0);
        std::iter::from_fn(move || {
            if start >= self.elements {
                return None;
            }
            let run = start..start + self.run.min(self.row - column);
            column = if column + run.len() < self.row { column + run.len() } else { 0 };
            start = run.end;
            let group = if self.strided.is_some() { self.of(run.start) } else { next };
            next = if group + 1 < self.count { group + 1 } else { 0 };
            Some((group, run))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_all_elements_in_order_with_their_groups() {
        let granularities = [
            Granularity::Tensor,
            Granularity::Token,
            Granularity::Channel { axis: 0 },
            Granularity::Channel { axis: 1 },
            Granularity::Block { axis: 2, block: 4 },
            Granularity::Block { axis: 1, block: 2 },
            Granularity::Block { axis: 0, block: 8 },
        ];
        for granularity in granularities {
            let groups = Groups::new(&[3, 5, 7], granularity).expect("it has these axes");
            let of: Vec<usize> = groups.runs().flat_map(|(group, run)| run.map(move |_| group)).collect();
            assert_eq!(of, (0..105).map(|at| groups.of(at)).collect::<Vec<_>>(), "{granularity:?}");
            let elements: Vec<usize> = groups.runs().flat_map(|(_, run)| run).collect();
            assert_eq!(elements, (0..groups.elements()).collect::<Vec<_>>(), "{granularity:?}");
            let mut found = of;
            found.sort_unstable();
            found.dedup();
            assert_eq!(found, (0..groups.count()).collect::<Vec<_>>(), "{granularity:?}");
        }
        assert!(Groups::new(&[3], Granularity::Channel { axis: 1 }).is_err());
    }
}
