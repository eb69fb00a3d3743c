//! What is done to the features of an activation, and undone in the weights behind it, in numbers.

use super::matrix::Matrix;

/// One step of a transform of `x` `[rows, n]` and the weights `w` `[out, n]` behind it, which keeps `x · wᵀ` (but for [`Part::Shift`]'s
/// constant).
#[derive(Clone, Debug)]
pub enum Part {
    /// `x · diag(s)`, `w · diag(1 / s)`; no element is 0.
    Scale(Vec<f64>),
    /// `x · r`, `w · r`, for an orthogonal `r`.
    Rotate(Matrix),
    /// `x + v`.
    Shift(Vec<f64>),
    /// Features in this order.
    Permute(Vec<usize>),
}

/// A matrix of f32 as f64.
pub fn widened(data: &[f32], columns: usize) -> Matrix {
    Matrix::new(data.len() / columns.max(1), columns, data.iter().map(|x| f64::from(*x)).collect())
}

impl Part {
    /// The activation after this step.
    pub fn of_activation(&self, x: &Matrix) -> Matrix {
        match self {
            Part::Scale(s) => by_column(x, s, |x, s| x * s),
            Part::Shift(v) => by_column(x, v, |x, v| x + v),
            Part::Rotate(r) => x.times(r),
            Part::Permute(p) => permuted(x, p),
        }
    }

    /// The weight after this step.
    pub fn of_weight(&self, w: &Matrix) -> Matrix {
        match self {
            Part::Scale(s) => by_column(w, s, |w, s| w / s),
            Part::Shift(_) => w.clone(),
            Part::Rotate(r) => w.times(r),
            Part::Permute(p) => permuted(w, p),
        }
    }
}

fn by_column(m: &Matrix, v: &[f64], f: impl Fn(f64, f64) -> f64) -> Matrix {
    let data = m.data.iter().zip(v.iter().cycle()).map(|(x, v)| f(*x, *v)).collect();
    Matrix::new(m.rows, m.columns, data)
}

fn permuted(m: &Matrix, p: &[usize]) -> Matrix {
    let data = m.data.chunks(m.columns.max(1)).flat_map(|row| p.iter().map(|&i| row[i])).collect();
    Matrix::new(m.rows, m.columns, data)
}
