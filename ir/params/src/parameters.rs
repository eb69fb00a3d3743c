//! The parameter table: what each weight name of the IR stands for.
//!
//! Weight expressions use the IR's own operations, so a transform of a weight has exactly the meaning the interpreter gives it and no
//! second implementation exists. Expressions are hash-consed: the same operation on the same weights is one entry, computed once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use qcc_ir::{Op, Str, TensorType};

use crate::cache::WeightCache;
use crate::plan::Plan;
use crate::tensor::{Tensor, TensorError};

/// Where a parameter's elements come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Little-endian bytes, usually a region of a mapped file; cheap to clone.
    Bytes(SharedBytes),
    /// A tensor in memory.
    Tensor(Arc<Tensor>),
    /// Computed from other parameters.
    Expression(Expression),
}

/// A shared, immutable run of bytes: `owner` keeps them alive.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    start: usize,
    len: usize,
}

impl SharedBytes {
    /// `len` bytes from `start` on; `None` when they are not inside the owner's bytes.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, start: usize, len: usize) -> Option<SharedBytes> {
        let end = start.checked_add(len)?;
        ((*owner).as_ref().len() >= end).then_some(SharedBytes { owner, start, len })
    }

    /// `len` bytes from `start` on of these; `None` when they are not inside.
    pub fn region(&self, start: usize, len: usize) -> Option<SharedBytes> {
        let end = start.checked_add(len).filter(|end| *end <= self.len)?;
        Some(SharedBytes {
            owner: self.owner.clone(),
            start: self.start.checked_add(start)?,
            len: end - start,
        })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.start..self.start + self.len]
    }
}

impl std::fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

/// A weight expression: result `result` of `op` on other parameters (one slot an operand group, as in a node).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expression {
    /// The operation.
    pub op: Op,
    /// Names of the operands.
    pub operands: Vec<Option<Str>>,
    /// Which result of the operation.
    pub result: usize,
}

/// Gives operations their meaning: implemented by the interpreter.
pub trait OpEvaluator: Sync {
    /// Results of `op` on `operands`, of the given types.
    ///
    /// # Errors
    /// When the operation fails, with a message that says why.
    fn evaluate(
        &self,
        op: &Op,
        operands: &[Option<&Tensor>],
        types: &[TensorType],
    ) -> Result<Vec<Tensor>, String>;

    /// Whether each index along the first axis of the results of `op` depends on that index of the operands alone, all of which have as many:
    /// large weights are then evaluated in pieces, with the same results.
    fn is_row_wise(&self, op: &Op) -> bool {
        let _ = op;
        false
    }

    /// Whether results of `op` are computed sooner than read from a file: they are never cached.
    fn is_quick(&self, op: &Op) -> bool {
        let _ = op;
        false
    }

    /// What results depend on beside operations and operands, such as a precision. Results of an evaluator that does not say are not
    /// cached.
    fn semantics(&self) -> Option<String> {
        None
    }
}

/// What can go wrong with a parameter; each names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// No such name.
    #[error("no parameter `{0}`")]
    Unknown(String),
    /// The name is taken by something else.
    #[error("parameter `{0}` is defined twice")]
    Duplicate(String),
    /// The bytes are not a tensor of the type.
    #[error("parameter `{name}`: {source}")]
    Tensor {
        /// The parameter.
        name: String,
        /// Why.
        source: TensorError,
    },
    /// Evaluating its expression failed.
    #[error("parameter `{name}`: {message}")]
    Evaluate {
        /// The parameter.
        name: String,
        /// Why.
        message: String,
    },
    /// An expression refers to itself.
    #[error("parameter `{0}` depends on itself")]
    Cycle(String),
}

#[derive(Clone, Debug)]
struct Entry {
    ty: TensorType,
    source: Source,
}

/// The parameter table. Iteration is in name order.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    entries: BTreeMap<Str, Entry>,
    expressions: HashMap<Expression, Str>,
    /// The next number to make a taken name unique with.
    suffixes: HashMap<Str, usize>,
    cache: Option<Arc<WeightCache>>,
}

impl Parameters {
    /// An empty table.
    pub fn new() -> Parameters {
        Parameters::default()
    }

    /// Evaluated weights are looked for there first, and stored there.
    pub fn set_cache(&mut self, cache: Arc<WeightCache>) {
        self.cache = Some(cache);
    }

    /// Adds a parameter.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn insert(&mut self, name: &str, ty: TensorType, source: Source) -> Result<Str, ParameterError> {
        let name: Str = Arc::from(name);
        if self.entries.contains_key(&name) {
            return Err(ParameterError::Duplicate(name.to_string()));
        }
        self.entries.insert(name.clone(), Entry { ty, source });
        Ok(name)
    }

    /// Adds a tensor in memory.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn insert_tensor(&mut self, name: &str, tensor: Tensor) -> Result<Str, ParameterError> {
        self.insert(name, tensor.ty(), Source::Tensor(Arc::new(tensor)))
    }

    /// Adds a weight expression of type `ty`, or finds the equal one. `hint` becomes the name, made unique with a number if taken.
    pub fn insert_expression(&mut self, hint: &str, ty: TensorType, expression: Expression) -> Str {
        if let Some(name) = self.expressions.get(&expression) {
            return name.clone();
        }
        let mut name: Str = Arc::from(hint);
        if self.entries.contains_key(&name) {
            let suffix = self.suffixes.entry(name.clone()).or_insert(0);
            while self.entries.contains_key(&name) {
                *suffix += 1;
                name = Arc::from(format!("{hint}.{suffix}"));
            }
        }
        self.expressions.insert(expression.clone(), name.clone());
        self.entries.insert(name.clone(), Entry { ty, source: Source::Expression(expression) });
        name
    }

    /// The type of a parameter.
    pub fn ty(&self, name: &str) -> Option<&TensorType> {
        self.entries.get(name).map(|e| &e.ty)
    }

    /// Where a parameter comes from.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.entries.get(name).map(|e| &e.source)
    }

    /// All names with their types.
    pub fn iter(&self) -> impl Iterator<Item = (&Str, &TensorType)> {
        self.entries.iter().map(|(name, e)| (name, &e.ty))
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a parameter; expressions are evaluated with `evaluator`, shared parts once.
    ///
    /// # Errors
    /// When the name is unknown, its bytes do not fit its type, or an operation fails.
    pub fn evaluate(&self, name: &str, evaluator: &dyn OpEvaluator) -> Result<Arc<Tensor>, ParameterError> {
        let names = [Str::from(name)];
        let mut values = self.evaluate_plan(&Plan::new(self, &names)?, evaluator)?;
        Ok(values.remove(0))
    }

    /// The values of a plan's parameters, from the cache if they are there.
    pub(crate) fn evaluate_plan(
        &self,
        plan: &Plan<'_>,
        evaluator: &dyn OpEvaluator,
    ) -> Result<Vec<Arc<Tensor>>, ParameterError> {
        let quick = plan.steps().iter().all(|step| evaluator.is_quick(&step.expression.op));
        match (&self.cache, evaluator.semantics()) {
            (Some(cache), Some(semantics)) if !quick => cache.run(self, plan, evaluator, &semantics),
            _ => plan.run_in_pieces(evaluator),
        }
    }
}
