//! Inputs of the graph: their types, and the names of their symbolic sizes.

use std::collections::HashMap;

use qcc_ir::{Dim, TensorType};

use crate::element::element_type;
use crate::graph::LARGEST_RANK;
use crate::proto::{DimensionProto, ValueInfoProto};

/// Symbols by the `dim_param` they stand for. A symbol is an identifier, a `dim_param` any text.
#[derive(Default)]
pub(crate) struct Symbols {
    by_param: HashMap<String, Dim>,
    /// How often each name was asked for.
    taken: HashMap<String, usize>,
}

impl Symbols {
    /// The type of an input. A size that is neither a number nor named becomes a symbol of its own.
    pub fn input_type(&mut self, info: &ValueInfoProto) -> Result<TensorType, String> {
        let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).ok_or("is not a tensor")?;
        let element = element_type(tensor.elem_type.unwrap_or(0))?;
        let shape =
            tensor.shape.as_ref().ok_or("has no shape: give the model's inputs a rank when exporting it")?;
        if shape.dim.len() > LARGEST_RANK {
            return Err(format!("has {} axes, at most {LARGEST_RANK} are supported", shape.dim.len()));
        }
        let name = info.name.as_deref().unwrap_or_default();
        let dims: Vec<Dim> = shape.dim.iter().enumerate().map(|(axis, d)| self.dim(d, name, axis)).collect();
        let ty = TensorType::new(dims, element);
        match ty.elements() {
            Some(_) => Ok(ty),
            None => Err(format!("a tensor of sizes {:?} is too large", ty.dims)),
        }
    }

    fn dim(&mut self, dim: &DimensionProto, input: &str, axis: usize) -> Dim {
        match (dim.dim_value, dim.dim_param.as_deref()) {
            (Some(n), _) if n >= 0 => Dim::Const(n),
            (_, Some(param)) if !param.is_empty() => match self.by_param.get(param) {
                Some(symbol) => symbol.clone(),
                None => {
                    let symbol = self.fresh(param);
                    self.by_param.insert(param.to_string(), symbol.clone());
                    symbol
                }
            },
            _ => self.fresh(&format!("{input}_{axis}")),
        }
    }

    /// A new symbol with a name close to `hint`.
    fn fresh(&mut self, hint: &str) -> Dim {
        let mut name: String =
            hint.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            name.insert(0, '_');
        }
        while let Some(times) = self.taken.get_mut(&name) {
            *times += 1;
            name = format!("{name}_{times}");
        }
        self.taken.insert(name.clone(), 1);
        Dim::symbol(&name)
    }
}
