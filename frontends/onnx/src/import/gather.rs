//! Indexing.

use qcc_ir::Op;

use crate::call::{Call, Outputs};

/// `Gather`.
pub(super) fn gather(call: &mut Call<'_>) -> Outputs {
    let (x, indices) = (call.x(0)?, call.x(1)?);
    let axis = call.axis(call.attributes.int("axis")?.unwrap_or(0), call.rank(x))?;
    call.done(Op::Gather { axis: axis as i64 }, [x, indices])
}
