//! The operations that some weights need, in order, each once: what evaluation runs, what hashing reads, and how much memory it takes.
//!
//! A result is dropped after its last reader, so a long chain of transforms holds two tensors, not all of them. Nothing here recurses:
//! expressions may be as deep as a model.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use qcc_ir::infer::infer;
use qcc_ir::{Dim, Op, Str, TensorType};

use crate::parameters::{Expression, OpEvaluator, ParameterError, Parameters, Source};
use crate::tensor::{Tensor, TensorError};

mod pieces;

/// An operation on operands, whichever of its results is meant.
type Key<'p> = (&'p Op, &'p [Option<Str>]);

fn key(expression: &Expression) -> Key<'_> {
    (&expression.op, &expression.operands)
}

/// How to evaluate some parameters.
pub(crate) struct Plan<'p> {
    parameters: &'p Parameters,
    names: &'p [Str],
    steps: Vec<Step<'p>>,
    index: HashMap<Key<'p>, usize>,
}

pub(crate) struct Step<'p> {
    /// A parameter that is a result of it.
    name: &'p str,
    pub(crate) expression: &'p Expression,
    types: Vec<TensorType>,
    /// How many operands of later steps and how many wanted parameters are results of it.
    readers: usize,
}

/// An expression on the way from a wanted parameter down.
struct Frame<'p> {
    name: &'p str,
    expression: &'p Expression,
    next: usize,
}

impl<'p> Plan<'p> {
    /// The plan for `names`.
    ///
    /// # Errors
    /// When a name is unknown, an expression depends on itself, or an operation does not fit its operands.
    pub(crate) fn new(parameters: &'p Parameters, names: &'p [Str]) -> Result<Plan<'p>, ParameterError> {
        let mut plan = Plan { parameters, names, steps: Vec::new(), index: HashMap::new() };
        for name in names {
            plan.add(name)?;
        }
        for i in 0..plan.steps.len() {
            for operand in plan.steps[i].expression.operands.iter().flatten() {
                plan.count_reader(operand);
            }
        }
        for name in names {
            plan.count_reader(name);
        }
        Ok(plan)
    }

    fn add(&mut self, name: &'p str) -> Result<(), ParameterError> {
        let (mut path, mut open) = (Vec::new(), HashSet::new());
        self.enter(name, &mut path, &mut open)?;
        while let Some(frame) = path.last_mut() {
            match frame.expression.operands.get(frame.next) {
                Some(operand) => {
                    frame.next += 1;
                    if let Some(operand) = operand {
                        self.enter(operand, &mut path, &mut open)?;
                    }
                }
                None => {
                    let (name, expression) = (frame.name, frame.expression);
                    path.pop();
                    open.remove(&key(expression));
                    let types = self.result_types(name, expression)?;
                    self.index.insert(key(expression), self.steps.len());
                    self.steps.push(Step { name, expression, types, readers: 0 });
                }
            }
        }
        Ok(())
    }

    fn enter(
        &self,
        name: &'p str,
        path: &mut Vec<Frame<'p>>,
        open: &mut HashSet<Key<'p>>,
    ) -> Result<(), ParameterError> {
        let Source::Expression(expression) = self.source(name)? else { return Ok(()) };
        if self.index.contains_key(&key(expression)) {
            return Ok(());
        }
        if !open.insert(key(expression)) {
            return Err(ParameterError::Cycle(name.to_string()));
        }
        path.push(Frame { name, expression, next: 0 });
        Ok(())
    }

    pub(crate) fn source(&self, name: &str) -> Result<&'p Source, ParameterError> {
        self.parameters.source(name).ok_or_else(|| ParameterError::Unknown(name.to_string()))
    }

    /// The wanted parameters.
    pub(crate) fn names(&self) -> &'p [Str] {
        self.names
    }

    /// The steps, operands before users.
    pub(crate) fn steps(&self) -> &[Step<'p>] {
        &self.steps
    }

    /// The step whose result a parameter is, if it is an expression.
    pub(crate) fn step_of(&self, name: &str) -> Option<usize> {
        match self.parameters.source(name)? {
            Source::Expression(expression) => self.index.get(&key(expression)).copied(),
            _ => None,
        }
    }

    fn count_reader(&mut self, name: &str) {
        if let Some(step) = self.step_of(name) {
            self.steps[step].readers += 1;
        }
    }

    fn result_types(&self, name: &str, expression: &Expression) -> Result<Vec<TensorType>, ParameterError> {
        let fail = |message: String| ParameterError::Evaluate { name: name.to_string(), message };
        let operands = expression.operands.iter().map(|o| o.as_ref().map(|o| self.ty(o)).transpose());
        let operands = operands.collect::<Result<Vec<_>, _>>()?;
        let types = infer(&expression.op, &operands, None).map_err(|e| fail(e.to_string()))?;
        Ok(types.into_vec())
    }

    /// The type of a parameter whose steps are planned.
    fn ty(&self, name: &str) -> Result<&TensorType, ParameterError> {
        let ty = match (self.source(name)?, self.step_of(name)) {
            (Source::Expression(e), Some(step)) => {
                self.steps[step].types.get(e.result).ok_or_else(|| no_result(name, e))?
            }
            _ => self.parameters.ty(name).ok_or_else(|| ParameterError::Unknown(name.to_string()))?,
        };
        Ok(ty)
    }

    /// Bytes that evaluation holds at most at once, the wanted tensors included.
    pub(crate) fn peak_bytes(&self, evaluator: &dyn OpEvaluator) -> u64 {
        if self.rows(evaluator).is_some() {
            // All pieces, then the whole; what is between is small.
            let wanted = self.names.iter().filter_map(|n| self.parameters.ty(n)).map(bytes);
            return wanted.fold(0, u64::saturating_add).saturating_mul(2);
        }
        let size = |step: &Step<'_>| step.types.iter().map(bytes).fold(0, u64::saturating_add);
        let mut readers: Vec<usize> = self.steps.iter().map(|s| s.readers).collect();
        let (mut live, mut peak) = (0u64, 0u64);
        for step in &self.steps {
            live = live.saturating_add(size(step));
            // Operands from files are decoded for the step.
            let operands = step.expression.operands.iter().flatten();
            let decoded = operands.clone().filter(|o| self.step_of(o).is_none());
            let decoded = decoded.filter_map(|o| self.parameters.ty(o)).map(bytes);
            peak = peak.max(decoded.fold(live, u64::saturating_add));
            for read in operands.filter_map(|o| self.step_of(o)) {
                readers[read] -= 1;
                if readers[read] == 0 {
                    live = live.saturating_sub(size(&self.steps[read]));
                }
            }
        }
        let wanted = self.names.iter().filter(|n| self.step_of(n).is_none());
        let wanted = wanted.filter_map(|n| self.parameters.ty(n)).map(bytes);
        peak.max(wanted.fold(live, u64::saturating_add))
    }

    /// The values of the parameters, in the order of the names.
    ///
    /// # Errors
    /// When bytes do not fit their type or an operation fails.
    fn run(
        &self,
        evaluator: &dyn OpEvaluator,
        rows: Option<&Range<usize>>,
    ) -> Result<Vec<Arc<Tensor>>, ParameterError> {
        let mut readers: Vec<usize> = self.steps.iter().map(|s| s.readers).collect();
        let mut results: Vec<Option<Vec<Arc<Tensor>>>> = vec![None; self.steps.len()];
        for (i, step) in self.steps.iter().enumerate() {
            let operands = step.expression.operands.iter();
            let operands = operands
                .map(|o| o.as_ref().map(|o| self.value(o, &results, rows)).transpose())
                .collect::<Result<Vec<_>, _>>()?;
            let borrowed: Vec<Option<&Tensor>> = operands.iter().map(|o| o.as_deref()).collect();
            let types: Vec<TensorType> = step.types.iter().map(|ty| of_rows(ty, rows)).collect();
            let values = evaluator
                .evaluate(&step.expression.op, &borrowed, &types)
                .map_err(|message| ParameterError::Evaluate { name: step.name.to_string(), message })?;
            results[i] = Some(values.into_iter().map(Arc::new).collect());
            for read in step.expression.operands.iter().flatten().filter_map(|o| self.step_of(o)) {
                readers[read] -= 1;
                if readers[read] == 0 {
                    results[read] = None;
                }
            }
        }
        self.names.iter().map(|name| self.value(name, &results, rows)).collect()
    }

    /// The value of a parameter that is no expression.
    pub(crate) fn given(&self, name: &str) -> Result<Arc<Tensor>, ParameterError> {
        self.value(name, &[], None)
    }

    /// A value, or some rows of it.
    fn value(
        &self,
        name: &str,
        results: &[Option<Vec<Arc<Tensor>>>],
        rows: Option<&Range<usize>>,
    ) -> Result<Arc<Tensor>, ParameterError> {
        match self.source(name)? {
            Source::Tensor(tensor) => Ok(tensor.clone()),
            Source::Bytes(bytes) => bytes_of_rows(self.ty(name)?, bytes.as_slice(), rows)
                .map(Arc::new)
                .map_err(|source| ParameterError::Tensor { name: name.to_string(), source }),
            Source::Expression(e) => self
                .step_of(name)
                .and_then(|step| results[step].as_ref())
                .expect("invariant: a step runs before its readers and is kept until the last of them")
                .get(e.result)
                .cloned()
                .ok_or_else(|| no_result(name, e)),
        }
    }
}

fn no_result(name: &str, e: &Expression) -> ParameterError {
    let message = format!("`qcc.{}` has no result {}", e.op.name(), e.result);
    ParameterError::Evaluate { name: name.to_string(), message }
}

/// The type of some rows.
fn of_rows(ty: &TensorType, rows: Option<&Range<usize>>) -> TensorType {
    let mut ty = ty.clone();
    if let (Some(rows), Some(size)) = (rows, ty.dims.first_mut()) {
        *size = Dim::Const(i64::try_from(rows.len()).expect("invariant: sizes fit i64"));
    }
    ty
}

/// Some rows of a tensor from the bytes of all, of which there are as many as the type says.
fn bytes_of_rows(ty: &TensorType, bytes: &[u8], rows: Option<&Range<usize>>) -> Result<Tensor, TensorError> {
    let all = ty.dims.first().and_then(|d| usize::try_from(d.constant()?).ok()).filter(|n| *n > 0);
    match (rows, all) {
        (Some(rows), Some(all)) => {
            let row = bytes.len() / all;
            Tensor::from_le_bytes(&of_rows(ty, Some(rows)), &bytes[rows.start * row..rows.end * row])
        }
        _ => Tensor::from_le_bytes(ty, bytes),
    }
}

/// Bytes of a tensor in memory, where codes take one each.
fn bytes(ty: &TensorType) -> u64 {
    let elements = ty.elements().and_then(|n| n.constant()).and_then(|n| u64::try_from(n).ok());
    elements.unwrap_or(u64::MAX).saturating_mul(u64::from(ty.element.bits().div_ceil(8)))
}

impl Parameters {
    /// Whether two parameters are results of the same operation, which computes them together.
    pub fn same_operation(&self, a: &str, b: &str) -> bool {
        match (self.source(a), self.source(b)) {
            (Some(Source::Expression(a)), Some(Source::Expression(b))) => key(a) == key(b),
            _ => false,
        }
    }
}
