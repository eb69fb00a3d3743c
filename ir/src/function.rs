//! Modules and functions: arenas of nodes and values in SSA form.
//!
//! **Invariants.** A value has one definition; `order` lists every live node, definitions before uses; operands are stored one slot an
//! operand group of the op table (`None` for an absent optional), a variadic group takes the slots from its position on.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::attribute::{Attribute, Str};
use crate::entity::{OpId, ValueId};
use crate::infer::{InferError, infer};
use crate::ops::Op;
use crate::types::TensorType;

/// A translation unit: functions that call each other by name, entry first.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// The functions; the first is the entry point.
    pub functions: Vec<Function>,
}

/// A function: a DAG of operations from arguments to results.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Symbol name.
    pub name: String,
    arguments: Vec<ValueId>,
    nodes: Vec<Node>,
    values: Vec<Value>,
    order: Vec<OpId>,
    /// The results, in order.
    pub results: Vec<ValueId>,
    /// Names of the results, as many as results.
    pub result_names: Vec<Str>,
    /// Which argument carries the state that a result updates.
    pub states: Vec<StateBinding>,
}

/// An argument and the result that is its next value: recurrent state (convolution window, SSM state, KV cache). They have one type, but
/// that an axis of symbolic size may grow: keys `[B, P, H, D]` become `[B, P + T, H, D]`. A state begins as zeros, without any along such an
/// axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateBinding {
    /// Index of the argument.
    pub argument: usize,
    /// Index of the result.
    pub result: usize,
}

/// An operation in its function.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// One slot an operand group; see the module documentation.
    pub operands: SmallVec<[Option<ValueId>; 4]>,
    /// One value a result.
    pub results: SmallVec<[ValueId; 2]>,
    /// Name of its source: checkpoint path, ONNX node. Empty if unknown.
    pub location: Str,
    /// Discardable attributes by name without the dialect (`slots` prints as `qcc.slots`).
    pub annotations: BTreeMap<String, Attribute>,
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its type.
    pub ty: TensorType,
    /// Its definition.
    pub definition: Definition,
    /// Name of its source (for arguments: the argument's name). Empty if unknown.
    pub name: Str,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// The argument of this index.
    Argument(usize),
    /// The result of this index of an operation.
    Result(OpId, usize),
}

impl Module {
    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|f| f.name == name)
    }

    /// The entry function.
    pub fn entry(&self) -> Option<&Function> {
        self.functions.first()
    }
}

impl Function {
    /// An empty function.
    pub fn new(name: impl Into<String>) -> Function {
        Function { name: name.into(), ..Function::default() }
    }

    /// Adds an argument.
    pub fn add_argument(&mut self, name: &str, ty: TensorType) -> ValueId {
        let id = ValueId::new(self.values.len());
        let definition = Definition::Argument(self.arguments.len());
        self.values.push(Value { ty, definition, name: Arc::from(name) });
        self.arguments.push(id);
        id
    }

    /// Adds a result.
    pub fn add_result(&mut self, name: &str, value: ValueId) {
        self.results.push(value);
        self.result_names.push(Arc::from(name));
    }

    /// The arguments, in order.
    pub fn arguments(&self) -> &[ValueId] {
        &self.arguments
    }

    /// Live operations, definitions before uses.
    pub fn order(&self) -> &[OpId] {
        &self.order
    }

    /// An operation.
    pub fn node(&self, id: OpId) -> &Node {
        &self.nodes[id.index()]
    }

    /// An operation, to annotate or relocate it. Its type rule must still hold afterwards.
    pub fn node_mut(&mut self, id: OpId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// Renames the source of a value.
    pub fn set_value_name(&mut self, id: ValueId, name: &str) {
        self.values[id.index()].name = Arc::from(name);
    }

    /// A value's type.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        &self.values[id.index()].ty
    }

    /// Number of values ever made (ids are below it).
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// The operation that defines a value, unless it is an argument.
    pub fn defining(&self, value: ValueId) -> Option<(OpId, &Node)> {
        match self.value(value).definition {
            Definition::Argument(_) => None,
            Definition::Result(op, _) => Some((op, self.node(op))),
        }
    }

    /// The parameter a value is, by name.
    pub fn parameter_name(&self, value: ValueId) -> Option<&Str> {
        match &self.defining(value)?.1.op {
            Op::Parameter { name } => Some(name),
            _ => None,
        }
    }

    /// Appends an operation; result types follow from the operands.
    ///
    /// # Errors
    /// When the operands do not fit the operation.
    pub fn add(
        &mut self,
        op: Op,
        operands: impl IntoIterator<Item = impl Into<Option<ValueId>>>,
        location: &str,
    ) -> Result<SmallVec<[ValueId; 2]>, InferError> {
        let operands: SmallVec<[Option<ValueId>; 4]> = operands.into_iter().map(Into::into).collect();
        let types = self.infer_results(&op, &operands, None)?;
        Ok(self.push(op, operands, types, location))
    }

    /// Appends an operation with one result.
    ///
    /// # Errors
    /// When the operands do not fit the operation.
    pub fn add_one(
        &mut self,
        op: Op,
        operands: impl IntoIterator<Item = impl Into<Option<ValueId>>>,
        location: &str,
    ) -> Result<ValueId, InferError> {
        Ok(self.add(op, operands, location)?[0])
    }

    /// Appends a parameter (a weight, by name) of a given type.
    pub fn add_parameter(&mut self, name: &str, ty: TensorType) -> ValueId {
        self.push(Op::Parameter { name: Arc::from(name) }, SmallVec::new(), [ty].into_iter().collect(), name)
            [0]
    }

    /// Appends a constant.
    pub fn add_constant(&mut self, value: crate::Dense, location: &str) -> ValueId {
        let ty = value.tensor_type();
        self.push(Op::Constant { value }, SmallVec::new(), [ty].into_iter().collect(), location)[0]
    }

    /// Appends an operation whose result types are declared (as in IR text); they must agree with the type rule.
    ///
    /// # Errors
    /// When operands or declared types do not fit the operation.
    pub fn add_declared(
        &mut self,
        op: Op,
        operands: SmallVec<[Option<ValueId>; 4]>,
        declared: &[TensorType],
        location: &str,
    ) -> Result<SmallVec<[ValueId; 2]>, InferError> {
        let types = self.infer_results(&op, &operands, Some(declared))?;
        Ok(self.push(op, operands, types, location))
    }

    /// Result types of `op` on `operands`.
    ///
    /// # Errors
    /// When operands or declared types do not fit the operation.
    pub fn infer_results(
        &self,
        op: &Op,
        operands: &[Option<ValueId>],
        declared: Option<&[TensorType]>,
    ) -> Result<SmallVec<[TensorType; 2]>, InferError> {
        let types: SmallVec<[Option<&TensorType>; 8]> =
            operands.iter().map(|v| v.map(|v| self.ty(v))).collect();
        infer(op, &types, declared)
    }

    pub(crate) fn push(
        &mut self,
        op: Op,
        operands: SmallVec<[Option<ValueId>; 4]>,
        types: SmallVec<[TensorType; 2]>,
        location: &str,
    ) -> SmallVec<[ValueId; 2]> {
        let id = OpId::new(self.nodes.len());
        let location: Str = Arc::from(location);
        let mut results = SmallVec::new();
        for (index, ty) in types.into_iter().enumerate() {
            results.push(ValueId::new(self.values.len()));
            self.values.push(Value { ty, definition: Definition::Result(id, index), name: location.clone() });
        }
        self.nodes.push(Node {
            op,
            operands,
            results: results.clone(),
            location,
            annotations: BTreeMap::new(),
        });
        self.order.push(id);
        results
    }

    /// Users of each value: `(operation, operand slot)` in order; results of the function are not among them.
    pub fn uses(&self) -> HashMap<ValueId, Vec<(OpId, usize)>> {
        let mut uses: HashMap<ValueId, Vec<(OpId, usize)>> = HashMap::new();
        for &op in &self.order {
            for (slot, operand) in self.node(op).operands.iter().enumerate() {
                if let Some(value) = operand {
                    uses.entry(*value).or_default().push((op, slot));
                }
            }
        }
        uses
    }

    /// Number of operations ever made (ids are below it).
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Redirects uses by `map` in results and in operands of operations with an index below `before`.
    pub(crate) fn redirect(&mut self, map: &HashMap<ValueId, ValueId>, before: usize) {
        for &op in self.order.iter().filter(|op| op.index() < before) {
            for operand in self.nodes[op.index()].operands.iter_mut().flatten() {
                *operand = *map.get(operand).unwrap_or(operand);
            }
        }
        for result in &mut self.results {
            *result = *map.get(result).unwrap_or(result);
        }
    }

    /// Removes operations whose results nothing needs; returns how many.
    pub fn remove_dead(&mut self) -> usize {
        let mut live = vec![false; self.values.len()];
        for r in &self.results {
            live[r.index()] = true;
        }
        let before = self.order.len();
        let mut kept = Vec::with_capacity(before);
        for &op in self.order.iter().rev() {
            let node = &self.nodes[op.index()];
            if node.results.iter().any(|r| live[r.index()]) {
                for operand in node.operands.iter().flatten() {
                    live[operand.index()] = true;
                }
                kept.push(op);
            }
        }
        kept.reverse();
        self.order = kept;
        before - self.order.len()
    }

    /// Restores "definitions before uses" after edits, keeping the present order where it can.
    ///
    /// # Panics
    /// When the operations form a cycle: an edit broke the SSA invariant.
    pub fn sort(&mut self) {
        let mut sorted = Vec::with_capacity(self.order.len());
        // 0 = unvisited, 1 = on the stack, 2 = placed.
        let mut mark = vec![0u8; self.nodes.len()];
        for &root in &self.order {
            let mut stack = vec![(root, 0usize)];
            while let Some((op, next)) = stack.pop() {
                if mark[op.index()] == 2 {
                    continue;
                }
                mark[op.index()] = 1;
                let operands = &self.nodes[op.index()].operands;
                let mut pushed = false;
                for slot in next..operands.len() {
                    if let Some(Definition::Result(def, _)) =
                        operands[slot].map(|v| self.values[v.index()].definition)
                    {
                        assert!(mark[def.index()] != 1, "invariant: operations form a DAG");
                        if mark[def.index()] == 0 {
                            stack.push((op, slot));
                            stack.push((def, 0));
                            pushed = true;
                            break;
                        }
                    }
                }
                if !pushed {
                    mark[op.index()] = 2;
                    sorted.push(op);
                }
            }
        }
        self.order = sorted;
    }
}
