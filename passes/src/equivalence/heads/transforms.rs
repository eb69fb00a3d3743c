//! Heads of transforms: what is done to the features of a value, here the last axis unless a name says otherwise. On an activation they
//! are work at run time; rules push them towards the weights, where they are a weight expression. Algebra with matrices is done in f64 and
//! rounded once.

use qcc_ir::{Dim, ElementType, Op, TensorType};

use super::{Head, Operand, Steps, tensor};
use crate::equivalence::facts::Facts;

/// The heads.
pub(super) const HEADS: &[Head] = &[
    Head {
        name: "scale",
        arity: 2,
        doc: "(scale ?x ?s): each feature of ?x times its element of ?s",
        lower: |children| {
            check_features("scale", children)?;
            Ok(two(Op::Mul {}))
        },
    },
    Head {
        name: "shift",
        arity: 2,
        doc: "(shift ?x ?v): each feature of ?x plus its element of ?v",
        lower: |children| {
            check_features("shift", children)?;
            Ok(two(Op::Add {}))
        },
    },
    Head {
        name: "scale_channels",
        arity: 2,
        doc: "(scale_channels ?x ?s): each channel (axis 1) of ?x times its element of ?s",
        lower: |children| {
            let x = tensor(children[0])?;
            let mut shape = vec![Dim::Const(1); x.rank().saturating_sub(1)];
            *shape.first_mut().ok_or("`scale_channels` needs channels")? = x.dims[1].clone();
            let mut steps = Steps::default();
            let s = steps.push(Op::Reshape { shape }, [Operand::Child(1)]);
            steps.push(Op::Mul {}, [Operand::Child(0), s]);
            Ok(steps)
        },
    },
    Head {
        name: "scale_rows",
        arity: 2,
        doc: "(scale_rows ?h ?s): each row (the axis before the last) of ?h times its element of ?s",
        lower: |children| {
            let x = tensor(children[0])?;
            let rows = x.rank().checked_sub(2).ok_or("`scale_rows` needs rows")?;
            let mut steps = Steps::default();
            let shape = vec![x.dims[rows].clone(), Dim::Const(1)];
            let s = steps.push(Op::Reshape { shape }, [Operand::Child(1)]);
            steps.push(Op::Mul {}, [Operand::Child(0), s]);
            Ok(steps)
        },
    },
    Head {
        name: "rotate",
        arity: 2,
        doc: "(rotate ?x ?r): ?x · ?r, for a square matrix ?r",
        lower: |children| rotated(children, true),
    },
    Head {
        name: "rotate_back",
        arity: 2,
        doc: "(rotate_back ?x ?r): ?x · ?rᵀ",
        lower: |children| rotated(children, false),
    },
    Head {
        name: "rotate_rows",
        arity: 2,
        doc: "(rotate_rows ?w ?r): ?rᵀ · ?w, for a matrix ?w",
        lower: |children| {
            let w = tensor(children[0])?;
            let mut steps = Steps::default();
            let turn = || Op::Transpose { permutation: vec![1, 0] };
            let back = steps.push(turn(), [Operand::Child(1)]);
            let wide = steps.push(Op::Cast { to: ElementType::F64 }, [Operand::Child(0)]);
            let y = steps.push(Op::Matmul {}, [back, wide]);
            steps.push(Op::Cast { to: w.element }, [y]);
            Ok(steps)
        },
    },
    Head {
        name: "hadamard_rows",
        arity: 2,
        doc: "(hadamard_rows ?a ?w): the columns of the matrix ?w through the Hadamard transform ?a",
        lower: |children| {
            let Facts::Attributes(op) = children[0] else {
                return Err("`hadamard_rows` needs the attributes of a hadamard".into());
            };
            let turn = || Op::Transpose { permutation: vec![1, 0] };
            let mut steps = Steps::default();
            let turned = steps.push(turn(), [Operand::Child(1)]);
            let y = steps.push((**op).clone(), [turned]);
            steps.push(turn(), [y]);
            Ok(steps)
        },
    },
    Head {
        name: "hadamard_back",
        arity: 2,
        doc: "(hadamard_back ?a ?x): ?x through the inverse of the Hadamard transform ?a",
        lower: |children| {
            let Some(Op::Hadamard { size, transpose }) = children[0].attributes() else {
                return Err("`hadamard_back` needs the attributes of a hadamard".into());
            };
            let mut steps = Steps::default();
            steps.push(Op::Hadamard { size: *size, transpose: !transpose }, [Operand::Child(1)]);
            Ok(steps)
        },
    },
    Head {
        name: "hadamard_state",
        arity: 2,
        doc: "(hadamard_state ?a ?h): the axis before the last of ?h through the Hadamard transform ?a",
        lower: |children| {
            let Some(op @ Op::Hadamard { .. }) = children[0].attributes() else {
                return Err("`hadamard_state` needs the attributes of a hadamard".into());
            };
            let rank = tensor(children[1])?.rank() as i64;
            let mut permutation: Vec<i64> = (0..rank).collect();
            let last = permutation.len();
            if last < 2 {
                return Err("`hadamard_state` needs two axes".into());
            }
            permutation.swap(last - 2, last - 1);
            let turn = || Op::Transpose { permutation: permutation.clone() };
            let mut steps = Steps::default();
            let turned = steps.push(turn(), [Operand::Child(1)]);
            let y = steps.push(op.clone(), [turned]);
            steps.push(turn(), [y]);
            Ok(steps)
        },
    },
    Head {
        name: "contract",
        arity: 2,
        doc: "(contract ?h ?c): the sum over the last axis of ?h `[…, D, N]` times ?c `[…, N]`",
        lower: |children| {
            let (h, c) = (tensor(children[0])?, tensor(children[1])?);
            let rows = h.rank().checked_sub(1).filter(|rows| *rows == c.rank());
            let rows = rows.ok_or_else(|| format!("`contract` cannot multiply {h:?} with {c:?}"))?;
            let column = c.dims.iter().cloned().chain([Dim::Const(1)]).collect();
            let mut steps = Steps::default();
            let column = steps.push(Op::Reshape { shape: column }, [Operand::Child(1)]);
            let y = steps.push(Op::Matmul {}, [Operand::Child(0), column]);
            steps.push(Op::Reshape { shape: h.dims[..rows].to_vec() }, [y]);
            Ok(steps)
        },
    },
    Head {
        name: "centred_norm",
        arity: 3,
        doc: "(centred_norm ?n ?x ?g): the layer norm ?n, without bias, of ?x, whose features have mean 0",
        lower: |children| match children[0].attributes() {
            Some(Op::LayerNorm { epsilon, .. }) => {
                let mut steps = Steps::default();
                let norm = Op::RmsNorm { epsilon: *epsilon };
                steps.push(norm, [Operand::Child(1), Operand::Child(2)]);
                Ok(steps)
            }
            _ => Err("`centred_norm` needs the attributes of a layer_norm".into()),
        },
    },
    Head {
        name: "bounded",
        arity: 3,
        doc: "(bounded ?a ?x ?s): each channel (axis 1) of ?x clamped to the bounds of the clamp ?a times its element of ?s",
        lower: |children| {
            let Some(Op::Clamp { min, max }) = children[0].attributes() else {
                return Err("`bounded` needs the attributes of a clamp".into());
            };
            let x = tensor(children[1])?;
            let mut shape = vec![Dim::Const(1); x.rank().saturating_sub(1)];
            *shape.first_mut().ok_or("`bounded` needs channels")? = x.dims[1].clone();
            let mut steps = Steps::default();
            if !min.0.is_finite() && !max.0.is_finite() {
                steps.push(Op::Clamp { min: *min, max: *max }, [Operand::Child(1)]);
                return Ok(steps);
            }
            let s = steps.push(Op::Reshape { shape }, [Operand::Child(2)]);
            let mut y = Operand::Child(1);
            for (bound, op) in [(min, Op::Max {}), (max, Op::Min {})] {
                if bound.0 == 0.0 && op == (Op::Max {}) {
                    y = steps.push(Op::Relu {}, [y]);
                } else if bound.0.is_finite() {
                    let one = steps.push(Op::Clamp { min: *bound, max: *bound }, [s]);
                    let bounds = steps.push(Op::Mul {}, [one, s]);
                    y = steps.push(op, [y, bounds]);
                }
            }
            Ok(steps)
        },
    },
    Head {
        name: "centre",
        arity: 1,
        doc: "(centre ?x): ?x minus the mean of its features",
        lower: |children| {
            let last = tensor(children[0])?.rank().checked_sub(1).ok_or("`centre` needs an axis")?;
            Ok(centred(last as i64))
        },
    },
    Head {
        name: "centre_rows",
        arity: 1,
        doc: "(centre_rows ?w): the matrix ?w minus the mean of its rows",
        lower: |_| Ok(centred(0)),
    },
    Head {
        name: "permute",
        arity: 2,
        doc: "(permute ?x ?p): the features of ?x in the order of the indices ?p",
        lower: |children| {
            let last = tensor(children[0])?.rank().checked_sub(1).ok_or("`permute` needs an axis")?;
            Ok(two(Op::Gather { axis: last as i64 }))
        },
    },
    Head {
        name: "permute_rows",
        arity: 2,
        doc: "(permute_rows ?w ?p): the rows (axis 0) of ?w in the order of the indices ?p",
        lower: |_| Ok(two(Op::Gather { axis: 0 })),
    },
    Head {
        name: "permute_state",
        arity: 2,
        doc: "(permute_state ?h ?p): the rows (the axis before the last) of ?h in the order of the indices ?p",
        lower: |children| {
            let rows = tensor(children[0])?.rank().checked_sub(2).ok_or("`permute_state` needs rows")?;
            Ok(two(Op::Gather { axis: rows as i64 }))
        },
    },
];

/// `op` on both children.
fn two(op: Op) -> Steps {
    let mut steps = Steps::default();
    steps.push(op, [Operand::Child(0), Operand::Child(1)]);
    steps
}

fn centred(axis: i64) -> Steps {
    let mut steps = Steps::default();
    let mean = steps.push(Op::ReduceMean { axes: vec![axis], keep_dims: true }, [Operand::Child(0)]);
    steps.push(Op::Sub {}, [Operand::Child(0), mean]);
    steps
}

/// Whether the second child is a vector with an element for each feature of the first.
fn check_features(head: &str, children: &[&Facts]) -> Result<(), String> {
    let (x, s) = (tensor(children[0])?, tensor(children[1])?);
    if s.rank() == 1 && s.dims.last() == x.dims.last() {
        return Ok(());
    }
    Err(format!("`{head}` needs a vector with an element for each feature of {x:?}, not {s:?}"))
}

fn rotated(children: &[&Facts], forward: bool) -> Result<Steps, String> {
    let (x, r): (&TensorType, &TensorType) = (tensor(children[0])?, tensor(children[1])?);
    if r.rank() != 2 || r.dims[0] != r.dims[1] || x.dims.last() != Some(&r.dims[0]) {
        return Err(format!("a square matrix of the size of the features of {x:?} is needed, not {r:?}"));
    }
    let mut steps = Steps::default();
    // `linear` multiplies with the transpose of its weight.
    let r = match forward {
        true => steps.push(Op::Transpose { permutation: vec![1, 0] }, [Operand::Child(1)]),
        false => Operand::Child(1),
    };
    if children[0].is_free() {
        let wide = steps.push(Op::Cast { to: ElementType::F64 }, [Operand::Child(0)]);
        let y = steps.push(Op::Linear {}, [wide, r]);
        steps.push(Op::Cast { to: x.element }, [y]);
    } else {
        let r = steps.push(Op::Cast { to: x.element }, [r]);
        steps.push(Op::Linear {}, [Operand::Child(0), r]);
    }
    Ok(steps)
}
