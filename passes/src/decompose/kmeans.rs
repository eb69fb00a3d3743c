//! Exact k-means of numbers. In one dimension clusters are runs of the sorted values, so dynamic programming over the ends of runs finds the
//! least sum of squares, where Lloyd's algorithm finds some local minimum that depends on its seed (Wang & Song, Ckmeans.1d.dp, 2011).
//!
//! The best start of the last run never moves down as its end moves up, which lets divide and conquer fill a row of the table in
//! O(n log n): O(k n log n) for k clusters of n distinct values, beside the sort.

/// A cluster: all values from the smallest to the largest of its members.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cluster {
    /// Its smallest value.
    pub least: f32,
    /// Its largest value.
    pub most: f32,
}

/// The `k` clusters with the least sum of squared distances from their means, ascending; fewer where there are fewer distinct values.
/// Values are finite.
pub fn clusters(values: &[f32], k: usize) -> Vec<Cluster> {
    let points = Points::new(values);
    let n = points.values.len();
    let k = k.min(n);
    if k == 0 {
        return Vec::new();
    }
    // For each row but the last, the best start of the last run of the values before `end`.
    let mut starts: Vec<Vec<usize>> = Vec::new();
    let mut costs: Vec<f64> = (0..=n).map(|end| points.cost(0, end)).collect();
    for runs in 2..k {
        let mut row = Row {
            points: &points,
            before: &costs,
            costs: vec![f64::INFINITY; n + 1],
            starts: vec![0; n + 1],
        };
        row.fill(runs, n, runs - 1, n - 1);
        let Row { costs: next, starts: found, .. } = row;
        costs = next;
        starts.push(found);
    }
    let mut ends = vec![n];
    if k > 1 {
        ends.push(points.best_start(&costs, k - 1, n - 1, n).0);
    }
    for row in starts.iter().rev() {
        ends.push(row[ends[ends.len() - 1]]);
    }
    ends.push(0);
    ends.reverse();
    ends.windows(2)
        .map(|run| Cluster { least: points.values[run[0]], most: points.values[run[1] - 1] })
        .collect()
}

/// Distinct values, ascending, and sums over them up to each.
struct Points {
    values: Vec<f32>,
    /// How many values, their sum and the sum of their squares, about the mean of all.
    sums: Vec<[f64; 3]>,
}

impl Points {
    fn new(values: &[f32]) -> Points {
        // Adding 0 makes one value of 0 and −0.
        let mut sorted: Vec<f32> = values.iter().map(|x| x + 0.0).collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let mean = sorted.iter().map(|x| f64::from(*x)).sum::<f64>() / sorted.len().max(1) as f64;
        let (mut distinct, mut sums) = (Vec::new(), vec![[0.0; 3]]);
        let mut sum = [0.0; 3];
        for run in sorted.chunk_by(|a, b| a == b) {
            let (count, x) = (run.len() as f64, f64::from(run[0]) - mean);
            sum = [sum[0] + count, sum[1] + count * x, sum[2] + count * x * x];
            distinct.push(run[0]);
            sums.push(sum);
        }
        Points { values: distinct, sums }
    }

    /// The sum of squares of the values `start..end` about their mean.
    fn cost(&self, start: usize, end: usize) -> f64 {
        let (a, b) = (&self.sums[start], &self.sums[end]);
        let (count, sum) = (b[0] - a[0], b[1] - a[1]);
        if count > 0.0 { (b[2] - a[2] - sum * sum / count).max(0.0) } else { 0.0 }
    }

    /// The start in `low..=high` of the last run before `end` with the least cost, the smallest of equals, and that cost.
    fn best_start(&self, before: &[f64], low: usize, high: usize, end: usize) -> (usize, f64) {
        let mut best = (low, f64::INFINITY);
        let high = high.min(end - 1);
        for (start, before) in (low..).zip(&before[low..=high]) {
            let cost = before + self.cost(start, end);
            if cost < best.1 {
                best = (start, cost);
            }
        }
        best
    }
}

/// A row of the table: the values before each end in one run more than in the row before.
struct Row<'a> {
    points: &'a Points,
    before: &'a [f64],
    costs: Vec<f64>,
    starts: Vec<usize>,
}

impl Row<'_> {
    /// Fills the ends `first..=last`, whose best starts lie in `low..=high`.
    fn fill(&mut self, first: usize, last: usize, low: usize, high: usize) {
        if first > last {
            return;
        }
        let middle = first + (last - first) / 2;
        let (start, cost) = self.points.best_start(self.before, low, high, middle);
        (self.starts[middle], self.costs[middle]) = (start, cost);
        self.fill(first, middle - 1, low, start);
        self.fill(middle + 1, last, start, high);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn cost(values: &[f32], clusters: &[Cluster]) -> f64 {
        let members = |c: &Cluster| -> Vec<f64> {
            values.iter().filter(|x| (c.least..=c.most).contains(*x)).map(|x| f64::from(*x)).collect()
        };
        let squares = |m: Vec<f64>| {
            let mean = m.iter().sum::<f64>() / m.len().max(1) as f64;
            m.iter().map(|x| (x - mean).powi(2)).sum::<f64>()
        };
        clusters.iter().map(|c| squares(members(c))).sum()
    }

    /// The least cost of all ways to cut the sorted values into at most `k` runs.
    fn brute_force(sorted: &[f32], k: usize) -> f64 {
        let whole = |v: &[f32]| match (v.first(), v.last()) {
            (Some(least), Some(most)) => cost(v, &[Cluster { least: *least, most: *most }]),
            _ => 0.0,
        };
        if k == 1 {
            return whole(sorted);
        }
        let cut = |at: usize| brute_force(&sorted[..at], k - 1) + whole(&sorted[at..]);
        (0..=sorted.len()).map(cut).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn no_other_runs_cost_less() {
        let mut random = Random::new(7);
        for round in 0..400 {
            let n = random.below(13) as usize;
            let far = if round % 3 == 0 { 1000.0 } else { 0.0 };
            let levels = 1 + random.below(20);
            let number = |random: &mut Random| match round % 2 {
                0 => random.below(levels) as f32 - 5.0 + far,
                _ => random.unit().powi(3) + far,
            };
            let mut values: Vec<f32> = (0..n).map(|_| number(&mut random)).collect();
            for k in 1..=4 {
                let found = clusters(&values, k);
                let mut sorted = values.clone();
                sorted.sort_by(f32::total_cmp);
                let best = brute_force(&sorted, k);
                let got = cost(&values, &found);
                assert!((got - best).abs() <= 1e-9 * best.max(1.0), "{values:?} {k}: {got} {best} {found:?}");
                sorted.dedup();
                assert_eq!(found.len(), k.min(sorted.len()), "{values:?}");
            }
            values.reverse();
        }
    }

    #[test]
    fn clusters_ascend_and_hold_every_value_once() {
        let mut random = Random::new(1);
        let values: Vec<f32> = (0..5000).map(|_| random.unit().powi(5)).collect();
        let found = clusters(&values, 3);
        assert!(found.windows(2).all(|c| c[0].most < c[1].least) && found.iter().all(|c| c.least <= c.most));
        for x in &values {
            assert_eq!(found.iter().filter(|c| (c.least..=c.most).contains(x)).count(), 1);
        }
    }

    #[test]
    fn both_zeros_are_one_value() {
        assert_eq!(clusters(&[0.0, -0.0], 3).len(), 1);
        assert!(clusters(&[], 3).is_empty());
    }

    #[test]
    fn a_million_values_take_no_minute() {
        let mut random = Random::new(2);
        let values: Vec<f32> = (0..1 << 20).map(|_| random.unit() * random.unit()).collect();
        let start = std::time::Instant::now();
        assert_eq!(clusters(&values, 3).len(), 3);
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    }
}
