//! The parameter table: what each weight name of the IR stands for.
//!
//! Weight expressions use the IR's own operations, so a transform of a weight has exactly the meaning the interpreter gives it and no
//! second implementation exists. Expressions are hash-consed: the same operation on the same weights is one entry, computed once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use qcc_ir::{Op, Str, TensorType};

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
}

impl Parameters {
    /// An empty table.
    pub fn new() -> Parameters {
        Parameters::default()
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
        let mut done = Results::new();
        // The way from `name` down to what is evaluated now; on the heap, since expressions may be as deep as a model.
        let mut path = vec![name];
        while let Some(&top) = path.last() {
            match self.waits_for(top, &done)? {
                Some(_) if path.len() >= self.entries.len() => {
                    return Err(ParameterError::Cycle(top.to_string()));
                }
                Some(operand) => path.push(operand),
                None => {
                    self.compute(top, evaluator, &mut done)?;
                    path.pop();
                }
            }
        }
        self.value(name, &done)
    }

    fn entry(&self, name: &str) -> Result<&Entry, ParameterError> {
        self.entries.get(name).ok_or_else(|| ParameterError::Unknown(name.to_string()))
    }

    /// An operand of a parameter's expression that is to be evaluated first.
    fn waits_for(&self, name: &str, done: &Results<'_>) -> Result<Option<&str>, ParameterError> {
        let Source::Expression(expression) = &self.entry(name)?.source else { return Ok(None) };
        if done.contains_key(&key(expression)) {
            return Ok(None);
        }
        for operand in expression.operands.iter().flatten() {
            if let Source::Expression(e) = &self.entry(operand)?.source
                && !done.contains_key(&key(e))
            {
                return Ok(Some(operand));
            }
        }
        Ok(None)
    }

    /// Evaluates a parameter's expression, unless that was done; its operands were.
    fn compute<'p>(
        &'p self,
        name: &str,
        evaluator: &dyn OpEvaluator,
        done: &mut Results<'p>,
    ) -> Result<(), ParameterError> {
        let Source::Expression(expression) = &self.entry(name)?.source else { return Ok(()) };
        if done.contains_key(&key(expression)) {
            return Ok(());
        }
        let operands = expression
            .operands
            .iter()
            .map(|operand| operand.as_ref().map(|operand| self.value(operand, done)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let borrowed: Vec<Option<&Tensor>> = operands.iter().map(|o| o.as_deref()).collect();
        let operand_types: Vec<_> = borrowed.iter().map(|o| o.map(Tensor::ty)).collect();
        let references: Vec<_> = operand_types.iter().map(Option::as_ref).collect();
        let fail = |message: String| ParameterError::Evaluate { name: name.to_string(), message };
        let types =
            qcc_ir::infer::infer(&expression.op, &references, None).map_err(|e| fail(e.to_string()))?;
        let results = evaluator.evaluate(&expression.op, &borrowed, &types).map_err(fail)?;
        done.insert(key(expression), results.into_iter().map(Arc::new).collect());
        Ok(())
    }

    /// The value of a parameter whose expression, if it is one, was evaluated.
    fn value(&self, name: &str, done: &Results<'_>) -> Result<Arc<Tensor>, ParameterError> {
        let entry = self.entry(name)?;
        match &entry.source {
            Source::Tensor(tensor) => Ok(tensor.clone()),
            Source::Bytes(bytes) => Tensor::from_le_bytes(&entry.ty, bytes.as_slice())
                .map(Arc::new)
                .map_err(|source| ParameterError::Tensor { name: name.to_string(), source }),
            Source::Expression(expression) => done[&key(expression)]
                .get(expression.result)
                .cloned()
                .ok_or_else(|| ParameterError::Evaluate {
                    name: name.to_string(),
                    message: format!("`qcc.{}` has no result {}", expression.op.name(), expression.result),
                }),
        }
    }
}

/// All results of the operations evaluated so far, which are computed together.
type Results<'p> = HashMap<(&'p Op, &'p [Option<Str>]), Vec<Arc<Tensor>>>;

fn key(expression: &Expression) -> (&Op, &[Option<Str>]) {
    (&expression.op, &expression.operands)
}
