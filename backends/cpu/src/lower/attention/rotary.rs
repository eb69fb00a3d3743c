//! Positions and what turns queries and keys by them.

use qcc_ir::{Dim, Node, ValueId};

use super::super::buffers::Buffer;
use super::super::{LowerError, Lowering, Operand};
use super::small;
use crate::kernels::rotary::{self, AnglesSpec, RotarySpec};

/// Cosines and sines of the positions of a call.
#[derive(Clone, Copy)]
pub(in crate::lower) struct Angles {
    buffer: Buffer,
    spec: AnglesSpec,
}

impl Lowering<'_> {
    pub(in crate::lower) fn iota(&mut self, node: &Node, size: &Dim) -> Result<(), LowerError> {
        let to = self.result(node.results[0])?;
        let kernel = self.kernel("positions", rotary::positions);
        let none = Operand::Size(Dim::Const(0));
        self.step(&node.location, kernel, vec![Operand::Buffer(to.buffer), none], size, 4096)
    }

    pub(in crate::lower) fn positions(&mut self, node: &Node, axis: i64) -> Result<(), LowerError> {
        let past = node.operands[1].expect("invariant: arity was checked");
        let past = self.function.ty(past).dims[axis as usize].clone();
        let count = self.function.ty(node.results[0]).dims[0].clone();
        let to = self.result(node.results[0])?;
        let kernel = self.kernel("positions", rotary::positions);
        self.step(&node.location, kernel, vec![Operand::Buffer(to.buffer), Operand::Size(past)], &count, 4096)
    }

    pub(in crate::lower) fn rotary_embedding(
        &mut self,
        node: &Node,
        interleaved: bool,
    ) -> Result<(), LowerError> {
        let operand = |i: usize| node.operands[i].expect("invariant: arity was checked");
        let [x, positions, frequencies] = [0, 1, 2].map(operand);
        let dims = self.function.ty(x).dims.clone();
        let (heads, features) = (small(&dims[2])?, small(&dims[3])?);
        let angles = self.angles(node, positions, frequencies)?;
        let spec = RotarySpec { angles: angles.spec, heads, features, interleaved };
        let from = self.f32_place(x)?;
        let to = self.result(node.results[0])?;
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| rotary::rotary(&spec, name, caps));
        let period = Self::count(&self.function.ty(positions).dims)?;
        let operands = vec![
            Operand::Buffer(from),
            Operand::Bits(4 * u64::from(heads) * u64::from(features)),
            Operand::Buffer(to.buffer),
            Operand::Buffer(angles.buffer),
            Operand::Size(period),
        ];
        let tokens = Self::count(&dims[..2])?;
        self.step(&node.location, kernel, operands, &tokens, 16)
    }

    /// The table of angles; made once for all that turn by it.
    fn angles(
        &mut self,
        node: &Node,
        positions: ValueId,
        frequencies: ValueId,
    ) -> Result<Angles, LowerError> {
        if let Some(angles) = self.angles.get(&(positions, frequencies)) {
            return Ok(*angles);
        }
        let place = self.place(positions)?;
        let dims = self.function.ty(frequencies).dims.clone();
        let vectors = match dims.as_slice() {
            [vectors, _] => small(vectors)?,
            _ => 1,
        };
        let pairs = small(dims.last().ok_or_else(|| LowerError::new("there are no frequencies"))?)?;
        let spec = AnglesSpec { wide: place.index_is_wide()?, vectors, pairs };
        let from = self.f32_place(frequencies)?;
        let count = Self::count(&self.function.ty(positions).dims)?;
        let bytes = i64::try_from(spec.row_bytes()).map_err(|_| LowerError::too_large())?;
        let buffer =
            self.temporary(&count.checked_mul(&Dim::Const(bytes)).ok_or_else(LowerError::too_large)?)?;
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| rotary::angles(spec, name, caps));
        let operands = [place.buffer, from, buffer].map(Operand::Buffer).to_vec();
        self.step(&node.location, kernel, operands, &count, 16)?;
        let angles = Angles { buffer, spec };
        self.angles.insert((positions, frequencies), angles);
        Ok(angles)
    }
}
