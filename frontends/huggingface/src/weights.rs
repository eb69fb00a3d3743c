//! The weights an architecture asks for: taken from the archive, brought to f32, checked against the sizes that `config.json` implies.
//!
//! What is wrong is collected, not returned at once: the whole graph is built on the expected types, then all problems are reported
//! together. A parameter has the name of its tensor; where something is done to the tensor first, its bytes are `checkpoint::NAME` and
//! `NAME` is the weight expression over them, so that the IR does not tell how a checkpoint stores its numbers.

use std::collections::BTreeSet;
use std::path::Path;

use qcc_ir::infer::infer;
use qcc_ir::{ElementType, Op, Str, TensorType};
use qcc_params::{Archive, Expression, Parameters, Source};

use crate::error::{ImportError, WeightProblem};
use crate::graph::f32_type;

/// Weights of an archive, and what came of those that were asked for.
pub(crate) struct Weights<'a> {
    archive: &'a Archive,
    parameters: Parameters,
    used: BTreeSet<String>,
    problems: Vec<WeightProblem>,
}

impl<'a> Weights<'a> {
    /// No weight is asked for yet.
    pub fn new(archive: &'a Archive) -> Weights<'a> {
        Weights { archive, parameters: Parameters::new(), used: BTreeSet::new(), problems: Vec::new() }
    }

    /// Whether the archive has a weight of this name.
    pub fn has(&self, name: &str) -> bool {
        self.archive.get(name).is_some()
    }

    /// The tensor `stored` of sizes `dims` in f32 and after `ops`, as parameter `name`: its name and type.
    pub fn derive(
        &mut self,
        name: &str,
        stored: &str,
        dims: &[i64],
        ops: &[Op],
    ) -> Result<(Str, TensorType), ImportError> {
        let mut ty = f32_type(dims.iter().copied());
        let Some((raw, bytes)) = self.archive.get(stored) else {
            self.problems.push(WeightProblem {
                name: stored.to_string(),
                expected: dims.to_vec(),
                found: None,
            });
            return Ok((name.into(), derived_type(name, ty, ops)?));
        };
        self.used.insert(stored.to_string());
        if !raw.element.is_float() || raw.dims != ty.dims {
            self.problems.push(WeightProblem {
                name: stored.to_string(),
                expected: dims.to_vec(),
                found: Some(raw),
            });
            return Ok((name.into(), derived_type(name, ty, ops)?));
        }
        let cast = (raw.element != ElementType::F32).then_some(Op::Cast { to: ElementType::F32 });
        let steps: Vec<&Op> = cast.iter().chain(ops).collect();
        let source = Source::Bytes(bytes);
        let Some((last, before)) = steps.split_last() else {
            return Ok((self.parameters.insert(name, raw.clone(), source)?, raw));
        };
        let mut value = self.parameters.insert(&format!("checkpoint::{stored}"), raw.clone(), source)?;
        ty = raw;
        for op in before {
            let hint = format!("{value}.{}", op.name());
            (value, ty) = self.step(&hint, name, op, value, &ty)?;
        }
        self.step(name, name, last, value, &ty)
    }

    /// One operation on a weight.
    fn step(
        &mut self,
        hint: &str,
        location: &str,
        op: &Op,
        operand: Str,
        ty: &TensorType,
    ) -> Result<(Str, TensorType), ImportError> {
        let ty = result_type(location, op, ty)?;
        let expression = Expression { op: op.clone(), operands: vec![Some(operand)], result: 0 };
        Ok((self.parameters.insert_expression(hint, ty.clone(), expression), ty))
    }

    /// The parameters, and the names of the archive's weights that nothing asked for, sorted.
    ///
    /// # Errors
    /// When weights are missing or do not fit; all of them.
    pub fn finish(self, folder: &Path) -> Result<(Parameters, Vec<String>), ImportError> {
        if !self.problems.is_empty() {
            return Err(ImportError::Weights { folder: folder.to_path_buf(), problems: self.problems });
        }
        let names = self.archive.tensors().map(|(name, _)| name.to_string());
        let mut unused: Vec<String> = names.filter(|name| !self.used.contains(name)).collect();
        unused.sort();
        Ok((self.parameters, unused))
    }
}

fn result_type(location: &str, op: &Op, ty: &TensorType) -> Result<TensorType, ImportError> {
    let types = infer(op, &[Some(ty)], None);
    let mut types = types.map_err(|source| ImportError::Graph { location: location.to_string(), source })?;
    Ok(types.swap_remove(0))
}

fn derived_type(location: &str, ty: TensorType, ops: &[Op]) -> Result<TensorType, ImportError> {
    ops.iter().try_fold(ty, |ty, op| result_type(location, op, &ty))
}
