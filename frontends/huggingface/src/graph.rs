//! The function under construction: what architectures have in common. Operations carry the checkpoint's module as location, a weight is
//! one operation however often it is used, and a state is an argument and the result that succeeds it.

use std::collections::HashMap;
use std::path::Path;

use qcc_ir::{Dense, ElementType, Function, Module, Op, StateBinding, Str, TensorType, ValueId};
use qcc_params::{Archive, Parameters};

use crate::error::ImportError;
use crate::weights::Weights;

/// A function that reads weights from an archive.
pub(crate) struct Graph<'a> {
    function: Function,
    weights: Weights<'a>,
    values: HashMap<Str, ValueId>,
    states: Vec<State>,
}

/// A state in the making.
struct State {
    name: String,
    argument: usize,
    next: Option<ValueId>,
}

/// A state argument, until its next value is known.
pub(crate) struct StateId(usize);

impl<'a> Graph<'a> {
    /// An empty `main`.
    pub fn new(archive: &'a Archive) -> Graph<'a> {
        Graph {
            function: Function::new("main"),
            weights: Weights::new(archive),
            values: HashMap::new(),
            states: Vec::new(),
        }
    }

    /// An argument.
    pub fn argument(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.function.add_argument(name, ty)
    }

    /// A state: its value before this call.
    pub fn state(&mut self, name: &str, ty: TensorType) -> (StateId, ValueId) {
        let argument = self.function.arguments().len();
        let value = self.function.add_argument(name, ty);
        self.states.push(State { name: name.to_string(), argument, next: None });
        (StateId(self.states.len() - 1), value)
    }

    /// The value a state has after this call.
    pub fn next_state(&mut self, state: StateId, value: ValueId) {
        self.states[state.0].next = Some(value);
    }

    /// A result; states follow all results by themselves.
    pub fn result(&mut self, name: &str, value: ValueId) {
        self.function.add_result(name, value);
    }

    /// An operation with one result.
    pub fn op<const N: usize>(
        &mut self,
        op: Op,
        operands: [ValueId; N],
        location: &str,
    ) -> Result<ValueId, ImportError> {
        Ok(self.ops(op, operands.map(Some), location)?[0])
    }

    /// A small vector of f32 that is no weight of the checkpoint.
    pub fn vector(&mut self, elements: &[f32], location: &str) -> Result<ValueId, ImportError> {
        let value = Dense::f32(&[elements.len() as i64], elements);
        self.op(Op::Constant { value }, [], location)
    }

    /// All results of an operation; some operands may be absent.
    pub fn ops<const N: usize>(
        &mut self,
        op: Op,
        operands: [Option<ValueId>; N],
        location: &str,
    ) -> Result<Vec<ValueId>, ImportError> {
        let results = self.function.add(op, operands, location);
        let graph = |source| ImportError::Graph { location: location.to_string(), source };
        Ok(results.map_err(graph)?.to_vec())
    }

    /// The weight `name` of the given sizes, in f32.
    pub fn weight(&mut self, name: &str, dims: &[i64]) -> Result<ValueId, ImportError> {
        self.derived(name, name, dims, &[])
    }

    /// The weight `stored` of the given sizes in f32, after `ops` one after the other, as parameter `name`.
    pub fn derived(
        &mut self,
        name: &str,
        stored: &str,
        dims: &[i64],
        ops: &[Op],
    ) -> Result<ValueId, ImportError> {
        if let Some(value) = self.values.get(name) {
            return Ok(*value);
        }
        let (name, ty) = self.weights.derive(name, stored, dims, ops)?;
        let value = self.function.add_parameter(&name, ty);
        self.values.insert(name, value);
        Ok(value)
    }

    /// The first of these names that the checkpoint has; the first of all when it has none.
    pub fn first_present<'n>(&self, names: &[&'n str; 2]) -> &'n str {
        names.iter().find(|name| self.weights.has(name)).unwrap_or(&names[0])
    }

    /// `nn.Linear` at module path `module`: `x · weightᵀ`, and `+ bias` where it has one.
    pub fn linear(
        &mut self,
        x: ValueId,
        module: &str,
        [out, inner]: [i64; 2],
        bias: bool,
    ) -> Result<ValueId, ImportError> {
        let weight = self.weight(&format!("{module}.weight"), &[out, inner])?;
        let bias = if bias { Some(self.weight(&format!("{module}.bias"), &[out])?) } else { None };
        Ok(self.ops(Op::Linear {}, [Some(x), Some(weight), bias], module)?[0])
    }

    /// Consecutive parts of the last axis, of these sizes.
    pub fn split<const N: usize>(
        &mut self,
        x: ValueId,
        sizes: [i64; N],
        location: &str,
    ) -> Result<[ValueId; N], ImportError> {
        let axis = self.function.ty(x).rank().saturating_sub(1) as i64;
        let mut parts = [x; N];
        let mut start = 0;
        for (part, size) in parts.iter_mut().zip(sizes) {
            let end = start + size;
            let slice = Op::Slice { axes: vec![axis], starts: vec![start], ends: vec![end], steps: vec![1] };
            *part = self.op(slice, [x], location)?;
            start = end;
        }
        Ok(parts)
    }

    /// The module, its parameters, and the names of weights that nothing asked for.
    ///
    /// # Errors
    /// When weights of `folder` do not fit what was asked for.
    pub fn finish(mut self, folder: &Path) -> Result<(Module, Parameters, Vec<String>), ImportError> {
        for State { name, argument, next } in self.states {
            let next = next.expect("invariant: an architecture gives each of its states a next value");
            let result = self.function.results.len();
            self.function.add_result(&name, next);
            self.function.states.push(StateBinding { argument, result });
        }
        let (parameters, unused) = self.weights.finish(folder)?;
        Ok((Module { functions: vec![self.function] }, parameters, unused))
    }
}

/// A float tensor type, `f32`.
pub(crate) fn f32_type<D: Into<qcc_ir::Dim>>(dims: impl IntoIterator<Item = D>) -> TensorType {
    TensorType::new(dims, ElementType::F32)
}
