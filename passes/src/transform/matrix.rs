//! Dense matrices, and the orthogonal ones that transforms are made of. All in f64; products and decompositions are faer's.

use faer::{Mat, MatRef, Side};
use qcc_ir::hadamard::Order;

use crate::random::Random;

/// A matrix, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Elements, a row after the other.
    pub data: Vec<f64>,
}

impl Matrix {
    /// A matrix of these elements, a row after the other.
    pub fn new(rows: usize, columns: usize, data: Vec<f64>) -> Matrix {
        debug_assert_eq!(data.len(), rows * columns, "elements fill the matrix");
        Matrix { rows, columns, data }
    }

    /// A matrix of zeros.
    pub fn zeros(rows: usize, columns: usize) -> Matrix {
        Matrix { rows, columns, data: vec![0.0; rows * columns] }
    }

    fn view(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.data, self.rows, self.columns)
    }

    fn from(m: &Mat<f64>) -> Matrix {
        let data = (0..m.nrows()).flat_map(|i| (0..m.ncols()).map(move |j| m[(i, j)])).collect();
        Matrix { rows: m.nrows(), columns: m.ncols(), data }
    }

    /// `self · other`.
    #[must_use]
    pub fn times(&self, other: &Matrix) -> Matrix {
        Matrix::from(&(self.view() * other.view()))
    }

    /// `self · otherᵀ`.
    #[must_use]
    pub fn times_transposed(&self, other: &Matrix) -> Matrix {
        Matrix::from(&(self.view() * other.view().transpose()))
    }

    /// The transpose.
    #[cfg(test)]
    #[must_use]
    pub fn transposed(&self) -> Matrix {
        let data =
            (0..self.columns).flat_map(|j| (0..self.rows).map(move |i| self.data[i * self.columns + j]));
        Matrix { rows: self.columns, columns: self.rows, data: data.collect() }
    }

    /// The covariance of its rows, about their mean.
    pub fn covariance(&self) -> Matrix {
        let n = self.rows.max(1) as f64;
        let mut mean = vec![0.0; self.columns];
        for row in self.data.chunks(self.columns.max(1)) {
            mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / n);
        }
        let rows = self.data.chunks(self.columns.max(1));
        let centred = rows.flat_map(|row| row.iter().zip(&mean).map(|(x, m)| x - m).collect::<Vec<_>>());
        let centred = Matrix::new(self.rows, self.columns, centred.collect());
        let mut covariance = Matrix::from(&(centred.view().transpose() * centred.view()));
        covariance.data.iter_mut().for_each(|x| *x /= (n - 1.0).max(1.0));
        covariance
    }

    /// The sum of the diagonal.
    pub fn trace(&self) -> f64 {
        (0..self.rows.min(self.columns)).map(|i| self.data[i * self.columns + i]).sum()
    }
}

/// The normalised Hadamard matrix of this order; `None` where none is known.
pub fn hadamard(n: usize) -> Option<Matrix> {
    let order = Order::of(i64::try_from(n).ok()?)?;
    let (base, small) = (order.base_matrix(), order.base());
    let run = n / small;
    let scale = 1.0 / (n as f64).sqrt();
    let element = |i: usize, j: usize| {
        // Sylvester: the sign is the parity of the bits that both indices have.
        let parity = ((i % run) & (j % run)).count_ones() % 2;
        let sign = f64::from(base[i / run * small + j / run]);
        if parity == 1 { -sign * scale } else { sign * scale }
    };
    Some(Matrix::new(n, n, (0..n * n).map(|at| element(at / n, at % n)).collect()))
}

/// A Hadamard matrix whose rows have random signs.
pub fn random_hadamard(n: usize, random: &mut Random) -> Option<Matrix> {
    let mut h = hadamard(n)?;
    for row in h.data.chunks_mut(n) {
        if random.below(2) == 1 {
            row.iter_mut().for_each(|x| *x = -*x);
        }
    }
    Some(h)
}

/// Eigenvectors (columns) of a symmetric matrix, eigenvalues ascending: the Karhunen–Loève basis of a covariance.
///
/// # Errors
/// When the decomposition does not converge, which takes NaN or infinite elements.
pub fn eigenvectors(symmetric: &Matrix) -> Result<Matrix, String> {
    let eigen = symmetric.view().self_adjoint_eigen(Side::Lower);
    let eigen = eigen.map_err(|e| format!("the covariance has no eigenvectors: {e:?}"))?;
    Ok(Matrix::from(&eigen.U().to_owned()))
}

/// K·H (MambaQuant, arXiv 2501.13484): channel variances of `x · K · H` are all equal. `None` where no Hadamard matrix is known.
///
/// # Errors
/// As [`eigenvectors`].
pub fn klt_hadamard(covariance: &Matrix, random: &mut Random) -> Result<Option<Matrix>, String> {
    let Some(h) = random_hadamard(covariance.rows, random) else { return Ok(None) };
    Ok(Some(eigenvectors(covariance)?.times(&h)))
}

/// An orthogonal matrix after which all channel variances are equal, for any size: n − 1 plane rotations, each of which brings one variance
/// to the mean (Schur–Horn).
pub fn givens_equaliser(covariance: &Matrix) -> Matrix {
    let n = covariance.rows;
    let mut a = covariance.clone();
    let mut r = Matrix::zeros(n, n);
    (0..n).for_each(|i| r.data[i * n + i] = 1.0);
    if n == 0 {
        return r;
    }
    let target = a.trace() / n as f64;
    for _ in 1..n {
        let variance = |i: &usize| a.data[i * n + i];
        let by = |x: &usize, y: &usize| variance(x).total_cmp(&variance(y));
        let (Some(p), Some(q)) = ((0..n).max_by(by), (0..n).min_by(by)) else { break };
        let (above, below, between) = (variance(&p) - target, variance(&q) - target, a.data[p * n + q]);
        if p == q || above <= 0.0 || below >= 0.0 {
            break;
        }
        // below · τ² + 2 between · τ + above = 0; the root of smaller size, without cancellation.
        let root = (between * between - above * below).sqrt();
        let tangent = -above / (between + if between >= 0.0 { root } else { -root });
        let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
        let sine = tangent * cosine;
        for m in [&mut a, &mut r] {
            for row in m.data.chunks_mut(n) {
                let (x, y) = (row[p], row[q]);
                (row[p], row[q]) = (cosine * x + sine * y, cosine * y - sine * x);
            }
        }
        for j in 0..n {
            let (x, y) = (a.data[p * n + j], a.data[q * n + j]);
            (a.data[p * n + j], a.data[q * n + j]) = (cosine * x + sine * y, cosine * y - sine * x);
        }
    }
    r
}

/// The best factors of rank `rank`: `w ≈ left · right`, singular values in `left` (Eckart–Young).
///
/// # Errors
/// When the decomposition does not converge.
pub fn low_rank(w: &Matrix, rank: usize) -> Result<(Matrix, Matrix), String> {
    let svd = w.view().thin_svd().map_err(|e| format!("a weight has no singular values: {e:?}"))?;
    let rank = rank.min(svd.S().dim());
    let (u, s, v) = (svd.U(), svd.S().column_vector(), svd.V());
    let left = (0..w.rows).flat_map(|i| (0..rank).map(move |k| u[(i, k)] * s[k])).collect();
    let right = (0..rank).flat_map(|k| (0..w.columns).map(move |j| v[(j, k)])).collect();
    Ok((Matrix::new(w.rows, rank, left), Matrix::new(rank, w.columns, right)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn correlated(rows: usize, n: usize) -> Matrix {
        let mut random = Random::new(3);
        let mut unit = || f64::from(random.unit());
        let mix = Matrix::new(n, n, (0..n * n).map(|_| unit()).collect());
        let scale = |i: usize| 10f64.powf(-1.0 + 2.0 * (i % n) as f64 / n as f64);
        let x = Matrix::new(rows, n, (0..rows * n).map(|i| unit() * scale(i)).collect());
        x.times(&mix)
    }

    fn orthogonality(r: &Matrix) -> f64 {
        let p = r.times_transposed(r);
        let ideal = |i: usize| if i.is_multiple_of(p.columns + 1) { 1.0 } else { 0.0 };
        p.data.iter().enumerate().map(|(i, x)| (x - ideal(i)).abs()).fold(0.0, f64::max)
    }

    /// (largest − smallest) / mean of the channel variances of `x · r`.
    fn spread(x: &Matrix, r: &Matrix) -> f64 {
        let c = x.times(r).covariance();
        let variances: Vec<f64> = (0..c.rows).map(|i| c.data[i * c.rows + i]).collect();
        let (low, high) = variances.iter().fold((f64::MAX, 0f64), |(l, h), v| (l.min(*v), h.max(*v)));
        (high - low) * variances.len() as f64 / c.trace()
    }

    #[test]
    fn klt_hadamard_equalises_variances_and_hadamard_alone_does_not() {
        let x = correlated(400, 16);
        let r =
            klt_hadamard(&x.covariance(), &mut Random::new(0)).expect("converges").expect("16 is an order");
        assert!(orthogonality(&r) < 1e-12);
        assert!(spread(&x, &r) < 1e-9, "{}", spread(&x, &r));
        assert!(spread(&x, &hadamard(16).expect("an order")) > 0.1);
    }

    #[test]
    fn givens_rotations_equalise_any_size() {
        for n in [1, 2, 3, 9, 18] {
            let x = correlated(300, n);
            let r = givens_equaliser(&x.covariance());
            assert!(orthogonality(&r) < 1e-12, "{n}");
            assert!(spread(&x, &r) < 1e-9, "{n}: {}", spread(&x, &r));
        }
    }

    #[test]
    fn hadamard_matrices_are_those_of_the_operation() {
        use qcc_interpreter::{Interpreter, Precision};
        use qcc_ir::{ElementType, Op, TensorType};
        use qcc_params::{Data, OpEvaluator, Tensor};
        for n in [1usize, 8, 12, 40] {
            let h = hadamard(n).expect("an order");
            assert!(orthogonality(&h) < 1e-12);
            let unit = (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
            let eye = Tensor::new(vec![n, n], ElementType::F64, Data::F64(unit)).expect("counts agree");
            let ty = TensorType::new([n as i64, n as i64], ElementType::F64);
            let op = Op::Hadamard { size: n as i64, transpose: false };
            let y = Interpreter::new(Precision::F64).evaluate(&op, &[Some(&eye)], &[ty]).expect("evaluates");
            let error = y[0].to_f64_vec().iter().zip(&h.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(error < 1e-12, "{n}: {error}");
        }
        assert!(hadamard(6).is_none());
    }

    #[test]
    fn low_rank_leaves_the_small_singular_values() {
        let w = correlated(12, 7);
        let (left, right) = low_rank(&w, 3).expect("converges");
        let near = left.times(&right);
        let rest: f64 = w.data.iter().zip(&near.data).map(|(a, b)| (a - b).powi(2)).sum();
        let gram = eigenvalues(&w.transposed().times(&w));
        let expected: f64 = gram[..4].iter().sum();
        assert!((rest - expected).abs() < 1e-8 * gram.iter().sum::<f64>());
    }

    fn eigenvalues(m: &Matrix) -> Vec<f64> {
        let k = eigenvectors(m).expect("converges");
        let d = k.transposed().times(m).times(&k);
        (0..d.rows).map(|i| d.data[i * d.rows + i]).collect()
    }
}
