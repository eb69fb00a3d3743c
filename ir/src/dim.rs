//! Tensor dimensions: constants, or polynomials with integer coefficients over named symbols (batch `B`, sequence `T`), so that one
//! compiled model takes any length. Canonical form: terms sorted by their symbols, no zero coefficient; equality is therefore equality
//! of functions. The text form (`2*B*T + 1`) is what attributes and function arguments carry, since MLIR types only say `?`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One dimension of a tensor type.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A size known at compile time.
    Const(i64),
    /// A size that depends on symbols; never a constant polynomial.
    Symbolic(Arc<Polynomial>),
}

/// A sum of terms `coefficient * symbol * symbol …`, sorted, without zero coefficients.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Polynomial {
    terms: Vec<(Vec<Arc<str>>, i64)>,
}

impl Polynomial {
    /// The terms: sorted symbols (empty for the constant term) and their coefficient.
    pub fn terms(&self) -> &[(Vec<Arc<str>>, i64)] {
        &self.terms
    }
}

type Terms = BTreeMap<Vec<Arc<str>>, i64>;

/// A size has at most so many terms and so many symbols in a term: real ones have a handful, and products of hostile ones would grow
/// without bound.
const MAX_TERMS: usize = 64;
const MAX_DEGREE: usize = 16;

impl Dim {
    /// A bare symbol.
    pub fn symbol(name: &str) -> Dim {
        Dim::Symbolic(Arc::new(Polynomial { terms: vec![(vec![Arc::from(name)], 1)] }))
    }

    /// The constant size, if it is one.
    pub fn constant(&self) -> Option<i64> {
        match self {
            Dim::Const(n) => Some(*n),
            Dim::Symbolic(_) => None,
        }
    }

    /// The symbol's name, if this dimension is a bare symbol.
    pub fn as_symbol(&self) -> Option<&str> {
        match self {
            Dim::Symbolic(p) => match p.terms.as_slice() {
                [(symbols, 1)] if symbols.len() == 1 => Some(&symbols[0]),
                _ => None,
            },
            Dim::Const(_) => None,
        }
    }

    /// Whether it is 0 or more whatever its symbols are, which are sizes.
    pub fn is_never_negative(&self) -> bool {
        match self {
            Dim::Const(n) => *n >= 0,
            Dim::Symbolic(p) => p.terms.iter().all(|(_, coefficient)| *coefficient >= 0),
        }
    }

    /// All symbols that occur, sorted, without repetition.
    pub fn symbols(&self) -> Vec<Arc<str>> {
        match self {
            Dim::Const(_) => Vec::new(),
            Dim::Symbolic(p) => {
                let mut all: Vec<_> = p.terms.iter().flat_map(|(s, _)| s.iter().cloned()).collect();
                all.sort();
                all.dedup();
                all
            }
        }
    }

    fn terms(&self) -> Terms {
        match self {
            Dim::Const(0) => Terms::new(),
            Dim::Const(n) => Terms::from([(Vec::new(), *n)]),
            Dim::Symbolic(p) => p.terms.iter().cloned().collect(),
        }
    }

    fn from_terms(mut terms: Terms) -> Dim {
        terms.retain(|_, c| *c != 0);
        match terms.len() {
            0 => Dim::Const(0),
            1 if terms.contains_key(&Vec::new()) => Dim::Const(terms[&Vec::new()]),
            _ => Dim::Symbolic(Arc::new(Polynomial { terms: terms.into_iter().collect() })),
        }
    }

    /// `self + other`; `None` when a coefficient overflows or there are too many terms.
    pub fn checked_add(&self, other: &Dim) -> Option<Dim> {
        let mut terms = self.terms();
        for (symbols, c) in other.terms() {
            let sum = terms.entry(symbols).or_insert(0);
            *sum = sum.checked_add(c)?;
        }
        if terms.len() > MAX_TERMS { None } else { Some(Dim::from_terms(terms)) }
    }

    /// `self - other`; `None` when a coefficient overflows.
    pub fn checked_sub(&self, other: &Dim) -> Option<Dim> {
        self.checked_add(&other.checked_mul(&Dim::Const(-1))?)
    }

    /// `self * other`; `None` when a coefficient overflows or there are too many terms.
    pub fn checked_mul(&self, other: &Dim) -> Option<Dim> {
        let mut terms = Terms::new();
        for (a, x) in self.terms() {
            for (b, y) in other.terms() {
                let mut symbols = [a.clone(), b].concat();
                if symbols.len() > MAX_DEGREE {
                    return None;
                }
                symbols.sort();
                let sum = terms.entry(symbols).or_insert(0);
                *sum = sum.checked_add(x.checked_mul(y)?)?;
            }
        }
        if terms.len() > MAX_TERMS { None } else { Some(Dim::from_terms(terms)) }
    }

    /// `self / other` where it divides without remainder for every value of the symbols; `other` must be a single term.
    pub fn checked_div(&self, other: &Dim) -> Option<Dim> {
        let divisor = other.terms();
        if divisor.len() != 1 {
            return (self == other).then_some(Dim::Const(1));
        }
        let (by, c) = divisor.into_iter().next()?;
        let mut terms = Terms::new();
        for (mut symbols, x) in self.terms() {
            for s in &by {
                let at = symbols.iter().position(|t| t == s)?;
                symbols.remove(at);
            }
            if x.checked_rem(c)? != 0 {
                return None;
            }
            terms.insert(symbols, x.checked_div(c)?);
        }
        Some(Dim::from_terms(terms))
    }

    /// The value under `bindings`; `None` when a symbol is unbound or the arithmetic overflows.
    pub fn evaluate(&self, bindings: &dyn Fn(&str) -> Option<i64>) -> Option<i64> {
        match self {
            Dim::Const(n) => Some(*n),
            Dim::Symbolic(p) => p.terms.iter().try_fold(0i64, |sum, (symbols, c)| {
                let product = symbols.iter().try_fold(*c, |x, s| x.checked_mul(bindings(s)?))?;
                sum.checked_add(product)
            }),
        }
    }

    /// Parses the text form: sums of products of integers and symbol names, e.g. `2*B*T + 1`.
    pub fn parse(text: &str) -> Option<Dim> {
        // `a - b` is a sum with a negative coefficient; the printer writes `a + -1*b`.
        let mut sum = Dim::Const(0);
        for term in text.split('+') {
            let mut product = Dim::Const(1);
            for factor in term.split('*') {
                let factor = factor.trim();
                let first = factor.chars().next()?;
                let dim = if first.is_ascii_digit() || first == '-' {
                    Dim::Const(factor.parse().ok()?)
                } else if factor.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                    Dim::symbol(factor)
                } else {
                    return None;
                };
                product = product.checked_mul(&dim)?;
            }
            sum = sum.checked_add(&product)?;
        }
        Some(sum)
    }
}

impl From<i64> for Dim {
    fn from(n: i64) -> Dim {
        Dim::Const(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Const(n) => write!(f, "{n}"),
            Dim::Symbolic(p) => {
                for (i, (symbols, c)) in p.terms.iter().enumerate() {
                    if i > 0 {
                        f.write_str(" + ")?;
                    }
                    match (c, symbols.is_empty()) {
                        (_, true) => write!(f, "{c}")?,
                        (1, _) => f.write_str(&symbols.join("*"))?,
                        _ => write!(f, "{c}*{}", symbols.join("*"))?,
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form_makes_equal_functions_equal() {
        let (b, t) = (Dim::symbol("B"), Dim::symbol("T"));
        assert_eq!(b.checked_mul(&t), t.checked_mul(&b));
        assert_eq!(b.checked_sub(&b), Some(Dim::Const(0)));
        let bt4 = b.checked_mul(&t).and_then(|x| x.checked_mul(&Dim::Const(4))).expect("small");
        assert_eq!(bt4.checked_div(&t), b.checked_mul(&Dim::Const(4)));
        assert_eq!(bt4.checked_div(&Dim::Const(8)), None);
        assert_eq!(Dim::Const(1).checked_div(&Dim::Const(0)), None);
    }

    #[test]
    fn text_form_round_trips() {
        for text in ["7", "B", "4*B*T", "3 + -2*T", "1 + B + 2*B*T"] {
            let dim = Dim::parse(text).expect(text);
            assert_eq!(Dim::parse(&dim.to_string()), Some(dim));
        }
        assert_eq!(Dim::parse("B$"), None);
        assert_eq!(Dim::parse(""), None);
        assert_eq!(Dim::parse("99999999999999999999"), None);
    }
}
