//! What the variables of a rule may stand for: for each head and operand, the sizes and numbers that fit what is there already.

use qcc_ir::hadamard::Order;
use qcc_ir::{ElementType, Float, Op, ops::ImageLayout};

use super::example::{Example, Made, Thing, Trouble};
use crate::equivalence::heads;
use crate::equivalence::language::plain_op;
use crate::random::Random;

/// What a variable shall be.
pub(super) enum Want {
    Attributes(Op),
    /// No operand.
    Absent,
    /// An argument of the function.
    Activation(Vec<i64>, ElementType),
    Weight(Vec<i64>, Kind),
}

/// The numbers of a weight.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// In [−1, 1).
    Any,
    /// In [0.1, 2.1).
    Positive,
    /// In [0.1, 1.1), of either sign.
    NonZero,
    Orthogonal,
    Permutation,
}

/// The order in which operands are made: attributes depend on what they are applied to.
pub(super) fn order(head: &str, operands: usize) -> Vec<usize> {
    let spec = qcc_ir::OpSpec::find(head);
    let late = spec.is_some_and(|s| !s.attributes.is_empty())
        || matches!(head, "hadamard_rows" | "hadamard_back" | "hadamard_state" | "centred_norm" | "bounded");
    let mut order: Vec<usize> = (0..operands).collect();
    if late && operands > 1 {
        order.swap(0, 1);
    }
    order
}

/// What an unbound variable in this place of a head may be; `made` are the operands before it.
pub(super) fn want(example: &mut Example, head: &str, slot: usize, made: &[Option<Thing>]) -> Made<Want> {
    let optional = matches!((head, slot), ("linear", 2) | ("causal_conv" | "conv" | "conv_transpose", 3));
    if optional && example.random.below(4) == 0 {
        return Ok(Want::Absent);
    }
    let weight = |sizes: Vec<i64>| Ok(Want::Weight(sizes, Kind::Any));
    let shape = example.shape.clone();
    let activation = |sizes: Vec<i64>| Ok(Want::Activation(sizes, ElementType::F32));
    let first = || example.sizes(made.first());
    let second = || example.sizes(made.get(1));
    let last = |sizes: Vec<i64>| sizes.last().copied().ok_or(Trouble::Unlucky);
    match (head, slot) {
        ("conv" | "conv_transpose", 0) => {
            let x = second()?;
            let spatial = spatial(&x)?;
            let op = window(head, spatial, x[1], &mut example.random);
            Ok(Want::Attributes(op))
        }
        ("conv" | "conv_transpose", 2) => {
            let x = second()?;
            let spatial = spatial(&x)?;
            let op = attributes(made)?;
            weight(window_weight(&op, x[1], spatial, &mut example.random))
        }
        ("conv" | "conv_transpose", 3) => {
            let (op, w) = (attributes(made)?, example.sizes(made.get(2))?);
            weight(vec![if head == "conv" { w[0] } else { w[1] * groups(&op) }])
        }
        ("linear", 1) => {
            let inner = last(first()?)?;
            // As many rows as columns half the time: sums of both sides of a layer need it.
            let rows = if example.random.below(2) == 0 { inner } else { 1 + example.random.below(5) as i64 };
            weight(vec![rows, inner])
        }
        ("linear", 2) => weight(vec![second()?[0]]),
        ("batch_norm", 0) => {
            let epsilon = epsilon(&mut example.random);
            Ok(Want::Attributes(Op::BatchNorm { epsilon }))
        }
        ("batch_norm", 2..=5) => {
            let channels = second()?.get(1).copied().ok_or(Trouble::Unlucky)?;
            // A variance is positive.
            Ok(Want::Weight(vec![channels], if slot == 5 { Kind::Positive } else { Kind::Any }))
        }
        ("rms_norm", 0) => Ok(Want::Attributes(Op::RmsNorm { epsilon: epsilon(&mut example.random) })),
        ("rms_norm", 2) => {
            let n = last(second()?)?;
            factors(example, n)
        }
        ("centred_norm", 0) => {
            let axis = second()?.len() as i64 - 1;
            Ok(Want::Attributes(Op::LayerNorm { axis, epsilon: epsilon(&mut example.random) }))
        }
        ("centred_norm", 2) => {
            let n = last(second()?)?;
            factors(example, n)
        }
        ("hadamard" | "hadamard_rows", 0) => {
            let x = second()?;
            let n = if head == "hadamard" { last(x)? } else { at(&x, 0)? };
            Ok(Want::Attributes(transform(n, &mut example.random)))
        }
        ("hadamard_back" | "hadamard_state", 0) => {
            let (x, from_last) = (second()?, if head == "hadamard_back" { 1 } else { 2 });
            let n = *x.get(x.len().wrapping_sub(from_last)).ok_or(Trouble::Unlucky)?;
            Ok(Want::Attributes(transform(n, &mut example.random)))
        }
        ("contract", 1) => {
            let mut sizes = first()?;
            let d = sizes.len().checked_sub(2).ok_or(Trouble::Unlucky)?;
            sizes.remove(d);
            activation(sizes)
        }
        ("bounded", 2) => {
            let n = at(&second()?, 1)?;
            factors(example, n)
        }
        ("gelu", 0) => Ok(Want::Attributes(Op::Gelu { tanh: example.random.below(2) == 0 })),
        ("layer_norm", 0) => {
            let rank = second()?.len() as u64;
            let axis = if example.random.below(3) > 0 { rank - 1 } else { example.random.below(rank) };
            Ok(Want::Attributes(Op::LayerNorm { axis: axis as i64, epsilon: epsilon(&mut example.random) }))
        }
        ("layer_norm", 2 | 3) => match attributes(made)? {
            Op::LayerNorm { axis, .. } => weight(second()?[axis as usize..].to_vec()),
            _ => Err(Trouble::Unlucky),
        },
        ("embedding", 0) => {
            weight(vec![3 + example.random.below(3) as i64, 1 + example.random.below(6) as i64])
        }
        ("embedding", 1) => Ok(Want::Activation(vec![2, 3], ElementType::I64)),
        ("causal_conv", 0) | ("selective_scan" | "selective_scan_states", 0) => activation(sequence(example)),
        ("causal_conv", 1) => weight(vec![at(&first()?, 2)?, 1 + example.random.below(4) as i64]),
        ("causal_conv", 2) => {
            let x = first()?;
            activation(vec![x[0], at(&x, 2)?, second()?[1] - 1])
        }
        ("causal_conv", 3) => weight(vec![at(&first()?, 2)?]),
        ("selective_scan" | "selective_scan_states", 1) => activation(first()?),
        ("selective_scan" | "selective_scan_states", 2) => {
            weight(vec![at(&first()?, 2)?, 1 + example.random.below(4) as i64])
        }
        ("selective_scan", 3 | 4) | ("selective_scan_states", 3) => {
            let (u, a) = (first()?, example.sizes(made.get(2))?);
            activation(vec![u[0], at(&u, 1)?, a[1]])
        }
        ("selective_scan", 5) => weight(vec![at(&first()?, 2)?]),
        ("selective_scan", 6) | ("selective_scan_states", 4) => {
            let (u, a) = (first()?, example.sizes(made.get(2))?);
            activation(vec![u[0], at(&u, 2)?, a[1]])
        }
        ("scale", 1) => {
            let n = last(first()?)?;
            factors(example, n)
        }
        ("shift", 1) => weight(vec![last(first()?)?]),
        ("scale_channels", 1) => {
            let n = at(&first()?, 1)?;
            factors(example, n)
        }
        ("scale_rows", 1) => {
            let x = first()?;
            let n = *x.get(x.len().wrapping_sub(2)).ok_or(Trouble::Unlucky)?;
            factors(example, n)
        }
        ("rows", 1) => weight(vec![at(&first()?, 0)?]),
        ("columns", 1) => weight(vec![at(&first()?, 1)?]),
        ("rotate" | "rotate_back", 1) => {
            let n = last(first()?)?;
            Ok(Want::Weight(vec![n, n], Kind::Orthogonal))
        }
        ("rotate_rows", 1) => {
            let n = at(&first()?, 0)?;
            Ok(Want::Weight(vec![n, n], Kind::Orthogonal))
        }
        ("permute", 1) => {
            let n = last(first()?)?;
            Ok(Want::Weight(vec![n], Kind::Permutation))
        }
        ("permute_rows", 1) => Ok(Want::Weight(vec![at(&first()?, 0)?], Kind::Permutation)),
        ("permute_state", 1) => {
            let x = first()?;
            let n = *x.get(x.len().wrapping_sub(2)).ok_or(Trouble::Unlucky)?;
            Ok(Want::Weight(vec![n], Kind::Permutation))
        }
        ("leaky_relu", 0) => Ok(Want::Attributes(Op::LeakyRelu { alpha: Float(0.25) })),
        ("clamp" | "bounded", 0) => {
            let min = -0.25 * example.random.below(3) as f64;
            Ok(Want::Attributes(Op::Clamp { min: Float(min), max: Float(0.5) }))
        }
        ("max_pool" | "avg_pool", 0) => {
            let spatial = spatial(&second()?)?;
            Ok(Want::Attributes(pool(head, spatial, &mut example.random)))
        }
        ("reduce_mean", 0) => {
            let rank = second()?.len() as i64;
            let keep_dims = example.random.below(2) == 0;
            Ok(Want::Attributes(Op::ReduceMean { axes: (2..rank).collect(), keep_dims }))
        }
        ("add" | "sub" | "mul" | "div" | "min" | "max" | "prelu" | "scaled_silu", 1) => {
            let sizes = first()?;
            match example.random.below(3) {
                0 => activation(sizes),
                _ => {
                    let sizes = broadcastable(&sizes, &mut example.random);
                    weight(sizes)
                }
            }
        }
        ("matmul", 1) => {
            let x = first()?;
            let rows = x.len().checked_sub(2).ok_or(Trouble::Unlucky)?;
            let mut sizes = x.clone();
            sizes[rows] = x[rows + 1];
            sizes[rows + 1] = 1 + example.random.below(4) as i64;
            activation(sizes)
        }
        // The operand that the others are made for.
        _ if slot == usize::from(order(head, 2)[0] == 1) => {
            let known = heads::find(head).is_some() || plain_op(head).is_some() || knows(head);
            match example.random.below(4) {
                _ if !known => Err(Trouble::Unknown(head.to_string())),
                // Rules about weights alone.
                0 => Ok(Want::Weight(shape[1..2].to_vec(), Kind::Positive)),
                _ => activation(shape),
            }
        }
        _ => Err(Trouble::Unknown(head.to_string())),
    }
}

/// Heads with attributes that have recipes above.
fn knows(head: &str) -> bool {
    matches!(
        head,
        "conv"
            | "conv_transpose"
            | "batch_norm"
            | "rms_norm"
            | "layer_norm"
            | "leaky_relu"
            | "clamp"
            | "hadamard"
            | "gelu"
            | "max_pool"
            | "avg_pool"
            | "reduce_mean"
    )
}

fn at(sizes: &[i64], axis: usize) -> Made<i64> {
    sizes.get(axis).copied().ok_or(Trouble::Unlucky)
}

fn spatial(x: &[i64]) -> Made<usize> {
    x.len().checked_sub(2).filter(|n| *n > 0).ok_or(Trouble::Unlucky)
}

fn attributes(made: &[Option<Thing>]) -> Made<Op> {
    match made.first() {
        Some(Some(Thing::Attributes(op))) => Ok(op.clone()),
        _ => Err(Trouble::Unlucky),
    }
}

fn epsilon(random: &mut Random) -> Float {
    Float(0.37 * 10f64.powf(-1.0 - random.below(5) as f64))
}

/// A fast transform of features: of all of them half the time, as the matrices that are not symmetric are large.
fn transform(features: i64, random: &mut Random) -> Op {
    let sizes: Vec<i64> = (1..=features).filter(|n| features % n == 0 && Order::of(*n).is_some()).collect();
    let at = if random.below(2) == 0 { sizes.len() as u64 - 1 } else { random.below(sizes.len() as u64) };
    Op::Hadamard { size: sizes[at as usize], transpose: random.below(2) == 0 }
}

/// A vector to multiply with: positive half the time, without zeros but of either sign a quarter of it.
fn factors(example: &mut Example, n: i64) -> Made<Want> {
    let kind = match example.random.below(4) {
        0 => Kind::Any,
        1 => Kind::NonZero,
        _ => Kind::Positive,
    };
    Ok(Want::Weight(vec![n], kind))
}

/// Sizes of a sequence: batch, time, channels.
fn sequence(example: &mut Example) -> Vec<i64> {
    vec![example.shape[0], 1 + example.random.below(5) as i64, example.shape[1]]
}

fn groups(op: &Op) -> i64 {
    match op {
        Op::Conv { groups, .. } | Op::ConvTranspose { groups, .. } => *groups,
        _ => 1,
    }
}

fn window_weight(op: &Op, channels: i64, spatial: usize, random: &mut Random) -> Vec<i64> {
    let groups = groups(op);
    let other = 1 + random.below(3) as i64;
    let mut sizes = match op {
        Op::Conv { .. } => vec![groups * other, channels / groups],
        _ => vec![channels, other],
    };
    for _ in 0..spatial {
        sizes.push(1 + random.below(3) as i64);
    }
    sizes
}

/// Random attributes of a convolution; half of them pad nothing and half have one group, since many rules want that.
fn window(head: &str, spatial: usize, channels: i64, random: &mut Random) -> Op {
    let mut list = |n: usize, from: i64, choices: u64| -> Vec<i64> {
        (0..n).map(|_| from + random.below(choices) as i64).collect()
    };
    let (strides, dilations) = (list(spatial, 1, 2), list(spatial, 1, 2));
    let mut pads = list(2 * spatial, 0, 2);
    let output_padding = vec![0; spatial];
    if random.below(2) == 0 {
        pads.fill(0);
    }
    let divisors: Vec<i64> = (1..=channels).filter(|g| channels % g == 0).collect();
    let groups = match random.below(3) {
        0 => 1,
        1 => channels,
        _ => divisors[random.below(divisors.len() as u64) as usize],
    };
    match head {
        "conv" => Op::Conv { strides, pads, dilations, groups, layout: ImageLayout::ChannelsFirst },
        _ => Op::ConvTranspose { strides, pads, dilations, output_padding, groups },
    }
}

fn pool(head: &str, spatial: usize, random: &mut Random) -> Op {
    let mut list = |n: usize, from: i64, choices: u64| -> Vec<i64> {
        (0..n).map(|_| from + random.below(choices) as i64).collect()
    };
    let (kernel, strides, pads) = (list(spatial, 2, 2), list(spatial, 1, 2), list(2 * spatial, 0, 2));
    let (dilations, layout) = (vec![1; spatial], ImageLayout::ChannelsFirst);
    match head {
        "max_pool" => Op::MaxPool { kernel, strides, pads, dilations, ceil: false, layout },
        _ => Op::AvgPool {
            kernel,
            strides,
            pads,
            dilations,
            ceil: false,
            count_pads: random.below(2) == 0,
            layout,
        },
    }
}

/// Sizes that broadcast to `sizes`: those of a scalar, of one axis, or all, with or without leading ones.
fn broadcastable(sizes: &[i64], random: &mut Random) -> Vec<i64> {
    let axis = random.below(sizes.len() as u64 + 2) as usize;
    let mut shape: Vec<i64> = sizes.iter().enumerate().map(|(i, s)| if i == axis { *s } else { 1 }).collect();
    match axis.cmp(&sizes.len()) {
        std::cmp::Ordering::Less => {}
        std::cmp::Ordering::Equal => shape.clear(),
        std::cmp::Ordering::Greater => shape.copy_from_slice(sizes),
    }
    let ones = shape.iter().take_while(|s| **s == 1).count();
    shape.drain(..random.below(ones as u64 + 1) as usize);
    shape
}
