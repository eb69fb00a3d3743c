//! Exact k-means of numbers on a line: the clusters of least squared error are runs of the sorted values, and dynamic programming finds
//! where to cut (Wang and Song, Ckmeans.1d.dp, 2011).
//!
//! `best[m][j]`, the least error of the first `j` values in `m` clusters, is `min over i of best[m − 1][i] + error(i, j)`. The best `i` never
//! falls as `j` grows, so halving the range of `j` halves that of `i`, and a row costs O(n log n). Equal values count as one of their
//! weight. The result depends on nothing but the values: there is no seed.

/// A cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cluster {
    /// The least of its values.
    pub least: f64,
    /// The greatest of its values.
    pub greatest: f64,
    /// The mean of its values.
    pub centre: f64,
}

/// The `k` clusters of least squared error, in ascending order; fewer where there are fewer distinct values. Of equally good ones, those whose
/// upper clusters start lowest. Values must be finite.
pub fn clusters(mut values: Vec<f64>, k: usize) -> Vec<Cluster> {
    values.sort_unstable_by(f64::total_cmp);
    let runs = Runs::new(&values);
    let k = k.min(runs.values.len());
    let mut starts = Vec::new();
    if let Some(last) = k.checked_sub(1) {
        // One cluster, then one more a row; the last row is wanted at its end only.
        let mut best: Vec<f64> = (0..=runs.values.len()).map(|j| runs.error(0, j)).collect();
        let mut cuts = Vec::new();
        for m in 2..k {
            let mut row = Row { runs: &runs, previous: &best, best: best.clone(), cuts: vec![0; best.len()] };
            row.fill(m, runs.values.len(), m - 1, runs.values.len() - 1);
            let Row { best: filled, cuts: cut, .. } = row;
            best = filled;
            cuts.push(cut);
        }
        let mut end = runs.values.len();
        if last > 0 {
            end = runs.cut(&best, last..=end - 1, end).0;
            starts.push(end);
        }
        for cut in cuts.iter().rev() {
            end = cut[end];
            starts.push(end);
        }
        starts.push(0);
    }
    starts.reverse();
    let ends = starts.iter().skip(1).copied().chain([runs.values.len()]);
    starts.iter().zip(ends).map(|(&start, end)| runs.cluster(start, end)).collect()
}

/// Distinct values, ascending, with sums over those before each.
struct Runs {
    values: Vec<f64>,
    mean: f64,
    /// How many values come before each distinct one; all of them at the end.
    weights: Vec<f64>,
    /// The sums of what comes before, each less the mean of all: sums of large numbers would hide small differences.
    sums: Vec<f64>,
}

impl Runs {
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    fn new(sorted: &[f64]) -> Runs {
        let mean = sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
        let mut runs = Runs { values: Vec::new(), mean, weights: vec![0.0], sums: vec![0.0] };
        let (mut weight, mut sum) = (0.0, 0.0);
        for run in sorted.chunk_by(|a, b| a == b) {
            weight += run.len() as f64;
            sum += (run[0] - mean) * run.len() as f64;
            runs.values.push(run[0]);
            runs.weights.push(weight);
            runs.sums.push(sum);
        }
        runs
    }

    /// The squared error of the distinct values `i..j` as one cluster, less the sum of their squares, which is in every clustering.
    fn error(&self, i: usize, j: usize) -> f64 {
        let sum = self.sums[j] - self.sums[i];
        if i == j { 0.0 } else { -sum * sum / (self.weights[j] - self.weights[i]) }
    }

    /// The best start among `starts` of the last cluster of the first `j` values, and the error of it all; the first of equally good ones.
    fn cut(&self, previous: &[f64], starts: std::ops::RangeInclusive<usize>, j: usize) -> (usize, f64) {
        let mut best = (*starts.start(), f64::INFINITY);
        for i in starts {
            let error = previous[i] + self.error(i, j);
            if error < best.1 {
                best = (i, error);
            }
        }
        best
    }

    fn cluster(&self, start: usize, end: usize) -> Cluster {
        let centre = (self.sums[end] - self.sums[start]) / (self.weights[end] - self.weights[start]);
        Cluster { least: self.values[start], greatest: self.values[end - 1], centre: centre + self.mean }
    }
}

/// A row of the table.
struct Row<'a> {
    runs: &'a Runs,
    previous: &'a [f64],
    best: Vec<f64>,
    cuts: Vec<usize>,
}

impl Row<'_> {
    /// Fills the columns `low..=high`, whose best cuts are in `first..=last`.
    fn fill(&mut self, low: usize, high: usize, first: usize, last: usize) {
        if low > high {
            return;
        }
        let j = low.midpoint(high);
        (self.cuts[j], self.best[j]) = self.runs.cut(self.previous, first..=last.min(j - 1), j);
        let cut = self.cuts[j];
        self.fill(low, j - 1, first, cut);
        self.fill(j + 1, high, cut, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Squared error of sorted values with cuts before these indices.
    fn error(values: &[f64], cuts: &[usize]) -> f64 {
        let bounds: Vec<usize> = [0].into_iter().chain(cuts.iter().copied()).chain([values.len()]).collect();
        let part = |run: &[f64]| {
            let mean = run.iter().sum::<f64>() / run.len().max(1) as f64;
            run.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>()
        };
        bounds.windows(2).map(|b| part(&values[b[0]..b[1]])).sum()
    }

    fn found(values: &[f64], k: usize) -> f64 {
        let clusters = clusters(values.to_vec(), k);
        let of =
            |x: f64| clusters.iter().find(|c| (c.least..=c.greatest).contains(&x)).expect("covered").centre;
        values.iter().map(|&x| (x - of(x)) * (x - of(x))).sum()
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }
    }

    #[test]
    fn no_clustering_is_better() {
        let mut random = Random(7);
        for round in 0..3000 {
            let n = 1 + random.below(9) as usize;
            // Few different values, many, and some far away, around 0 or not.
            let (spread, shift) = ([4, 50, 100_000][round % 3], [0.0, 1e4][round / 3 % 2]);
            let mut values: Vec<f64> = (0..n).map(|_| random.below(spread) as f64 / 7.0 + shift).collect();
            values.sort_unstable_by(f64::total_cmp);
            let cuts = (0..=n).flat_map(|a| (a..=n).map(move |b| [a, b]));
            let three = cuts.map(|c| error(&values, &c)).fold(f64::INFINITY, f64::min);
            let two = (0..=n).map(|a| error(&values, &[a])).fold(f64::INFINITY, f64::min);
            let slack = 1e-9 * (1.0 + error(&values, &[]));
            assert!((found(&values, 3) - three).abs() <= slack, "{values:?}");
            assert!((found(&values, 2) - two).abs() <= slack, "{values:?}");
        }
    }

    #[test]
    fn clusters_are_what_one_sees() {
        let cluster = |least, greatest, centre| Cluster { least, greatest, centre };
        let seen = clusters(vec![9.0, 1.0, -20.0, 3.0, 11.0, 2.0, -20.0], 3);
        assert_eq!(seen, [cluster(-20.0, -20.0, -20.0), cluster(1.0, 3.0, 2.0), cluster(9.0, 11.0, 10.0)]);
        assert_eq!(clusters(vec![5.0, 4.0, 5.0], 3), [cluster(4.0, 4.0, 4.0), cluster(5.0, 5.0, 5.0)]);
        assert_eq!(clusters(vec![0.0, -0.0], 3).len(), 1);
        assert_eq!(clusters(vec![2.0; 9], 3), [cluster(2.0, 2.0, 2.0)]);
        assert!(clusters(Vec::new(), 3).is_empty());
        assert!(clusters(vec![1.0], 0).is_empty());
    }

    #[test]
    fn no_value_lies_on_a_boundary() {
        let mut random = Random(3);
        for _ in 0..200 {
            let values: Vec<f64> = (0..60).map(|_| random.below(40) as f64).collect();
            let clusters = clusters(values, 3);
            for pair in clusters.windows(2) {
                let boundary = (pair[0].centre + pair[1].centre) / 2.0;
                assert!(pair[0].greatest < boundary && boundary < pair[1].least, "{clusters:?}");
            }
        }
    }
}
