//! Running functions: weights are evaluated once a session, every value is dropped after its last use.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use qcc_ir::{Function, Node, Op, Str, TensorType, ValueId};
use qcc_params::{OpEvaluator, Parameters, Tensor};

use crate::error::InterpretError;
use crate::evaluate::Interpreter;
use crate::precision::hold;
use crate::symbols::Symbols;

impl Interpreter {
    /// Results of `function` on one input an argument (states included). Weights are evaluated for this run only; a [`Session`] keeps them.
    ///
    /// # Errors
    /// When inputs do not fit the arguments, a weight cannot be evaluated, or an operation fails.
    pub fn run(
        &self,
        function: &Function,
        parameters: &Parameters,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, InterpretError> {
        self.session(parameters).run(function, inputs)
    }

    /// As [`Interpreter::run`]; `tap` sees every value when it is computed: arguments, weights and constants, and results of operations.
    ///
    /// # Errors
    /// As [`Interpreter::run`].
    pub fn run_with_taps(
        &self,
        function: &Function,
        parameters: &Parameters,
        inputs: &[Tensor],
        tap: &mut dyn FnMut(ValueId, &Tensor),
    ) -> Result<Vec<Tensor>, InterpretError> {
        self.session(parameters).run_with_taps(function, inputs, tap)
    }

    /// A session on `parameters` (borrowed, shared or owned).
    pub fn session<P: Borrow<Parameters>>(&self, parameters: P) -> Session<P> {
        Session { interpreter: *self, parameters, weights: HashMap::new() }
    }
}

/// Runs functions on one parameter table and keeps the weights it has evaluated.
#[derive(Clone, Debug)]
pub struct Session<P> {
    interpreter: Interpreter,
    parameters: P,
    weights: HashMap<Str, Arc<Tensor>>,
}

/// A value that is alive.
enum Held<'a> {
    Input(&'a Tensor),
    Owned(Tensor),
    Weight(Arc<Tensor>),
}

impl Deref for Held<'_> {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        match self {
            Held::Input(t) => t,
            Held::Owned(t) => t,
            Held::Weight(t) => t,
        }
    }
}

impl<P: Borrow<Parameters>> Session<P> {
    /// Results of `function` on one input an argument (states included).
    ///
    /// # Errors
    /// When inputs do not fit the arguments, a weight cannot be evaluated, or an operation fails.
    pub fn run(&mut self, function: &Function, inputs: &[Tensor]) -> Result<Vec<Tensor>, InterpretError> {
        self.run_with_taps(function, inputs, &mut |_, _| {})
    }

    /// As [`Session::run`]; `tap` sees every value when it is computed: arguments, weights and constants, and results of operations.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_with_taps(
        &mut self,
        function: &Function,
        inputs: &[Tensor],
        tap: &mut dyn FnMut(ValueId, &Tensor),
    ) -> Result<Vec<Tensor>, InterpretError> {
        let symbols = Symbols::bind(function, inputs)?;
        let last_use = last_uses(function);
        let mut values: Vec<Option<Held<'_>>> = (0..function.value_count()).map(|_| None).collect();
        for (&argument, input) in function.arguments().iter().zip(inputs) {
            tap(argument, input);
            values[argument.index()] = Some(Held::Input(input));
        }
        for (step, &id) in function.order().iter().enumerate() {
            let node = function.node(id);
            let results = self.step(function, node, &symbols, &values)?;
            for (&value, result) in node.results.iter().zip(results) {
                tap(value, &result);
                if last_use[value.index()] > step {
                    values[value.index()] = Some(result);
                }
            }
            for operand in node.operands.iter().flatten() {
                if last_use[operand.index()] <= step {
                    values[operand.index()] = None;
                }
            }
        }
        let precision = self.interpreter.precision;
        let take = |value: &ValueId| {
            let held = values[value.index()].as_deref().ok_or_else(|| InterpretError::Input {
                function: function.name.clone(),
                name: function.value(*value).name.to_string(),
                reason: "it is a result of the function but nothing defines it".into(),
            })?;
            Ok(hold(held, precision).into_owned())
        };
        function.results.iter().map(take).collect()
    }

    fn step<'a>(
        &mut self,
        function: &Function,
        node: &Node,
        symbols: &Symbols,
        values: &[Option<Held<'a>>],
    ) -> Result<Vec<Held<'a>>, InterpretError> {
        let fail = |reason: String| InterpretError::Op {
            op: node.op.name(),
            location: node.location.to_string(),
            reason,
        };
        let types: Vec<TensorType> = node
            .results
            .iter()
            .map(|r| symbols.constant_type(function.ty(*r)))
            .collect::<Result<_, _>>()
            .map_err(fail)?;
        if let Op::Parameter { name } = &node.op {
            let weight = self.weight(function, name)?;
            if types.first() != Some(&weight.ty()) {
                return Err(fail(format!("the IR says {types:?}, the parameter table {:?}", weight.ty())));
            }
            return Ok(vec![Held::Weight(weight)]);
        }
        let operands: Vec<Option<&Tensor>> = node
            .operands
            .iter()
            .map(|operand| match operand {
                None => Ok(None),
                Some(v) => match &values[v.index()] {
                    Some(held) => Ok(Some(&**held)),
                    None => Err(fail(format!("operand {v} is used before it is defined"))),
                },
            })
            .collect::<Result<_, _>>()?;
        let bound = symbols.constant_op(&node.op).map_err(fail)?;
        let results =
            self.interpreter.evaluate(bound.as_ref().unwrap_or(&node.op), &operands, &types).map_err(fail)?;
        Ok(results.into_iter().map(Held::Owned).collect())
    }

    /// The value of a parameter, as the precision holds it.
    fn weight(&mut self, function: &Function, name: &Str) -> Result<Arc<Tensor>, InterpretError> {
        if let Some(weight) = self.weights.get(name) {
            return Ok(weight.clone());
        }
        let weight = self
            .parameters
            .borrow()
            .evaluate(name, &self.interpreter)
            .map_err(|source| InterpretError::Parameter { function: function.name.clone(), source })?;
        let weight = match hold(&weight, self.interpreter.precision) {
            std::borrow::Cow::Borrowed(_) => weight,
            std::borrow::Cow::Owned(held) => Arc::new(held),
        };
        self.weights.insert(name.clone(), weight.clone());
        Ok(weight)
    }
}

/// The last step that uses each value; results of the function outlive all steps, unused values none.
fn last_uses(function: &Function) -> Vec<usize> {
    let mut last = vec![0; function.value_count()];
    for (step, &id) in function.order().iter().enumerate() {
        for operand in function.node(id).operands.iter().flatten() {
            last[operand.index()] = step;
        }
    }
    for result in &function.results {
        last[result.index()] = usize::MAX;
    }
    last
}
