//! Pools, reductions, and products of two activations.

use qcc_ir::{Dim, Node, Op, ops::ImageLayout};

use super::{LowerError, Lowering, Operand};
use crate::loops::matmul::Matmul;
use crate::loops::pool::{Pool, PoolKind};
use crate::loops::reduce::{Reduce, Reduction};
use crate::loops::storage::Storage;

/// Sizes of a channels-last image with one or two spatial axes; one axis counts as a row of height 1.
pub(super) struct Image {
    pub batch: Dim,
    pub height: Dim,
    pub width: Dim,
    pub channels: Dim,
}

impl Image {
    pub(super) fn of(dims: &[Dim]) -> Result<Image, LowerError> {
        match dims {
            [batch, width, channels] => Ok(Image {
                batch: batch.clone(),
                height: Dim::Const(1),
                width: width.clone(),
                channels: channels.clone(),
            }),
            [batch, height, width, channels] => Ok(Image {
                batch: batch.clone(),
                height: height.clone(),
                width: width.clone(),
                channels: channels.clone(),
            }),
            _ => Err(LowerError::new(format!(
                "{} spatial axes have no CPU kernel; one or two do",
                dims.len().saturating_sub(2)
            ))),
        }
    }
}

/// Per-axis attributes as (height, width) pairs; one axis gets a height of `missing`.
pub(super) fn pair(values: &[i64], missing: i64) -> [i64; 2] {
    match values {
        [w] => [missing, *w],
        [h, w, ..] => [*h, *w],
        [] => [missing, missing],
    }
}

/// Pads (begins then ends) as top, left, bottom, right.
pub(super) fn sides(pads: &[i64]) -> [i64; 4] {
    match pads {
        [left, right] => [0, *left, 0, *right],
        [top, left, bottom, right] => [*top, *left, *bottom, *right],
        _ => [0; 4],
    }
}

pub(super) fn channels_last(layout: ImageLayout) -> Result<(), LowerError> {
    match layout {
        ImageLayout::ChannelsLast => Ok(()),
        ImageLayout::ChannelsFirst => {
            Err(LowerError::new("channels-first images were not converted; run `channels-last`"))
        }
    }
}

impl Lowering<'_> {
    pub(super) fn pool(&mut self, node: &Node) -> Result<(), LowerError> {
        let x = node.operands[0].expect("invariant: arity was checked");
        let (kernel, strides, pads, dilations, layout, kind) = match &node.op {
            Op::MaxPool { kernel, strides, pads, dilations, layout, .. } => {
                (kernel, strides, pads, dilations, *layout, PoolKind::Max)
            }
            Op::AvgPool { kernel, strides, pads, dilations, count_pads, layout, .. } => {
                let kind = if *count_pads { PoolKind::MeanWithPads } else { PoolKind::Mean };
                (kernel, strides, pads, dilations, *layout, kind)
            }
            other => return Err(LowerError::new(format!("qcc.{} is no pool", other.name()))),
        };
        channels_last(layout)?;
        let from = self.place(x)?;
        let to = self.result(node.results[0])?;
        if kind != PoolKind::Max && from.storage != Storage::F32 {
            return Err(LowerError::new("averages of codes have no CPU kernel"));
        }
        let image = Image::of(&self.function.ty(x).dims)?;
        let out = Image::of(&self.function.ty(node.results[0]).dims)?;
        let spec = Pool { kind, storage: from.storage };
        let index = self.kernel(&format!("{spec:?}"), |name, caps| spec.generate(name, caps));
        let mut operands = vec![Operand::Buffer(to.buffer), Operand::Buffer(from.buffer)];
        let sizes = [image.height, image.width, image.channels, out.height.clone(), out.width.clone()];
        operands.extend(sizes.map(Operand::Size));
        operands.extend(pair(kernel, 1).into_iter().chain(pair(strides, 1)).map(|v| Operand::Bits(v as u64)));
        operands.extend(sides(pads).into_iter().chain(pair(dilations, 1)).map(|v| Operand::Bits(v as u64)));
        let items = Self::count(&[out.batch, out.height])?;
        self.step(&node.location, index, operands, &items, 1)
    }

    pub(super) fn reduce(&mut self, node: &Node) -> Result<(), LowerError> {
        let x = node.operands[0].expect("invariant: arity was checked");
        let (axes, reduction) = match &node.op {
            Op::ReduceMean { axes, .. } => (axes, Reduction::Mean),
            Op::ReduceSum { axes, .. } => (axes, Reduction::Sum),
            Op::ReduceMax { axes, .. } => (axes, Reduction::Max),
            other => return Err(LowerError::new(format!("qcc.{} is no reduction", other.name()))),
        };
        let dims = self.function.ty(x).dims.clone();
        let mut axes: Vec<usize> = axes.iter().map(|&a| a as usize).collect();
        axes.sort_unstable();
        if axes.windows(2).any(|w| w[1] != w[0] + 1) || axes.is_empty() {
            return Err(LowerError::new(format!("a reduction over the axes {axes:?} was not legalised")));
        }
        let from = self.place(x)?;
        if self.function.ty(x).element.quantized().is_some() {
            return Err(LowerError::new("reduces no codes"));
        }
        if from.storage == Storage::Bool && reduction != Reduction::Max {
            return Err(LowerError::new("booleans have no sum and no mean; cast them first"));
        }
        let to = self.result(node.results[0])?;
        let (first, last) = (axes[0], axes[axes.len() - 1]);
        let outer = Self::count(&dims[..first])?;
        let reduced = Self::count(&dims[first..=last])?;
        let inner = Self::count(&dims[last + 1..])?;
        let spec = Reduce { reduction, rows: inner == Dim::Const(1), storage: from.storage };
        let kernel = self.kernel(&format!("{spec:?}"), |name, caps| spec.generate(name, caps));
        let operands = vec![
            Operand::Buffer(to.buffer),
            Operand::Buffer(from.buffer),
            Operand::Size(reduced),
            Operand::Size(inner),
        ];
        self.step(&node.location, kernel, operands, &outer, 1)
    }

    pub(super) fn matmul(&mut self, node: &Node) -> Result<(), LowerError> {
        let operand = |i: usize| node.operands[i].expect("invariant: arity was checked");
        let (a, b) = (operand(0), operand(1));
        let (a_dims, b_dims) = (self.function.ty(a).dims.clone(), self.function.ty(b).dims.clone());
        let dims = self.function.ty(node.results[0]).dims.clone();
        let (left, right) = (self.place(a)?, self.place(b)?);
        if left.storage != Storage::F32 || right.storage != Storage::F32 {
            return Err(LowerError::new("multiplies f32 only"));
        }
        let batch = &dims[..dims.len() - 2];
        // A matrix repeats over all batches or over none; anything between was broadcast by `legalize`.
        let stride = |own: &[Dim]| -> Result<Dim, LowerError> {
            let own_batch = Self::count(&own[..own.len() - 2])?;
            if own_batch == Dim::Const(1) {
                Ok(Dim::Const(0))
            } else if own_batch == Self::count(batch)? {
                Self::count(&own[own.len() - 2..])
            } else {
                Err(LowerError::new("a partial broadcast of batches was not legalised"))
            }
        };
        let (m, n) = (dims[dims.len() - 2].clone(), dims[dims.len() - 1].clone());
        let k = a_dims[a_dims.len() - 1].clone();
        let (stride_a, stride_b) = (stride(&a_dims)?, stride(&b_dims)?);
        let to = self.result(node.results[0])?;
        let kernel = self.kernel("Matmul", |name, caps| Matmul.generate(name, caps));
        let mut operands =
            vec![Operand::Buffer(to.buffer), Operand::Buffer(left.buffer), Operand::Buffer(right.buffer)];
        operands.extend([m.clone(), n.clone(), k.clone(), stride_a, stride_b].map(Operand::Size));
        let items = Self::count(batch)?.checked_mul(&m).ok_or_else(LowerError::too_large)?;
        self.step(&node.location, kernel, operands, &items, 4)?;
        let operations = Self::count(&[items, n, k, Dim::Const(2)])?;
        self.works_on_floats(&operations)
    }
}
