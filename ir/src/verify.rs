//! The verifier: whether a module is what every pass and backend may rely on. The builder and the parser only make well-typed operations;
//! this finds what an edit broke (order, types, results, state bindings) and what no type rule sees (unknown parameters).

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::attribute::Str;
use crate::diagnostics::{Diagnostic, Location};
use crate::dim::Dim;
use crate::element::{ElementType, Granularity, QuantType, Storage};
use crate::entity::{OpId, ValueId};
use crate::function::{Definition, Function, Module};
use crate::infer::infer;
use crate::names::near_match;
use crate::ops::Op;
use crate::parse::Places;
use crate::types::TensorType;

/// What to check beyond the module itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// The parameters there are: others are errors.
    pub parameters: Option<&'a BTreeSet<String>>,
    /// The text the module was parsed from: errors then say where in it, else which operation of which function.
    pub source: Option<Source<'a>>,
}

/// A text and where the operations of a module stand in it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// As the parser gave them.
    pub places: &'a Places,
    /// What was parsed.
    pub text: &'a str,
}

/// Checks a module.
///
/// # Errors
/// All that is wrong with it, in order.
pub fn verify(module: &Module, options: Options<'_>) -> Result<(), Vec<Diagnostic>> {
    let mut verifier = Verifier { errors: Vec::new(), parameters: HashMap::new(), index: 0, options };
    let mut names = HashSet::new();
    for (index, function) in module.functions.iter().enumerate() {
        verifier.index = index;
        if function.name.is_empty() || !names.insert(&function.name) {
            verifier.report(verifier.at_function(function), "functions need names, and different ones");
        }
        verifier.function(function);
    }
    if verifier.errors.is_empty() { Ok(()) } else { Err(verifier.errors) }
}

struct Verifier<'a> {
    errors: Vec<Diagnostic>,
    /// The type each parameter was first declared with.
    parameters: HashMap<Str, (TensorType, Location)>,
    /// Which function is looked at.
    index: usize,
    options: Options<'a>,
}

impl Verifier<'_> {
    fn at_function(&self, function: &Function) -> Location {
        let place = self.options.source.and_then(|s| s.places.function(s.text, self.index));
        place.unwrap_or_else(|| Location::Source { function: function.name.clone(), op: "", name: "".into() })
    }

    fn at_node(&self, function: &Function, id: OpId) -> Location {
        let place = self.options.source.and_then(|s| s.places.operation(s.text, self.index, id));
        place.unwrap_or_else(|| {
            let node = function.node(id);
            Location::Source {
                function: function.name.clone(),
                op: node.op.name(),
                name: node.location.clone(),
            }
        })
    }

    fn report(&mut self, location: Location, message: impl Into<String>) {
        self.errors.push(Diagnostic::error(location, message));
    }

    fn function(&mut self, function: &Function) {
        let mut defined = vec![false; function.value_count()];
        for (index, &argument) in function.arguments().iter().enumerate() {
            if function.value(argument).definition != Definition::Argument(index) {
                self.report(self.at_function(function), format!("argument {index} is not defined as one"));
            }
            if let Err(message) = check_type(function.ty(argument)) {
                self.report(self.at_function(function), format!("argument {index}: {message}"));
            }
            defined[argument.index()] = true;
        }
        let mut placed = vec![false; function.node_count()];
        for &id in function.order() {
            if std::mem::replace(&mut placed[id.index()], true) {
                self.report(self.at_node(function, id), "the operation stands twice in the order");
                continue;
            }
            self.node(function, id, &mut defined);
        }
        self.results(function, &defined);
        self.states(function);
    }

    fn node(&mut self, function: &Function, id: OpId, defined: &mut [bool]) {
        let node = function.node(id);
        let is_defined = |v: &ValueId| defined.get(v.index()).copied().unwrap_or(false);
        if let Some(operand) = node.operands.iter().flatten().find(|v| !is_defined(v)) {
            let name =
                if operand.index() < function.value_count() { &*function.value(*operand).name } else { "" };
            return self.report(
                self.at_node(function, id),
                format!("uses the value `{name}` before its definition"),
            );
        }
        let owned = |(i, v): (usize, &ValueId)| {
            v.index() < function.value_count() && function.value(*v).definition == Definition::Result(id, i)
        };
        if !node.results.iter().enumerate().all(owned) {
            return self.report(self.at_node(function, id), "a result is not defined by the operation");
        }
        for result in &node.results {
            defined[result.index()] = true;
            if let Err(message) = check_type(function.ty(*result)) {
                self.report(self.at_node(function, id), message);
            }
        }
        let operands: Vec<Option<&TensorType>> =
            node.operands.iter().map(|v| v.map(|v| function.ty(v))).collect();
        let declared: Vec<TensorType> = node.results.iter().map(|v| function.ty(*v).clone()).collect();
        match infer(&node.op, &operands, Some(&declared)) {
            Err(error) => self.report(self.at_node(function, id), error.message),
            Ok(types) => {
                if let Some((rule, is)) = types.iter().zip(&declared).find(|(rule, is)| rule != is) {
                    self.report(
                        self.at_node(function, id),
                        format!("the result must be {rule:?}, but is {is:?}"),
                    );
                }
            }
        }
        let bad_name = |name: &&String| {
            let start = name.bytes().next();
            !start.is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$'))
        };
        if let Some(name) = node.annotations.keys().find(bad_name) {
            self.report(
                self.at_node(function, id),
                format!("the annotation `{name}` is not named by an identifier"),
            );
        }
        if let Op::Parameter { name } = &node.op {
            self.parameter(name, &declared[0], self.at_node(function, id));
        }
    }

    fn parameter(&mut self, name: &Str, ty: &TensorType, location: Location) {
        if ty.constant_dims().is_none() {
            self.report(location.clone(), "a parameter has constant sizes");
        }
        if let Some((first, place)) = self.parameters.get(name) {
            if first != ty {
                let message = format!("the parameter `{name}` is {ty} here and {first} elsewhere");
                let place = place.clone();
                self.errors
                    .push(Diagnostic::error(location, message).with_note(place, "first declared here"));
            }
            return;
        }
        self.parameters.insert(name.clone(), (ty.clone(), location.clone()));
        if let Some(known) = self.options.parameters.filter(|known| !known.contains(&**name)) {
            let near = near_match(name, known.iter().map(String::as_str));
            self.report(location, format!("there is no parameter `{name}`{near}"));
        }
    }

    fn results(&mut self, function: &Function, defined: &[bool]) {
        if function.results.len() != function.result_names.len() {
            let message =
                format!("{} results have {} names", function.results.len(), function.result_names.len());
            self.report(self.at_function(function), message);
        }
        for (index, result) in function.results.iter().enumerate() {
            if !defined.get(result.index()).copied().unwrap_or(false) {
                self.report(self.at_function(function), format!("result {index} is not defined"));
            }
        }
    }

    fn states(&mut self, function: &Function) {
        let (mut arguments, mut results) = (HashSet::new(), HashSet::new());
        for state in &function.states {
            let argument = function.arguments().get(state.argument);
            let result = function.results.get(state.result).filter(|v| v.index() < function.value_count());
            let (Some(argument), Some(result)) = (argument, result) else {
                let message = format!(
                    "the state binding of argument {} to result {} leaves the {} arguments and {} results",
                    state.argument,
                    state.result,
                    function.arguments().len(),
                    function.results.len()
                );
                self.report(self.at_function(function), message);
                continue;
            };
            if !arguments.insert(state.argument) || !results.insert(state.result) {
                let message =
                    format!("argument {} or result {} is bound to two states", state.argument, state.result);
                self.report(self.at_function(function), message);
            }
            let (from, to) = (function.ty(*argument), function.ty(*result));
            if !succeeds(from, to) {
                let name = &function.value(*argument).name;
                self.report(
                    self.at_function(function),
                    format!("the state `{name}` is {from:?} but becomes {to:?}"),
                );
            }
        }
    }
}

/// Whether a state of type `from` may become one of type `to`: the same, but that an axis whose size is a symbol may grow.
fn succeeds(from: &TensorType, to: &TensorType) -> bool {
    let grows = |from: &Dim, to: &Dim| {
        let symbol = from.as_symbol()?;
        let more = to.checked_sub(from)?;
        Some(more.symbols().iter().all(|s| &**s != symbol) && more.constant().is_none_or(|n| n >= 0))
    };
    from.rank() == to.rank()
        && (from.element, from.layout) == (to.element, to.layout)
        && from.dims.iter().zip(&to.dims).all(|(from, to)| from == to || grows(from, to) == Some(true))
}

/// Whether a type is one there can be.
fn check_type(ty: &TensorType) -> Result<(), String> {
    if ty.dims.iter().any(|d| d.constant().is_some_and(|n| n < 0)) {
        return Err(format!("{ty:?} has a negative size"));
    }
    let ElementType::Quant(QuantType { storage, granularity, .. }) = ty.element else { return Ok(()) };
    if Storage::from_name(&storage.name()) != Some(storage) {
        return Err(format!("there is no code `{}`", storage.name()));
    }
    match granularity {
        Granularity::Channel { axis } | Granularity::Block { axis, .. } if usize::from(axis) >= ty.rank() => {
            Err(format!("the scales of {ty} lie along axis {axis}, which it does not have"))
        }
        Granularity::Block { block: 0, .. } => Err(format!("{ty} has blocks of no elements")),
        Granularity::Token if ty.dims.is_empty() => Err(format!("{ty} has no rows to scale")),
        _ => Ok(()),
    }
}
