//! What a head means: an operation of the IR, or, for the heads that only rules use, operations that depend on the types of the children.
//! Such heads keep rules free of shapes: `(rows ?w ?k)` is `?k` in the form that multiplies the rows of `?w`, whatever its rank.

use qcc_ir::{Dim, Op, OpSpec, TensorType, infer::infer};

use super::facts::Facts;
use super::language::{has_attributes, plain_op};

/// The child that is worked on, and what is done to it.
type Chain = (usize, Vec<Op>);

/// A head that only rules use.
pub struct Head {
    /// Its name in rules.
    pub name: &'static str,
    /// How many children it takes.
    pub arity: usize,
    /// What it stands for.
    pub doc: &'static str,
    /// The child it works on, and the operations it does to it, in order.
    lower: fn(&[&Facts]) -> Result<Chain, String>,
}

/// All heads that only rules use.
pub const HEADS: &[Head] = &[
    Head {
        name: "epsilon",
        arity: 2,
        doc: "(epsilon ?n ?v): the epsilon of the batch_norm attributes ?n, as often as ?v has elements",
        lower: |children| match children[0] {
            Facts::Attributes(op) => match &**op {
                // Clamping to one number makes it, in full precision, without a constant that would round it.
                Op::BatchNorm { epsilon } => Ok((1, vec![Op::Clamp { min: *epsilon, max: *epsilon }])),
                other => {
                    Err(format!("`epsilon` needs the attributes of a batch_norm, not of a {}", other.name()))
                }
            },
            _ => Err("`epsilon` needs attributes".into()),
        },
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
            if elements == rows {
                return Ok((1, vec![Op::Reshape { shape: vec![rows] }]));
            }
            match elements {
                Dim::Const(1) => {
                    Ok((1, vec![Op::Reshape { shape: Vec::new() }, Op::Broadcast { shape: vec![rows] }]))
                }
                _ => Err(format!("{k:?} has neither one element nor {rows}")),
            }
        },
    },
    Head {
        name: "sum_inner",
        arity: 1,
        doc: "(sum_inner ?w): the sum of each row of ?w, over all axes but the first",
        lower: |children| {
            let rank = tensor(children[0])?.rank() as i64;
            Ok((0, vec![Op::ReduceSum { axes: (1..rank).collect(), keep_dims: false }]))
        },
    },
];

fn tensor(facts: &Facts) -> Result<&TensorType, String> {
    facts.tensor().map(|t| &t.ty).ok_or_else(|| "a tensor is needed where there is none".into())
}

fn along(children: &[&Facts], axis: usize) -> Result<Chain, String> {
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
    Ok((1, vec![Op::Reshape { shape }]))
}

/// The operations an application stands for.
pub enum Meaning {
    /// One operation; its operands are the children from this one on.
    Op(Op, usize),
    /// Operations one after the other, the first on this child.
    Chain(usize, Vec<Op>),
}

/// What `head` means on these children.
///
/// # Errors
/// When there is no such head, or the children do not fit it.
pub fn meaning(head: &str, children: &[&Facts]) -> Result<Meaning, String> {
    if let Some(own) = HEADS.iter().find(|h| h.name == head) {
        if children.len() != own.arity {
            return Err(format!("`{head}` takes {} operands", own.arity));
        }
        let (child, ops) = (own.lower)(children)?;
        return Ok(Meaning::Chain(child, ops));
    }
    let spec = OpSpec::find(head).ok_or_else(|| format!("there is no operation `{head}`"))?;
    if !has_attributes(spec) {
        return plain_op(head).map(|op| Meaning::Op(op, 0)).ok_or_else(|| format!("`{head}` has attributes"));
    }
    match children.first() {
        Some(Facts::Attributes(op)) if op.name() == head => Ok(Meaning::Op((**op).clone(), 1)),
        _ => Err(format!("the first operand of `{head}` must be the attributes of a {head}")),
    }
}

/// The type of an application.
///
/// # Errors
/// When the children do not fit.
pub fn result_type(head: &str, children: &[&Facts]) -> Result<TensorType, String> {
    let one = |op: &Op, operands: &[Option<&TensorType>]| {
        let mut types = infer(op, operands, None).map_err(|e| e.to_string())?;
        if types.len() == 1 { Ok(types.remove(0)) } else { Err(format!("`{head}` has several results")) }
    };
    match meaning(head, children)? {
        Meaning::Op(op, from) => {
            let operands: Vec<Option<&TensorType>> =
                children[from..].iter().map(|c| c.tensor().map(|t| &t.ty)).collect();
            one(&op, &operands)
        }
        Meaning::Chain(child, ops) => {
            let start = tensor(children[child])?.clone();
            ops.iter().try_fold(start, |ty, op| one(op, &[Some(&ty)]))
        }
    }
}
