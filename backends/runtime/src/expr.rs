//! Sizes as expressions over the symbols that a call's input shapes bind. Evaluation is checked: a size that does not fit is an error,
//! never a wrapped number. The serial form is postfix, so that reading one takes no stack however it is nested, and nesting is bounded.

use serde::{Deserialize, Serialize};

use crate::RuntimeError;

/// Deepest nesting of an expression; evaluation recurses this far at most.
pub(crate) const MAX_DEPTH: usize = 1024;

/// A size.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Token>", into = "Vec<Token>")]
pub enum Expr {
    /// A number.
    Const(u64),
    /// The symbol of this index in [`Program::symbols`](crate::program::Program::symbols).
    Symbol(u32),
    /// `a + b`
    Add(Box<Expr>, Box<Expr>),
    /// `a · b`
    Mul(Box<Expr>, Box<Expr>),
    /// `⌈a / n⌉`
    CeilDiv(Box<Expr>, u64),
    /// `⌊a / n⌋`
    FloorDiv(Box<Expr>, u64),
    /// The larger one.
    Max(Box<Expr>, Box<Expr>),
}

impl Expr {
    /// The value, with the symbols' values in order.
    ///
    /// # Errors
    /// When it does not fit 64 bits, divides by zero, or a symbol has no value.
    pub fn evaluate(&self, symbols: &[u64]) -> Result<u64, RuntimeError> {
        let overflow = || RuntimeError::Overflow { symbols: symbols.to_vec() };
        Ok(match self {
            Expr::Const(n) => *n,
            Expr::Symbol(s) => *symbols.get(*s as usize).ok_or(RuntimeError::UnboundSymbol(*s))?,
            Expr::Add(a, b) => a.evaluate(symbols)?.checked_add(b.evaluate(symbols)?).ok_or_else(overflow)?,
            Expr::Mul(a, b) => a.evaluate(symbols)?.checked_mul(b.evaluate(symbols)?).ok_or_else(overflow)?,
            Expr::CeilDiv(_, 0) | Expr::FloorDiv(_, 0) => return Err(overflow()),
            Expr::CeilDiv(a, n) => a.evaluate(symbols)?.div_ceil(*n),
            Expr::FloorDiv(a, n) => a.evaluate(symbols)? / n,
            Expr::Max(a, b) => a.evaluate(symbols)?.max(b.evaluate(symbols)?),
        })
    }

    /// Calls `visit` on this and every inner expression; false when nested deeper than [`MAX_DEPTH`].
    pub(crate) fn visit<'a>(&'a self, visit: &mut impl FnMut(&'a Expr)) -> bool {
        self.visit_within(MAX_DEPTH, visit)
    }

    fn visit_within<'a>(&'a self, depth: usize, visit: &mut impl FnMut(&'a Expr)) -> bool {
        if depth == 0 {
            return false;
        }
        visit(self);
        match self {
            Expr::Const(_) | Expr::Symbol(_) => true,
            Expr::CeilDiv(a, _) | Expr::FloorDiv(a, _) => a.visit_within(depth - 1, visit),
            Expr::Add(a, b) | Expr::Mul(a, b) | Expr::Max(a, b) => {
                a.visit_within(depth - 1, visit) && b.visit_within(depth - 1, visit)
            }
        }
    }
}

impl From<u64> for Expr {
    fn from(n: u64) -> Expr {
        Expr::Const(n)
    }
}

/// One step of the postfix form.
#[derive(Serialize, Deserialize)]
enum Token {
    Const(u64),
    Symbol(u32),
    Add,
    Mul,
    CeilDiv(u64),
    FloorDiv(u64),
    Max,
}

impl From<Expr> for Vec<Token> {
    fn from(expr: Expr) -> Vec<Token> {
        fn push(expr: &Expr, tokens: &mut Vec<Token>) {
            let (operands, token): (&[&Expr], Token) = match expr {
                Expr::Const(n) => (&[], Token::Const(*n)),
                Expr::Symbol(s) => (&[], Token::Symbol(*s)),
                Expr::Add(a, b) => (&[a, b], Token::Add),
                Expr::Mul(a, b) => (&[a, b], Token::Mul),
                Expr::CeilDiv(a, n) => (&[a], Token::CeilDiv(*n)),
                Expr::FloorDiv(a, n) => (&[a], Token::FloorDiv(*n)),
                Expr::Max(a, b) => (&[a, b], Token::Max),
            };
            for operand in operands {
                push(operand, tokens);
            }
            tokens.push(token);
        }
        let mut tokens = Vec::new();
        push(&expr, &mut tokens);
        tokens
    }
}

impl TryFrom<Vec<Token>> for Expr {
    type Error = &'static str;

    fn try_from(tokens: Vec<Token>) -> Result<Expr, &'static str> {
        // Expressions whose operator is still to come, with their depth.
        let mut stack: Vec<(Expr, usize)> = Vec::new();
        for token in tokens {
            let mut pop = || stack.pop().ok_or("an operator of a size expression lacks an operand");
            let mut pair = |make: fn(Box<Expr>, Box<Expr>) -> Expr| {
                let ((b, b_depth), (a, a_depth)) = (pop()?, pop()?);
                Ok::<_, &'static str>((make(Box::new(a), Box::new(b)), a_depth.max(b_depth) + 1))
            };
            let made = match token {
                Token::Const(n) => (Expr::Const(n), 1),
                Token::Symbol(s) => (Expr::Symbol(s), 1),
                Token::Add => pair(Expr::Add)?,
                Token::Mul => pair(Expr::Mul)?,
                Token::Max => pair(Expr::Max)?,
                Token::CeilDiv(n) => pop().map(|(a, depth)| (Expr::CeilDiv(Box::new(a), n), depth + 1))?,
                Token::FloorDiv(n) => pop().map(|(a, depth)| (Expr::FloorDiv(Box::new(a), n), depth + 1))?,
            };
            if made.1 > MAX_DEPTH {
                return Err("a size expression is nested too deeply");
            }
            stack.push(made);
        }
        match (stack.pop(), stack.is_empty()) {
            (Some((expr, _)), true) => Ok(expr),
            _ => Err("a size expression is incomplete"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(index: u32) -> Box<Expr> {
        Box::new(Expr::Symbol(index))
    }

    #[test]
    fn values() {
        let product = Expr::Mul(symbol(0), symbol(1));
        assert_eq!(product.evaluate(&[6, 7]).unwrap(), 42);
        assert_eq!(Expr::CeilDiv(symbol(0), 4).evaluate(&[9]).unwrap(), 3);
        assert_eq!(Expr::FloorDiv(symbol(0), 4).evaluate(&[9]).unwrap(), 2);
        assert_eq!(Expr::Max(symbol(0), Box::new(Expr::Const(5))).evaluate(&[3]).unwrap(), 5);
        assert_eq!(Expr::Add(symbol(0), symbol(0)).evaluate(&[3]).unwrap(), 6);
    }

    #[test]
    fn overflow_and_missing_symbols_are_errors() {
        let product = Expr::Mul(symbol(0), symbol(0));
        assert!(matches!(product.evaluate(&[1 << 32]), Err(RuntimeError::Overflow { .. })));
        let sum = Expr::Add(symbol(0), Box::new(Expr::Const(1)));
        assert!(matches!(sum.evaluate(&[u64::MAX]), Err(RuntimeError::Overflow { .. })));
        assert!(matches!(Expr::CeilDiv(symbol(0), 0).evaluate(&[1]), Err(RuntimeError::Overflow { .. })));
        assert!(matches!(sum.evaluate(&[]), Err(RuntimeError::UnboundSymbol(0))));
        assert_eq!(Expr::CeilDiv(symbol(0), 2).evaluate(&[u64::MAX]).unwrap(), 1 << 63);
    }

    #[test]
    fn serial_form_keeps_operand_order_and_bounds_nesting() {
        let expr = Expr::Add(
            Box::new(Expr::CeilDiv(symbol(0), 3)),
            Box::new(Expr::Mul(symbol(1), Box::new(Expr::Const(2)))),
        );
        let bytes = postcard::to_stdvec(&expr).unwrap();
        assert_eq!(postcard::from_bytes::<Expr>(&bytes).unwrap(), expr);

        let mut deep = vec![Token::Symbol(0)];
        deep.extend((0..100_000).map(|_| Token::CeilDiv(2)));
        assert!(Expr::try_from(deep).is_err());
        assert!(Expr::try_from(vec![Token::Add]).is_err());
        assert!(Expr::try_from(vec![Token::Const(1), Token::Const(2)]).is_err());
        assert!(Expr::try_from(vec![]).is_err());
    }
}
