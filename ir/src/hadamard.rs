//! Hadamard matrices: orthogonal matrices of ±1 (times 1/√n), whose product with a vector needs additions only.
//!
//! A matrix of order `n = base · 2^log2` is `H_base ⊗ H_{2^log2}`: the Sylvester matrix applied to each run of `2^log2` elements by
//! butterflies, then the base matrix across the runs. Base matrices are Paley's (J. Math. Phys. 12, 1933), from the squares modulo a
//! prime; nothing is tabulated. The type rule, the interpreter, kernels and passes all take order and matrix from here, since a weight
//! multiplied by one matrix and an activation by another of the same order give nonsense.

/// Base orders above this are not looked for: their products cost `base` additions an element.
const LARGEST_BASE: i64 = 140;

/// An order for which a matrix is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    base: i64,
    log2: u32,
}

/// How a base matrix other than `[1]` is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paley {
    /// Order q + 1, for a prime q ≡ 3 (mod 4).
    One(i64),
    /// Order 2 (q + 1), for a prime q ≡ 1 (mod 4).
    Two(i64),
}

impl Order {
    /// The decomposition of `size`, if a matrix of that order is known: its odd part is 1, or 4 times it is a base order.
    pub fn of(size: i64) -> Option<Order> {
        if size < 1 {
            return None;
        }
        let twos = size.trailing_zeros();
        match size >> twos {
            1 => Some(Order { base: 1, log2: twos }),
            odd if twos >= 2 && odd <= LARGEST_BASE / 4 => {
                paley(4 * odd).map(|_| Order { base: 4 * odd, log2: twos - 2 })
            }
            _ => None,
        }
    }

    /// The largest order that divides `size`: what a block-diagonal transform of an axis of that size can use. 1 divides everything.
    pub fn largest_dividing(size: i64) -> Order {
        let none = Order { base: 1, log2: 0 };
        if size < 1 {
            return none;
        }
        let twos = size.trailing_zeros();
        let odds = (1..=LARGEST_BASE / 4).step_by(2).filter(|odd| size % odd == 0);
        odds.filter_map(|odd| Order::of(odd << twos)).max_by_key(|order| order.size()).unwrap_or(none)
    }

    /// `base · 2^log2`.
    pub fn size(self) -> i64 {
        self.base << self.log2
    }

    /// Order of the base matrix: 1 for powers of two, else 4 times an odd number.
    pub fn base(self) -> usize {
        usize::try_from(self.base).unwrap_or(1)
    }

    /// Number of butterfly stages.
    pub fn log2(self) -> u32 {
        self.log2
    }

    /// The base matrix, row-major, elements ±1; not symmetric in general. Its rows are orthogonal: `M · Mᵀ = base · I`.
    pub fn base_matrix(self) -> Vec<i8> {
        match paley(self.base) {
            None => vec![1],
            Some(Paley::One(q)) => paley_one(q),
            Some(Paley::Two(q)) => paley_two(q),
        }
    }
}

/// The construction of a base matrix of order `base ≡ 4 (mod 8)`; the first kind where both exist.
fn paley(base: i64) -> Option<Paley> {
    let (one, two) = (base - 1, base / 2 - 1);
    match () {
        () if base % 8 != 4 => None,
        () if is_prime(one) => Some(Paley::One(one)),
        () if two % 4 == 1 && is_prime(two) => Some(Paley::Two(two)),
        () => None,
    }
}

fn is_prime(q: i64) -> bool {
    q > 1 && (2..q).take_while(|d| d * d <= q).all(|d| q % d != 0)
}

/// The quadratic character χ modulo `q`: 0 at 0, 1 at squares, −1 elsewhere.
fn character(q: i64) -> Vec<i8> {
    let squares: Vec<i64> = (1..q).map(|i| i * i % q).collect();
    (0..q)
        .map(|i| {
            if i == 0 {
                0
            } else if squares.contains(&i) {
                1
            } else {
                -1
            }
        })
        .collect()
}

/// `[[0, 1ᵀ], [corner, Q]]` with `Q[i][j] = χ(i − j)`, as a function of row and column.
fn bordered(q: i64, corner: i8) -> impl Fn(i64, i64) -> i8 {
    let chi = character(q);
    move |row, column| match (row, column) {
        (0, 0) => 0,
        (0, _) => 1,
        (_, 0) => corner,
        _ => usize::try_from((row - column).rem_euclid(q)).map_or(0, |i| chi[i]),
    }
}

/// `I + [[0, 1ᵀ], [−1, Q]]`.
fn paley_one(q: i64) -> Vec<i8> {
    let skew = bordered(q, -1);
    let cells = (0..=q).flat_map(|i| (0..=q).map(move |j| (i, j)));
    cells.map(|(i, j)| i8::from(i == j) + skew(i, j)).collect()
}

/// `C ⊗ [[1, 1], [1, −1]] + I ⊗ [[1, −1], [−1, −1]]` with the conference matrix `C = [[0, 1ᵀ], [1, Q]]`.
fn paley_two(q: i64) -> Vec<i8> {
    const OFF: [[i8; 2]; 2] = [[1, 1], [1, -1]];
    const ON: [[i8; 2]; 2] = [[1, -1], [-1, -1]];
    let conference = bordered(q, 1);
    let n = 2 * (q + 1);
    let cells = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
    cells
        .map(|(i, j)| {
            let inner = (usize::from(i % 2 == 1), usize::from(j % 2 == 1));
            match i / 2 == j / 2 {
                true => ON[inner.0][inner.1],
                false => conference(i / 2, j / 2) * OFF[inner.0][inner.1],
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_orders_are_those_of_the_two_constructions() {
        let bases: Vec<i64> = (1..=200).filter(|&n| Order::of(n).is_some_and(|o| o.log2 == 0)).collect();
        assert_eq!(bases, [1, 12, 20, 28, 36, 44, 60, 68, 76, 84, 108, 124, 132, 140]);
    }

    #[test]
    fn base_matrices_have_orthogonal_rows_of_signs() {
        for order in (1..=LARGEST_BASE).filter_map(Order::of).filter(|order| order.log2 == 0) {
            let (n, matrix) = (order.base(), order.base_matrix());
            assert_eq!(matrix.len(), n * n, "{order:?}");
            assert!(matrix.iter().all(|v| v.abs() == 1), "{order:?}");
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let dot: i64 =
                    (0..n).map(|k| i64::from(matrix[i * n + k]) * i64::from(matrix[j * n + k])).sum();
                assert_eq!(dot, if i == j { order.base } else { 0 }, "{order:?}, rows {i} and {j}");
            }
        }
    }

    #[test]
    fn sizes_decompose_into_a_base_and_a_power_of_two() {
        let of = |size| Order::of(size).map(|order| (order.base(), order.log2()));
        assert_eq!(of(1), Some((1, 0)));
        assert_eq!(of(512), Some((1, 9)));
        assert_eq!(of(40), Some((20, 1)));
        assert_eq!(of(96), Some((12, 3)));
        assert_eq!(of(14336), Some((28, 9)));
        for none in [i64::MIN, -4, 0, 3, 6, 18, 52, 172, i64::MAX] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn the_largest_order_that_divides_a_size() {
        let of = |size| Order::largest_dividing(size).size();
        assert_eq!([of(512), of(40), of(72), of(11008), of(45), of(6), of(0)], [512, 40, 72, 256, 1, 2, 1]);
        assert_eq!(of(4 * 3 * 5 * 7), 140);
    }
}
