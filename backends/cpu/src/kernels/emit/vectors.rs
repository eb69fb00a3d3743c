//! Lanes as a whole.

use super::{Emitter, Type, Value};

impl Emitter {
    /// A scalar in each of `lanes` lanes.
    pub fn splat(&mut self, x: Value, lanes: u16) -> Value {
        let ty = Type::Lanes(lanes, x.ty.scalar());
        self.op(ty, format_args!("vector.broadcast {x} : {} to {ty}", x.ty))
    }

    /// One lane.
    pub fn lane(&mut self, x: Value, lane: usize) -> Value {
        let ty = Type::One(x.ty.scalar());
        self.op(ty, format_args!("vector.extract {x}[{lane}] : {ty} from {}", x.ty))
    }

    /// Lanes of `a` then `b`, in the order of `pick`.
    pub fn shuffle(&mut self, a: Value, b: Value, pick: &[usize]) -> Value {
        let ty = Type::Lanes(pick.len() as u16, a.ty.scalar());
        self.op(ty, format_args!("llvm.shufflevector {a}, {b} {pick:?} : {}", a.ty))
    }

    /// Folds the lanes of a vector in halves: a fixed order, so that sums are reproducible.
    pub fn fold(&mut self, x: Value, mut combine: impl FnMut(&mut Self, Value, Value) -> Value) -> Value {
        let Type::Lanes(mut n, _) = x.ty else { return x };
        let mut v = x;
        while n > 1 {
            let half = usize::from(n / 2);
            let low: Vec<usize> = (0..half).collect();
            let high: Vec<usize> = (half..2 * half).collect();
            let a = self.shuffle(v, v, &low);
            let b = self.shuffle(v, v, &high);
            v = combine(self, a, b);
            n /= 2;
        }
        self.lane(v, 0)
    }

    /// Sum of the lanes.
    pub fn sum(&mut self, x: Value) -> Value {
        self.fold(x, Self::add)
    }
}
