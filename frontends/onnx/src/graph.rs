//! The function under construction: values by their ONNX names, and what is known of their contents.
//!
//! The contents of a value are *known* when they follow from initialisers and shapes alone and are small. An operation on IR constants is
//! replaced by its result; one on weights stays, because rounding is the compiler's decision, but its result can still be read where an
//! operator needs numbers at import (`Reshape`'s shape, `Resize`'s scales). A weight becomes an operation when a node first uses it.

use std::collections::HashMap;
use std::sync::Arc;

use qcc_interpreter::{Interpreter, Precision};
use qcc_ir::{Dense, Dim, Function, Op, TensorType, ValueId};
use qcc_params::{OpEvaluator, ParameterError, Parameters, Tensor};

use crate::initializer::Initializer;
use crate::sizes::Sizes;

/// Most elements of a tensor whose contents are looked at.
const LARGEST_KNOWN: i64 = 1024;

/// Most elements that are kept of all tensors together, so that many small ones do not fill the memory.
const KNOWN_BUDGET: i64 = 1 << 22;

/// Most axes of a tensor.
pub(crate) const LARGEST_RANK: usize = 32;

/// What an ONNX name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    /// A value of the function.
    Value(ValueId),
    /// Integers some of which are symbols; they exist at import only.
    Sizes(Sizes),
    /// An output that the importer does not compute; using it is an error with this message.
    Absent(String),
}

impl From<ValueId> for Bound {
    fn from(value: ValueId) -> Bound {
        Bound::Value(value)
    }
}

/// A function in the making.
pub(crate) struct Graph {
    function: Function,
    bound: HashMap<String, Bound>,
    known: HashMap<ValueId, Arc<Tensor>>,
    /// How many more elements may be known.
    budget: i64,
    initializers: HashMap<String, Initializer>,
    interpreter: Interpreter,
}

impl Graph {
    /// An empty `main`.
    pub fn new() -> Graph {
        Graph {
            function: Function::new("main"),
            bound: HashMap::new(),
            known: HashMap::new(),
            budget: KNOWN_BUDGET,
            initializers: HashMap::new(),
            interpreter: Interpreter::new(Precision::F32),
        }
    }

    /// Adds an argument.
    pub fn argument(&mut self, name: &str, ty: TensorType) -> Result<(), String> {
        let value = self.function.add_argument(name, ty);
        self.bind(name, value.into())
    }

    /// Adds an initialiser, or a constant that a node holds.
    pub fn initializer(&mut self, name: &str, initializer: Initializer) -> Result<(), String> {
        if self.bound.contains_key(name) || self.initializers.insert(name.to_string(), initializer).is_some()
        {
            return Err(format!("the name `{name}` is given twice"));
        }
        Ok(())
    }

    /// Adds an initialiser and its operation at once.
    pub fn weight(&mut self, name: &str, initializer: Initializer) -> Result<Bound, String> {
        self.initializer(name, initializer)?;
        self.lookup(name)
    }

    /// Says what a name stands for.
    pub fn bind(&mut self, name: &str, bound: Bound) -> Result<(), String> {
        // A constant that a node holds was bound when it was added.
        if let (Bound::Value(new), Some(Bound::Value(old))) = (&bound, self.bound.get(name))
            && new == old
            && self.initializers.contains_key(name)
        {
            return Ok(());
        }
        if self.initializers.contains_key(name) || self.bound.insert(name.to_string(), bound).is_some() {
            return Err(format!("the name `{name}` is given twice"));
        }
        Ok(())
    }

    /// What a name stands for; an initialiser becomes an operation on its first use.
    pub fn lookup(&mut self, name: &str) -> Result<Bound, String> {
        if let Some(bound) = self.bound.get(name) {
            return Ok(bound.clone());
        }
        let initializer = self.initializers.get(name).ok_or_else(|| {
            format!("`{name}` is used before it is computed: nodes must be in topological order, and every name defined")
        })?;
        let known = initializer.len() as i64 <= self.largest_known();
        let tensor = if known { Some(initializer.tensor()?) } else { None };
        // Shapes, indices and scalars are part of the program; everything else is a weight.
        let is_constant =
            initializer.ty.element.is_integer() || initializer.ty.rank() == 0 || initializer.len() == 0;
        let dense = tensor.as_ref().filter(|_| is_constant).and_then(Tensor::to_dense);
        let value = match dense {
            Some(dense) => self.function.add_constant(dense, name),
            None => {
                let ty = initializer.ty.clone();
                self.function.add_parameter(name, ty)
            }
        };
        if let Some(tensor) = tensor {
            self.know(value, tensor);
        }
        self.bound.insert(name.to_string(), value.into());
        Ok(value.into())
    }

    /// What a value repeats or rearranges all elements of.
    pub fn unbroadcast(&self, value: ValueId) -> ValueId {
        self.through(value, |op| matches!(op, Op::Broadcast { .. } | Op::Reshape { .. }))
    }

    /// What a value was before conversions.
    pub fn uncast(&self, value: ValueId) -> ValueId {
        self.through(value, |op| matches!(op, Op::Cast { .. }))
    }

    fn through(&self, mut value: ValueId, passes: impl Fn(&Op) -> bool) -> ValueId {
        while let Some((_, node)) = self.function.defining(value)
            && passes(&node.op)
            && let Some(Some(from)) = node.operands.first()
        {
            value = *from;
        }
        value
    }

    /// Appends an operation with one result, or its value where that is known.
    pub fn emit(&mut self, op: Op, operands: &[Option<ValueId>], location: &str) -> Result<ValueId, String> {
        let types = self.function.infer_results(&op, operands, None).map_err(|e| e.to_string())?;
        let [ty] = types.as_slice() else {
            return Err(format!("`qcc.{}` has not one result", op.name()));
        };
        if ty.rank() > LARGEST_RANK {
            return Err(format!("a result has {} axes, at most {LARGEST_RANK} are supported", ty.rank()));
        }
        let count = ty.elements().ok_or_else(|| format!("a tensor of sizes {:?} is too large", ty.dims))?;
        let mut contents = None;
        if count.constant().is_some_and(|n| n <= self.largest_known()) && ty.constant_dims().is_some() {
            let tensors: Option<Vec<Option<Arc<Tensor>>>> = operands
                .iter()
                .map(|o| o.map(|v| self.known.get(&v).cloned()).map_or(Some(None), |t| t.map(Some)))
                .collect();
            if let Some(tensors) = tensors {
                let borrowed: Vec<Option<&Tensor>> = tensors.iter().map(|t| t.as_deref()).collect();
                contents = self.interpreter.evaluate(&op, &borrowed, &types)?.pop();
            }
        }
        let constants = operands.iter().flatten().all(|v| self.is_constant(*v));
        let dense = contents.as_ref().filter(|_| constants).and_then(Tensor::to_dense);
        let value = match dense {
            Some(dense) => self.function.add_constant(dense, location),
            None => {
                self.function.add_one(op, operands.iter().copied(), location).map_err(|e| e.to_string())?
            }
        };
        if let Some(tensor) = contents {
            self.know(value, tensor);
        }
        Ok(value)
    }

    /// Appends a constant.
    pub fn constant(&mut self, dense: Dense, location: &str) -> Result<ValueId, String> {
        let tensor = Tensor::from_dense(&dense).map_err(|e| e.to_string())?;
        let value = self.function.add_constant(dense, location);
        self.know(value, tensor);
        Ok(value)
    }

    /// Most elements of the next tensor whose contents are looked at.
    fn largest_known(&self) -> i64 {
        LARGEST_KNOWN.min(self.budget)
    }

    fn know(&mut self, value: ValueId, tensor: Tensor) {
        // A few are needed by nodes whatever the budget; its end only stops computing on.
        self.budget = self.budget.saturating_sub(1 + tensor.len() as i64).max(0);
        self.known.insert(value, Arc::new(tensor));
    }

    /// The contents of a value, if they are known.
    pub fn contents(&self, value: ValueId) -> Option<&Tensor> {
        self.known.get(&value).map(|t| &**t)
    }

    /// Whether a value is an IR constant.
    pub fn is_constant(&self, value: ValueId) -> bool {
        self.function.defining(value).is_some_and(|(_, node)| matches!(node.op, Op::Constant { .. }))
    }

    /// Whether a value is a weight.
    pub fn is_parameter(&self, value: ValueId) -> bool {
        self.function.parameter_name(value).is_some()
    }

    /// A value's type.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        self.function.ty(value)
    }

    /// A value's sizes.
    pub fn dims(&self, value: ValueId) -> &[Dim] {
        &self.function.ty(value).dims
    }

    /// Number of values so far: a value made later has an index from this on.
    pub fn value_count(&self) -> usize {
        self.function.value_count()
    }

    /// Names a value.
    pub fn name(&mut self, value: ValueId, name: &str) {
        self.function.set_value_name(value, name);
    }

    /// Adds a result.
    pub fn result(&mut self, name: &str, value: ValueId) {
        self.function.add_result(name, value);
    }

    /// Makes one operation of each attention that is written out.
    pub fn recognize_attention(&mut self) -> Result<usize, String> {
        let one = |value: ValueId| {
            let tensor = self.known.get(&value).filter(|tensor| tensor.len() == 1)?;
            Some(tensor.to_f64_vec()[0])
        };
        crate::attention::recognize(&mut self.function, &one)
    }

    /// The function without dead operations, and the weights that it uses.
    pub fn finish(mut self) -> Result<(Function, Parameters), ParameterError> {
        self.function.remove_dead();
        let mut parameters = Parameters::new();
        for &id in self.function.order() {
            if let Op::Parameter { name } = &self.function.node(id).op {
                let initializer = &self.initializers[&**name];
                parameters.insert(name, initializer.ty.clone(), initializer.source())?;
            }
        }
        Ok((self.function, parameters))
    }
}
