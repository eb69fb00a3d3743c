//! What a head means: an operation of the IR, or, for the heads that only rules use, operations that depend on the types of the children.
//! Such heads keep rules free of shapes: `(rows ?w ?k)` is `?k` in the form that multiplies the rows of `?w`, whatever its rank.

mod transforms;
mod weights;

use qcc_ir::{Op, OpSpec, TensorType, infer::infer};
use smallvec::SmallVec;

use super::facts::Facts;
use super::language::{has_attributes, plain_op};

/// What an operation of a lowered head works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A child of the head.
    Child(usize),
    /// The result of an earlier operation.
    Step(usize),
}

/// One operation of a lowered head.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The operation; it has one result.
    pub op: Op,
    /// Its operands.
    pub operands: SmallVec<[Operand; 2]>,
}

/// The operations a head stands for; the last one gives its value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steps(pub Vec<Step>);

impl Steps {
    /// Adds an operation; returns its result.
    pub fn push(&mut self, op: Op, operands: impl IntoIterator<Item = Operand>) -> Operand {
        self.0.push(Step { op, operands: operands.into_iter().collect() });
        Operand::Step(self.0.len() - 1)
    }
}

/// A head that only rules use.
pub struct Head {
    /// Its name in rules.
    pub name: &'static str,
    /// How many children it takes.
    pub arity: usize,
    /// What it stands for.
    pub doc: &'static str,
    /// The operations, for children with these facts.
    lower: fn(&[&Facts]) -> Result<Steps, String>,
}

/// All heads that only rules use, but for [`FIRST`] and [`SECOND`].
pub fn heads() -> impl Iterator<Item = &'static Head> {
    weights::HEADS.iter().chain(transforms::HEADS)
}

/// The head of this name.
pub fn find(name: &str) -> Option<&'static Head> {
    heads().find(|h| h.name == name)
}

/// The first result of an operation with several.
pub const FIRST: &str = "first";
/// The second result of an operation with several.
pub const SECOND: &str = "second";

/// Which result of an operation with several a head names.
pub fn projection(head: &str) -> Option<usize> {
    match head {
        FIRST => Some(0),
        SECOND => Some(1),
        _ => None,
    }
}

/// The operations an application stands for.
pub enum Meaning {
    /// One operation; its operands are the children from this one on.
    Op(Op, usize),
    /// Operations one after the other.
    Steps(Steps),
    /// A result of the only child.
    Projection(usize),
}

/// What `head` means on these children.
///
/// # Errors
/// When there is no such head, or the children do not fit it.
pub fn meaning(head: &str, children: &[&Facts]) -> Result<Meaning, String> {
    if let Some(own) = find(head) {
        if children.len() != own.arity {
            return Err(format!("`{head}` takes {} operands", own.arity));
        }
        return (own.lower)(children).map(Meaning::Steps);
    }
    if let Some(result) = projection(head) {
        return Ok(Meaning::Projection(result));
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

/// The types of what an application yields.
///
/// # Errors
/// When the children do not fit.
pub fn result_types(head: &str, children: &[&Facts]) -> Result<SmallVec<[TensorType; 2]>, String> {
    match meaning(head, children)? {
        Meaning::Op(op, from) => {
            let operands: SmallVec<[Option<&TensorType>; 8]> =
                children[from..].iter().map(|c| c.tensor().map(|t| &t.ty)).collect();
            infer(&op, &operands, None).map_err(|e| e.to_string())
        }
        Meaning::Steps(steps) => {
            let mut types: Vec<TensorType> = Vec::with_capacity(steps.0.len());
            for step in &steps.0 {
                let operands = step.operands.iter().map(|operand| match operand {
                    Operand::Child(i) => children[*i].tensor().map(|t| &t.ty),
                    Operand::Step(i) => types.get(*i),
                });
                let operands: Vec<Option<&TensorType>> = operands.collect();
                let made = infer(&step.op, &operands, None).map_err(|e| e.to_string())?.pop();
                types.push(made.ok_or_else(|| format!("`{head}` has a step without a result"))?);
            }
            types.pop().map(|ty| [ty].into_iter().collect()).ok_or_else(|| format!("`{head}` does nothing"))
        }
        Meaning::Projection(result) => match children {
            [Facts::Tuple(types)] => {
                let ty = types.get(result).ok_or_else(|| format!("there is no `{head}` result"))?;
                Ok([ty.clone()].into_iter().collect())
            }
            _ => Err(format!("`{head}` takes an operation with several results")),
        },
    }
}

/// The type of a child that must be a tensor.
fn tensor(facts: &Facts) -> Result<&TensorType, String> {
    facts.tensor().map(|t| &t.ty).ok_or_else(|| "a tensor is needed where there is none".into())
}
