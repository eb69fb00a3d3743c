//! Shape arithmetic with symbols: integers such as `Shape` of a batch of any length yields, and the operators that exporters put between
//! `Shape` and `Reshape`.
//!
//! Operators that only move elements run on *handles*: each size is numbered, the ordinary importer of the operator runs on the numbers,
//! and what comes out names the sizes again. So no such operator is described twice.

use qcc_ir::{Dense, Dim, ElementType, ValueId};

use crate::call::{Call, Outputs, Result};
use crate::element::element_type;
use crate::graph::Bound;
use crate::import::Handler;

/// Most sizes that one node works on: real ones have a handful, and many operands of a hostile one could add up.
const LARGEST_TABLE: usize = 4096;

/// An integer tensor with symbolic elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sizes {
    /// Its own sizes.
    pub dims: Vec<i64>,
    /// The elements, row-major.
    pub elements: Vec<Dim>,
}

impl Sizes {
    /// As an `i64` constant, if no element has a symbol.
    pub fn constant(&self) -> Option<Dense> {
        let values: Option<Vec<i64>> = self.elements.iter().map(Dim::constant).collect();
        values.map(|values| Dense::i64(&self.dims, &values))
    }
}

/// The outputs of a node one of whose data operands is symbolic; `None` when none is, or the operator reads sizes by itself.
pub(crate) fn evaluate(call: &mut Call<'_>, op_type: &str, handler: Handler) -> Result<Option<Vec<Bound>>> {
    let symbolic = |i: &usize| matches!(call.bound(*i), Some(Bound::Sizes(_)));
    let data = match op_type {
        "Concat" | "Add" | "Sub" | "Mul" | "Div" => call.operands.len(),
        "Gather" | "Slice" | "Squeeze" | "Unsqueeze" | "Reshape" | "Transpose" | "Identity" | "Split"
        | "Cast" => 1,
        _ => return Ok(None),
    };
    if !(0..data).any(|i| symbolic(&i)) {
        return Ok(None);
    }
    // Beside what only run time knows, sizes are numbers as all others.
    let unknown = |i: usize| matches!(call.bound(i), Some(Bound::Value(v)) if call.known_ints(*v).is_none());
    if matches!(op_type, "Add" | "Sub" | "Mul" | "Div") && (0..data).any(unknown) {
        let element = call.x(usize::from(!unknown(0)))?;
        let element = call.element(element);
        for input in (0..data).filter(|i| matches!(call.bound(*i), Some(Bound::Sizes(_)))).collect::<Vec<_>>()
        {
            let value = call.value(input)?;
            call.operands[input] = Some(crate::import::cast(call, value, element)?.into());
        }
        return Ok(None);
    }
    match op_type {
        "Add" => arithmetic(call, "sum", |a, b| a.checked_add(b)).map(Some),
        "Sub" => arithmetic(call, "difference", |a, b| a.checked_sub(b)).map(Some),
        "Mul" => arithmetic(call, "product", |a, b| a.checked_mul(b)).map(Some),
        "Div" => arithmetic(call, "quotient", |a, b| a.checked_div(b)).map(Some),
        "Cast" => cast(call).map(Some),
        _ => {
            let mut table = Vec::new();
            for input in 0..data {
                let handles = handles(call, input, &mut table)?;
                call.operands[input] = Some(handles.into());
            }
            let outputs = handler(call)?;
            outputs.into_iter().map(|o| named(call, o, &table)).collect::<Result<_>>().map(Some)
        }
    }
}

/// An operand as a constant of positions in `table`.
fn handles(call: &mut Call<'_>, input: usize, table: &mut Vec<Dim>) -> Result<ValueId> {
    let sizes = match call.bound(input) {
        Some(Bound::Sizes(sizes)) => sizes.clone(),
        _ => {
            let value = call.x(input)?;
            let dims = call.ty(value).constant_dims().ok_or("sizes of sizes are constants")?;
            let elements = call.sizes(input, "sizes")?.ok_or("a size is missing")?;
            Sizes { dims, elements }
        }
    };
    if table.len() + sizes.elements.len() > LARGEST_TABLE {
        return Err(format!("it computes with more than {LARGEST_TABLE} symbolic sizes"));
    }
    let first = table.len() as i64;
    let numbers: Vec<i64> = (first..).take(sizes.elements.len()).collect();
    table.extend(sizes.elements);
    call.constant(Dense::i64(&sizes.dims, &numbers))
}

/// The sizes whose positions in `table` an output holds.
fn named(call: &mut Call<'_>, output: Bound, table: &[Dim]) -> Result<Bound> {
    let Bound::Value(value) = output else { return Ok(output) };
    let numbers = call.known_ints(value).ok_or("more sizes than can be looked at")?;
    let dims = call.ty(value).constant_dims().ok_or("sizes of sizes are constants")?;
    let elements = numbers.into_iter().map(|n| usize::try_from(n).ok().and_then(|n| table.get(n)).cloned());
    let elements = elements.collect::<Option<Vec<Dim>>>().ok_or("a size outside the operands")?;
    call.shape_value(Sizes { dims, elements })
}

/// An elementwise operator, with broadcasting.
fn arithmetic(call: &mut Call<'_>, what: &str, f: impl Fn(&Dim, &Dim) -> Option<Dim>) -> Outputs {
    let mut table = Vec::new();
    let (a, b) = (handles(call, 0, &mut table)?, handles(call, 1, &mut table)?);
    let shape = qcc_ir::infer::broadcast_dims(&call.dims(a), &call.dims(b));
    let shape = shape.ok_or_else(|| format!("{:?} and {:?} do not broadcast", call.dims(a), call.dims(b)))?;
    let dims: Option<Vec<i64>> = shape.iter().map(Dim::constant).collect();
    let dims = dims.ok_or("sizes of sizes are constants")?;
    let mut sides = Vec::new();
    for side in [a, b] {
        let side = call.broadcast(side, shape.clone())?;
        sides.push(call.known_ints(side).ok_or("more sizes than can be looked at")?);
    }
    let at =
        |n: &i64| usize::try_from(*n).ok().and_then(|n| table.get(n)).ok_or("a size outside the operands");
    let mut elements = Vec::new();
    for (a, b) in sides[0].iter().zip(&sides[1]) {
        let (a, b) = (at(a)?, at(b)?);
        elements.push(f(a, b).ok_or_else(|| {
            format!("the {what} of {a} and {b} is no whole number of elements for every value of the symbols; export the model with fixed input sizes")
        })?);
    }
    Ok(vec![call.shape_value(Sizes { dims, elements })?])
}

/// A cast between integers keeps sizes as they are.
fn cast(call: &mut Call<'_>) -> Outputs {
    let to = call
        .attributes
        .int("to")?
        .and_then(|to| i32::try_from(to).ok())
        .ok_or("it does not say `to` what")?;
    call.attributes.ignore(&["saturate"]);
    match element_type(to)? {
        ElementType::I64 | ElementType::I32 => {
            Ok(vec![call.operands[0].clone().ok_or("input 0 is missing")?])
        }
        other => {
            let value = call.value(0)?;
            Ok(vec![crate::import::cast(call, value, other)?.into()])
        }
    }
}
