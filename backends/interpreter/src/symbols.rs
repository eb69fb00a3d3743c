//! Symbolic sizes: bound from the inputs, checked for consistency, and put into types and shape attributes.

use std::collections::BTreeMap;

use qcc_ir::{Dim, Function, Op, Str, TensorType};
use qcc_params::Tensor;

use crate::error::InterpretError;

/// Sizes by symbol, with the input that bound each.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    sizes: BTreeMap<Str, (i64, Str)>,
}

impl Symbols {
    /// Binds the symbols of a function's arguments: bare symbols take the sizes of the inputs, compound sizes must then agree.
    pub fn bind(function: &Function, inputs: &[Tensor]) -> Result<Symbols, InterpretError> {
        let arguments = function.arguments();
        if arguments.len() != inputs.len() {
            return Err(InterpretError::InputCount {
                function: function.name.clone(),
                expected: arguments.len(),
                got: inputs.len(),
            });
        }
        let mut symbols = Symbols::default();
        // Compound sizes wait until all bare symbols are bound.
        for compound in [false, true] {
            for (&argument, input) in arguments.iter().zip(inputs) {
                let value = function.value(argument);
                let fit = if compound {
                    symbols.check(&value.ty, input)
                } else {
                    symbols.take(&value.ty, input, &value.name)
                };
                fit.map_err(|reason| InterpretError::Input {
                    function: function.name.clone(),
                    name: value.name.to_string(),
                    reason,
                })?;
            }
        }
        Ok(symbols)
    }

    fn take(&mut self, ty: &TensorType, input: &Tensor, name: &Str) -> Result<(), String> {
        if input.element != ty.element {
            return Err(format!("its elements must be {}, got {}", ty.element, input.element));
        }
        if input.dims.len() != ty.rank() {
            return Err(format!("its sizes must be {:?}, got {:?}", ty.dims, input.dims));
        }
        for (dim, &size) in ty.dims.iter().zip(&input.dims) {
            let size = i64::try_from(size).map_err(|e| e.to_string())?;
            let Some(symbol) = dim.as_symbol() else { continue };
            match self.sizes.get(symbol) {
                Some((bound, by)) if *bound != size => {
                    return Err(format!(
                        "its sizes {:?} make {symbol} = {size}, but input `{by}` makes it {bound}",
                        input.dims
                    ));
                }
                Some(_) => {}
                None => {
                    self.sizes.insert(Str::from(symbol), (size, name.clone()));
                }
            }
        }
        Ok(())
    }

    fn check(&self, ty: &TensorType, input: &Tensor) -> Result<(), String> {
        for (dim, &size) in ty.dims.iter().zip(&input.dims) {
            if Some(self.size(dim)?) != i64::try_from(size).ok() {
                return Err(format!("its sizes must be {:?}, got {:?}", ty.dims, input.dims));
            }
        }
        Ok(())
    }

    /// The value of a size.
    fn size(&self, dim: &Dim) -> Result<i64, String> {
        dim.evaluate(&|symbol| self.sizes.get(symbol).map(|(size, _)| *size)).ok_or_else(|| {
            match dim.symbols().iter().find(|s| !self.sizes.contains_key(&***s)) {
                Some(symbol) => {
                    format!(
                        "the size {dim} needs the symbol {symbol}, which no input has as a size of its own"
                    )
                }
                None => format!("the size {dim} overflows"),
            }
        })
    }

    fn constants(&self, dims: &[Dim]) -> Result<Vec<Dim>, String> {
        dims.iter()
            .map(|dim| match self.size(dim)? {
                size if size < 0 => Err(format!("the size {dim} is {size} for these inputs")),
                size => Ok(Dim::Const(size)),
            })
            .collect()
    }

    /// The type with constant sizes.
    pub fn constant_type(&self, ty: &TensorType) -> Result<TensorType, String> {
        Ok(TensorType { dims: self.constants(&ty.dims)?, ..ty.clone() })
    }

    /// The operation with constant shape attributes; `None` if it has none to replace.
    pub fn constant_op(&self, op: &Op) -> Result<Option<Op>, String> {
        Ok(match op {
            Op::Reshape { shape } => Some(Op::Reshape { shape: self.constants(shape)? }),
            Op::Broadcast { shape } => Some(Op::Broadcast { shape: self.constants(shape)? }),
            Op::Iota { size } => {
                let mut sizes = self.constants(std::slice::from_ref(size))?;
                sizes.pop().map(|size| Op::Iota { size })
            }
            _ => None,
        })
    }
}
