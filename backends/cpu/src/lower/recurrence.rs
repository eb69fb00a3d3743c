//! Recurrent operations: causal convolution and selective scan. State is updated in place.

use qcc_ir::{Dim, ElementType, Node, Op, OpId, ValueId};
use qcc_runtime::program::Expr;

use super::packing::{PackedParameter, f32_bytes};
use super::view::StridedRows;
use super::{LowerError, Lowering, Operand, Place};
use crate::kernels::causal_conv1d::{self, CausalConv1dSpec, ChannelActivation};
use crate::kernels::epilogue::Activation;
use crate::kernels::pack;
use crate::kernels::scan::{self, ScanResult, ScanSpec};
use crate::loops::elementwise::activation;
use crate::loops::storage::Storage;

impl Lowering<'_> {
    pub(super) fn recurrence(&mut self, node: &Node) -> Result<(), LowerError> {
        for operand in node.operands.iter().flatten() {
            let place = self.storage_of(*operand)?;
            if place != Storage::F32 {
                return Err(LowerError::new(format!("works on f32, not on {place:?}")));
            }
        }
        match &node.op {
            Op::CausalConv {} => self.causal_conv(node),
            _ => self.scan(node),
        }
    }

    /// The buffer that holds the state before and after: the state itself when this is its only step, else a copy.
    fn state(&mut self, node: &Node, before: ValueId) -> Result<Place, LowerError> {
        let after = node.results[1];
        let from = self.place(before)?;
        let alone = self.uses.get(&before).is_some_and(|u| u.len() == 1);
        let in_place = self.targets.get(&after).is_some_and(|t| t.as_slice() == [from.buffer]);
        if alone && in_place {
            self.places.insert(after, from);
            return Ok(from);
        }
        let dims = self.function.ty(before).dims.clone();
        let own = Place { buffer: self.new_buffer(&dims, Storage::F32)?, storage: Storage::F32 };
        self.copy_all(own, from, &dims, &node.location)?;
        self.places.insert(after, own);
        Ok(own)
    }

    /// A per-channel matrix `[channels, count]` in blocks of sixteen channels.
    fn channel_blocks(&mut self, value: ValueId) -> Result<Operand, LowerError> {
        let dims = self.function.ty(value).constant_dims().ok_or_else(LowerError::too_large)?;
        let (channels, count) = (dims[0] as usize, dims[1] as usize);
        let name = self.function.parameter_name(value).cloned().ok_or_else(|| {
            LowerError::new("a per-channel matrix is computed at run time; only parameters can be packed")
        })?;
        let bytes = (channels.div_ceil(16) * 16 * count * 4) as u64;
        let title = format!("{name} channel blocks");
        let packed = PackedParameter::new(title, bytes, [name], move |[matrix]| {
            Ok(f32_bytes(&pack::pack_channel_blocks(&matrix.to_f32_vec(), channels, count)?))
        });
        Ok(Operand::Buffer(self.parameter(packed)))
    }

    /// A step over `[batch, time, channels]`, whose work items are sixteen channels of one sequence.
    fn channel_step(
        &mut self,
        node: &Node,
        kernel: u32,
        mut operands: Vec<Operand>,
        dims: &[Dim],
        scratch: u64,
    ) -> Result<(), LowerError> {
        operands.extend(dims.iter().cloned().map(Operand::Size));
        let channels = dims[2].constant().ok_or_else(LowerError::too_large)?;
        let blocks = Dim::Const((channels as u64).div_ceil(16) as i64);
        let items = dims[0].checked_mul(&blocks).ok_or_else(LowerError::too_large)?;
        let items = self.expr(&items)?;
        self.step_with(&node.location, kernel, operands, items, 1, Expr::Const(scratch));
        Ok(())
    }

    fn causal_conv(&mut self, node: &Node) -> Result<(), LowerError> {
        let operand = |i: usize| node.operands.get(i).copied().flatten();
        let missing = || LowerError::new("an operand is missing");
        let (x, weight, state) = (
            operand(0).ok_or_else(missing)?,
            operand(1).ok_or_else(missing)?,
            operand(2).ok_or_else(missing)?,
        );
        let dims = self.function.ty(x).dims.clone();
        let taps = self.function.ty(weight).constant_dims().ok_or_else(LowerError::too_large)?[1];
        let mut result = node.results[0];
        let mut fused = ChannelActivation::Uniform(Activation::None);
        let mut silu_scale = Operand::Bits(0);
        if let Some((user, activation, scale)) = self.fused_activation(result) {
            fused = activation;
            if let Some(scale) = scale {
                silu_scale = Operand::Buffer(self.place(scale)?.buffer);
            }
            result = self.function.node(user).results[0];
            self.skipped.insert(user);
        }
        let spec = CausalConv1dSpec { taps: taps as usize, bias: operand(3).is_some(), activation: fused };
        let from = self.strided(x)?;
        let weights = self.channel_blocks(weight)?;
        let bias = match operand(3) {
            Some(bias) => Operand::Buffer(self.place(bias)?.buffer),
            None => Operand::Bits(0),
        };
        let state = self.state(node, state)?;
        let to = self.result(result)?;
        let channels = dims[2].constant().ok_or_else(LowerError::too_large)?;
        let stride = Operand::Bits(4 * channels as u64);
        let kernel =
            self.kernel(&format!("{spec:?}"), |name, caps| causal_conv1d::generate(&spec, name, caps));
        let operands = vec![
            from.start,
            from.stride,
            weights,
            bias,
            silu_scale,
            Operand::Buffer(state.buffer),
            Operand::Buffer(to.buffer),
            stride,
        ];
        self.channel_step(node, kernel, operands, &dims, spec.scratch_bytes())
    }

    /// The activation that is the only user of a convolution's result, with its scale: it runs in the same loop.
    fn fused_activation(&self, y: ValueId) -> Option<(OpId, ChannelActivation, Option<ValueId>)> {
        let Some([(user, 0)]) = self.uses.get(&y).map(Vec::as_slice) else { return None };
        if self.targets.contains_key(&y) {
            return None;
        }
        let node = self.function.node(*user);
        if let Op::ScaledSilu {} = node.op {
            let scale = node.operands[1].filter(|scale| self.is_channel_vector(*scale, y))?;
            return Some((*user, ChannelActivation::ScaledSilu, Some(scale)));
        }
        activation(&node.op).map(|a| (*user, ChannelActivation::Uniform(a), None))
    }

    fn scan(&mut self, node: &Node) -> Result<(), LowerError> {
        let operand = |i: usize| node.operands[i].expect("invariant: arity was checked");
        let [u, delta, a, b] = [0, 1, 2, 3].map(operand);
        let rest = match &node.op {
            Op::SelectiveScanStates {} => None,
            _ => Some((operand(4), operand(5))),
        };
        let state = operand(node.operands.len() - 1);
        let dims = self.function.ty(u).dims.clone();
        let states = self.function.ty(a).constant_dims().ok_or_else(LowerError::too_large)?[1];
        let gate = rest.and_then(|_| self.gate(node.results[0]));
        let kind = gate.as_ref().map_or(scan::Gate::None, |gate| gate.kind());
        let result = match rest {
            Some(_) => ScanResult::Sums { skip: true, gate: kind },
            None => ScanResult::States,
        };
        let spec = ScanSpec { states: states as usize, softplus: false, delta_bias: false, result };
        let none = || StridedRows { start: Operand::Bits(0), stride: Operand::Bits(0) };
        let decay = self.channel_blocks(a)?;
        let (u, delta, b) = (self.strided(u)?, self.strided(delta)?, self.strided(b)?);
        let (c, d) = match rest {
            Some((c, d)) => (self.strided(c)?, Operand::Buffer(self.place(d)?.buffer)),
            None => (none(), Operand::Bits(0)),
        };
        let (mut z, mut gate_scale, mut y) = (none(), Operand::Bits(0), node.results[0]);
        if let Some(gate) = gate {
            z = self.strided(gate.z)?;
            if let Some(scale) = gate.scale {
                gate_scale = Operand::Buffer(self.place(scale)?.buffer);
            }
            self.skipped.extend(gate.operations);
            y = gate.result;
        }
        let state = self.state(node, state)?;
        let to = self.result(y)?;
        let channels = dims[2].constant().ok_or_else(LowerError::too_large)?;
        let step = if rest.is_some() { Some(channels) } else { channels.checked_mul(states) };
        let step = step.and_then(|n| n.checked_mul(4)).ok_or_else(LowerError::too_large)?;
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| scan::generate(&spec, name, caps));
        let operands = vec![
            u.start,
            u.stride,
            delta.start,
            delta.stride,
            decay,
            b.start,
            b.stride,
            c.start,
            c.stride,
            d,
            Operand::Bits(0),
            z.start,
            z.stride,
            gate_scale,
            Operand::Buffer(state.buffer),
            Operand::Buffer(to.buffer),
            Operand::Bits(step as u64),
        ];
        self.channel_step(node, kernel, operands, &dims, spec.scratch_bytes())?;
        // For each state: the decay (one operation of many), its product with the state, the sum, and the product and sum of the result.
        let all = [dims[0].clone(), dims[1].clone(), dims[2].clone(), Dim::Const(states), Dim::Const(6)];
        let operations = Self::count(&all)?;
        self.works_on_floats(&operations)
    }

    /// The gate `y · silu(z)`, or with a scaled SiLU, that is the only user of a scan's result, if z is there already.
    fn gate(&self, y: ValueId) -> Option<Gate> {
        let only = |value: ValueId| -> Option<(OpId, &Node)> {
            match self.uses.get(&value).map(Vec::as_slice) {
                Some([(user, _)]) if !self.targets.contains_key(&value) => {
                    Some((*user, self.function.node(*user)))
                }
                _ => None,
            }
        };
        let (product, user) = only(y).filter(|(_, user)| user.op == Op::Mul {})?;
        let silu = user.operands.iter().flatten().find(|v| **v != y)?;
        let (id, node) = self.function.defining(*silu)?;
        let z = node.operands.first().copied().flatten()?;
        let scale = match &node.op {
            Op::Silu {} => None,
            Op::ScaledSilu {} => Some(node.operands[1].filter(|scale| self.is_channel_vector(*scale, y))?),
            _ => return None,
        };
        let there = self.places.contains_key(&z) || self.views.contains_key(&z);
        let same = self.function.ty(z).dims == self.function.ty(y).dims;
        let unmade = !self.places.contains_key(silu) && only(*silu).is_some();
        (there && same && unmade).then(|| Gate {
            z,
            scale,
            result: user.results[0],
            operations: [id, product],
        })
    }

    /// Whether a value is a weight of one f32 a channel of `y`.
    fn is_channel_vector(&self, value: ValueId, y: ValueId) -> bool {
        let constant = self
            .function
            .defining(value)
            .is_some_and(|(_, node)| matches!(node.op, Op::Parameter { .. } | Op::Constant { .. }));
        let (own, dims) = (self.function.ty(value), &self.function.ty(y).dims);
        constant && own.element == ElementType::F32 && own.dims.as_slice() == &dims[dims.len() - 1..]
    }
}

/// A gate that a scan takes into its loop.
struct Gate {
    z: ValueId,
    /// Of a scaled SiLU.
    scale: Option<ValueId>,
    result: ValueId,
    operations: [OpId; 2],
}

impl Gate {
    fn kind(&self) -> scan::Gate {
        if self.scale.is_some() { scan::Gate::ScaledSilu } else { scan::Gate::Silu }
    }
}
