//! Heads that bring one weight into the form that another weight needs.

use qcc_ir::{Dim, Float, Op};

use super::{Head, Operand, Steps, tensor};
use crate::equivalence::facts::Facts;

/// The heads.
pub(super) const HEADS: &[Head] = &[
    Head {
        name: "epsilon",
        arity: 2,
        doc: "(epsilon ?n ?v): the epsilon of the batch_norm attributes ?n, as often as ?v has elements",
        lower: |children| match children[0] {
            Facts::Attributes(op) => match &**op {
                // Clamping to one number makes it, in full precision, without a constant that would round it.
                Op::BatchNorm { epsilon } => Ok(one(1, Op::Clamp { min: *epsilon, max: *epsilon })),
                other => {
                    Err(format!("`epsilon` needs the attributes of a batch_norm, not of a {}", other.name()))
                }
            },
            _ => Err("`epsilon` needs attributes".into()),
        },
    },
    Head {
        name: "ones",
        arity: 1,
        doc: "(ones ?w): a tensor of ones of the type of ?w",
        lower: |_| Ok(one(0, Op::Clamp { min: Float(1.0), max: Float(1.0) })),
    },
    Head {
        name: "rows",
        arity: 2,
        doc: "(rows ?w ?k): ?k, of one element or one for each row of ?w, to be broadcast along axis 0 of ?w",
        lower: |children| along(children, 0),
    },
    Head {
        name: "columns",
        arity: 2,
        doc: "(columns ?w ?k): ?k, of one element or one for each column of ?w, to be broadcast along axis 1 of ?w",
        lower: |children| along(children, 1),
    },
    Head {
        name: "vector",
        arity: 2,
        doc: "(vector ?w ?k): ?k, of one element or one for each row of ?w, as a vector with one element for each row",
        lower: |children| {
            let (w, k) = (tensor(children[0])?, tensor(children[1])?);
            let rows = w.dims.first().ok_or("`vector` needs a tensor with rows")?.clone();
            let elements = k.elements().ok_or("a size overflows")?;
            let mut steps = Steps::default();
            if elements == rows {
                steps.push(Op::Reshape { shape: vec![rows] }, [Operand::Child(1)]);
                return Ok(steps);
            }
            match elements {
                Dim::Const(1) => {
                    let scalar = steps.push(Op::Reshape { shape: Vec::new() }, [Operand::Child(1)]);
                    steps.push(Op::Broadcast { shape: vec![rows] }, [scalar]);
                    Ok(steps)
                }
                _ => Err(format!("{k:?} has neither one element nor {rows}")),
            }
        },
    },
    Head {
        name: "lowered",
        arity: 2,
        doc: "(lowered ?b ?v): the bias ?b minus ?v, and −?v where there is no bias",
        lower: |children| {
            if *children[0] == Facts::Absent {
                return Ok(one(1, Op::Neg {}));
            }
            let mut steps = Steps::default();
            steps.push(Op::Sub {}, [Operand::Child(0), Operand::Child(1)]);
            Ok(steps)
        },
    },
    Head {
        name: "sum_inner",
        arity: 1,
        doc: "(sum_inner ?w): the sum of each row of ?w, over all axes but the first",
        lower: |children| {
            let rank = tensor(children[0])?.rank() as i64;
            Ok(one(0, Op::ReduceSum { axes: (1..rank).collect(), keep_dims: false }))
        },
    },
];

fn one(child: usize, op: Op) -> Steps {
    let mut steps = Steps::default();
    steps.push(op, [Operand::Child(child)]);
    steps
}

fn along(children: &[&Facts], axis: usize) -> Result<Steps, String> {
    let (w, k) = (tensor(children[0])?, tensor(children[1])?);
    let size = w.dims.get(axis).ok_or_else(|| format!("{w} has no axis {axis}"))?;
    let elements = k.elements().ok_or("a size overflows")?;
    let mut shape = vec![Dim::Const(1); w.rank()];
    if elements == *size {
        shape[axis] = size.clone();
    } else if elements == Dim::Const(1) {
        shape.clear();
    } else {
        return Err(format!("{k:?} has neither one element nor {size}"));
    }
    Ok(one(1, Op::Reshape { shape }))
}
