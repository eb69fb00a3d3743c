//! From the shapes a caller passes to the values of the symbols, and from those to the shapes and sizes of other tensors.

use crate::program::{Entry, Expr, Port, Program};
use crate::{Element, RuntimeError};

/// Shape of a tensor and the bytes it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub dims: Vec<u64>,
    pub bytes: u64,
    /// Bytes of an element.
    pub element: u64,
}

/// Binds symbols to what the inputs' shapes say. `symbols` holds nothing yet, and is as long as the program has symbols.
pub(crate) fn bind<'a>(
    program: &Program,
    entry: &Entry,
    shapes: impl ExactSizeIterator<Item = &'a [u64]>,
    symbols: &mut [Option<u64>],
) -> Result<(), RuntimeError> {
    check_count(entry, "inputs", entry.inputs.len(), shapes.len())?;
    for (port, shape) in entry.inputs.iter().zip(shapes) {
        let fail =
            |message: String| Err(RuntimeError::Tensor { what: "input", name: port.name.clone(), message });
        let expected = || shape_names(program, port);
        if shape.len() != port.dims.len() {
            return fail(format!("shape {shape:?} where {} is expected", expected()));
        }
        for (axis, (dim, &size)) in port.dims.iter().zip(shape).enumerate() {
            match dim {
                Expr::Symbol(s) => match symbols[*s as usize] {
                    None => symbols[*s as usize] = Some(size),
                    Some(bound) if bound == size => {}
                    Some(bound) => {
                        let name = &program.symbols[*s as usize];
                        return fail(format!(
                            "shape {shape:?}: dimension {axis} is `{name}`, which is {bound} elsewhere"
                        ));
                    }
                },
                Expr::Const(n) if *n == size => {}
                _ => return fail(format!("shape {shape:?} where {} is expected", expected())),
            }
        }
    }
    Ok(())
}

/// Errors where a size is more than the model has something for.
pub(crate) fn check_limits(entry: &Entry, symbols: &[u64]) -> Result<(), RuntimeError> {
    for limit in &entry.limits {
        let (value, most) = (limit.size.evaluate(symbols)?, limit.most.evaluate(symbols)?);
        if value > most {
            let (size, place) = (limit.name.clone(), limit.place.clone());
            return Err(RuntimeError::Limit { size, value, most, place });
        }
    }
    Ok(())
}

/// Errors unless as many tensors were passed as the entry point takes.
pub(crate) fn check_count(
    entry: &Entry,
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), RuntimeError> {
    if expected == found {
        return Ok(());
    }
    Err(RuntimeError::Count { entry: entry.name.clone(), what, expected, found })
}

/// Shape and size of a tensor, with the symbols bound.
pub(crate) fn extent(port: &Port, symbols: &[u64]) -> Result<Extent, RuntimeError> {
    let dims = port.dims.iter().map(|d| d.evaluate(symbols)).collect::<Result<Vec<u64>, _>>()?;
    let bytes = byte_size(port, &dims).ok_or_else(|| RuntimeError::Overflow { symbols: symbols.to_vec() })?;
    let element = Element::named(&port.element).map_or(1, Element::bytes);
    Ok(Extent { dims, bytes, element })
}

/// Bytes that a tensor of this shape takes; none when they overflow.
pub(crate) fn byte_size(port: &Port, dims: &[u64]) -> Option<u64> {
    let element = Element::named(&port.element).expect("invariant: the program was validated");
    // Overflow counts even where a later dimension is 0: kernels multiply strides too.
    dims.iter().try_fold(element.bytes(), |n, d| n.checked_mul(*d))
}

/// A port's shape for messages, `[batch, 224, 224, 3]`.
fn shape_names(program: &Program, port: &Port) -> String {
    let names: Vec<String> = port
        .dims
        .iter()
        .map(|dim| match dim {
            Expr::Const(n) => n.to_string(),
            Expr::Symbol(s) => program.symbols[*s as usize].clone(),
            other => format!("{other:?}"),
        })
        .collect();
    format!("[{}]", names.join(", "))
}
