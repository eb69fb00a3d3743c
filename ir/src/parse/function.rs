//! Modules, functions and operations. Result types of operations follow from their operands; what the text declares must agree. That is
//! also how symbolic sizes come back: arguments bring them in `qcc.dims`, the type rules carry them on.

use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use super::attribute::insert_new;
use super::cursor::{Cursor, Outcome};
use super::lexer::Kind;
use super::types::{FunctionType, UNKNOWN_SIZE};
use super::{Failure, Places};
use crate::attribute::{Attribute, Str};
use crate::dim::Dim;
use crate::entity::ValueId;
use crate::function::{Function, Module, StateBinding};
use crate::names::near_match;
use crate::ops::{Arity, AttributeError, Op, OpSpec, TABLE};
use crate::print::{OPERAND_SEGMENTS, RESULT_SEGMENTS};
use crate::types::TensorType;

/// After this many operations that break their type rule the parser gives up.
const MAX_ERRORS: usize = 20;

/// What is said of an argument or result.
#[derive(Default)]
struct Port {
    name: Option<Str>,
    dims: Option<Vec<Dim>>,
}

/// What stands in `<{…}>` of a function.
#[derive(Default)]
struct Properties {
    name: Option<String>,
    ty: Option<FunctionType>,
    arguments: Vec<Port>,
    results: Vec<Port>,
}

/// A function under construction.
struct Scope<'a> {
    function: Function,
    /// Values by text name; `None` where the defining operation was wrong, so that its users are not blamed as well.
    values: HashMap<&'a str, Vec<Option<ValueId>>>,
}

/// Operation text before it is understood.
struct Generic<'a> {
    start: usize,
    /// Names of the results and how many each stands for.
    results: Vec<(&'a str, usize, usize)>,
    operands: Vec<(&'a str, usize, usize)>,
    attributes: BTreeMap<String, Attribute>,
    operand_segments: Option<Vec<i64>>,
    result_segments: Option<Vec<i64>>,
    ty: FunctionType,
    location: Str,
}

/// The module and its collected errors.
pub(super) struct Units<'a, 'p> {
    pub cursor: Cursor<'a>,
    pub module: Module,
    pub places: &'p mut Places,
    pub errors: Vec<Failure>,
}

impl<'a> Units<'a, '_> {
    /// The whole text: one `builtin.module`, or functions without one.
    pub(super) fn text(&mut self) -> Outcome<()> {
        while self.cursor.token.kind != Kind::End {
            let start = self.cursor.token.start;
            match self.cursor.token.kind {
                Kind::Hash => self.alias_definition()?,
                Kind::String => match &*self.cursor.string("an operation name")? {
                    "builtin.module" => self.module()?,
                    "func.func" => self.function(start)?,
                    _ => return self.cursor.expected("`\"builtin.module\"` or `\"func.func\"` before this"),
                },
                _ => return self.cursor.expected("`\"builtin.module\"` or `\"func.func\"`"),
            }
        }
        Ok(())
    }

    fn alias_definition(&mut self) -> Outcome<()> {
        self.cursor.advance()?;
        self.cursor.expect(b'=')?;
        self.cursor.location().map(drop)
    }

    fn module(&mut self) -> Outcome<()> {
        self.open_region()?;
        if self.cursor.token.kind == Kind::Caret {
            self.cursor.advance()?;
            self.cursor.expect(b':')?;
        }
        while !self.cursor.at(b'}') {
            let at = self.cursor.token.start;
            if &*self.cursor.string("`\"func.func\"` or `}`")? != "func.func" {
                return Err(Failure::new(at, "a module holds only `\"func.func\"`"));
            }
            self.function(at)?;
        }
        self.close_region(|_, key, at, _| Err(Failure::new(at, format!("a module has no attribute `{key}`"))))
    }

    /// `() ({`, or `() <{…}> ({` with properties already taken.
    fn open_region(&mut self) -> Outcome<()> {
        self.cursor.expect(b'(')?;
        self.cursor.expect(b')')?;
        self.open_body()
    }

    fn open_body(&mut self) -> Outcome<()> {
        self.cursor.expect(b'(')?;
        self.cursor.expect(b'{').map(drop)
    }

    /// `}) {…} : () -> () loc(…)`
    fn close_region(
        &mut self,
        entry: impl FnMut(&mut Cursor<'a>, &str, usize, bool) -> Outcome<()>,
    ) -> Outcome<()> {
        let c = &mut self.cursor;
        c.expect(b'}')?;
        c.expect(b')')?;
        if c.accept(b'{')? {
            c.dictionary(entry)?;
        }
        c.expect(b':')?;
        let at = c.token.start;
        if c.function_type()? != (Vec::new(), Vec::new()) {
            return Err(Failure::new(at, "expected the type `() -> ()`"));
        }
        c.trailing_location().map(drop)
    }

    fn function(&mut self, start: usize) -> Outcome<()> {
        self.cursor.expect(b'(')?;
        self.cursor.expect(b')')?;
        if !self.cursor.accept(b'<')? {
            return self.cursor.expected("the function's properties `<{…}>`");
        }
        let properties = self.properties()?;
        let name = properties.name.ok_or_else(|| Failure::new(start, "the function has no `sym_name`"))?;
        let ty = properties.ty.ok_or_else(|| Failure::new(start, "the function has no `function_type`"))?;
        if self.module.function(&name).is_some() {
            return Err(Failure::new(start, format!("there are two functions `{name}`")));
        }
        self.open_body()?;
        let mut scope = Scope { function: Function::new(name), values: HashMap::new() };
        let ports = fit_ports(properties.arguments, ty.0.len(), "arg_attrs", start)?;
        self.block_arguments(&mut scope, &ty.0, ports)?;
        let function_index = self.module.functions.len();
        let returned = self.body(&mut scope, function_index)?;
        let results = fit_ports(properties.results, ty.1.len(), "res_attrs", start)?;
        if returned.len() != ty.1.len() {
            let message =
                format!("the function returns {} values, its type says {}", returned.len(), ty.1.len());
            return Err(Failure::new(start, message));
        }
        for ((value, declared), port) in returned.into_iter().zip(&ty.1).zip(results) {
            let Some(value) = value else { continue };
            if !agrees(scope.function.ty(value), declared) {
                let message =
                    format!("a result is {}, the function type says {declared}", scope.function.ty(value));
                return Err(Failure::new(start, message));
            }
            scope.function.add_result(port.name.as_deref().unwrap_or(""), value);
        }
        let mut states = Vec::new();
        self.close_region(|c, key, at, has_value| match key {
            "qcc.states" if has_value && states.is_empty() => {
                states = c.state_bindings()?;
                Ok(())
            }
            _ => Err(Failure::new(
                at,
                format!(
                    "a function has no attribute `{key}`; its state bindings are `qcc.states = array<i64: …>`"
                ),
            )),
        })?;
        scope.function.states = states;
        self.places.functions.push(start);
        self.module.functions.push(scope.function);
        Ok(())
    }

    /// `{…}>`
    fn properties(&mut self) -> Outcome<Properties> {
        let c = &mut self.cursor;
        let mut properties = Properties::default();
        let mut seen = BTreeMap::new();
        c.expect(b'{')?;
        c.dictionary(|c, key, at, has_value| {
            insert_new(&mut seen, key, (), at)?;
            match key {
                _ if !has_value => Err(Failure::new(at, format!("`{key}` needs a value"))),
                "sym_name" => {
                    properties.name = Some(c.string("the function's name")?.into_owned());
                    Ok(())
                }
                "sym_visibility" => c.string("a visibility").map(drop),
                "function_type" => {
                    properties.ty = Some(c.function_type()?);
                    Ok(())
                }
                "arg_attrs" => {
                    properties.arguments = c.ports()?;
                    Ok(())
                }
                "res_attrs" => {
                    properties.results = c.ports()?;
                    Ok(())
                }
                _ => Err(Failure::new(at, format!("`func.func` has no property `{key}`"))),
            }
        })?;
        c.expect(b'>')?;
        Ok(properties)
    }

    fn block_arguments(
        &mut self,
        scope: &mut Scope<'a>,
        types: &[TensorType],
        ports: Vec<Port>,
    ) -> Outcome<()> {
        let c = &mut self.cursor;
        let start = c.token.start;
        let mut ports = ports.into_iter();
        if c.token.kind == Kind::Caret {
            c.advance()?;
            if c.accept(b'(')? {
                c.list(b')', |c| {
                    let at = c.token.start;
                    let name = c.lexeme();
                    c.expect_kind(Kind::Percent, "an argument")?;
                    c.expect(b':')?;
                    let ty = c.tensor_type()?;
                    let location = c.trailing_location()?;
                    let index = scope.function.arguments().len();
                    let (Some(port), true) = (ports.next(), types.get(index) == Some(&ty)) else {
                        return Err(Failure::new(at, "the block's arguments differ from the function type"));
                    };
                    let ty = named_sizes(ty, port.dims, at)?;
                    let value = scope.function.add_argument(&port.name.unwrap_or(location), ty);
                    scope.define(name, vec![Some(value)], at)
                })?;
            }
            c.expect(b':')?;
        }
        if scope.function.arguments().len() == types.len() {
            return Ok(());
        }
        Err(Failure::new(start, "the block's arguments differ from the function type"))
    }

    /// Operations up to `func.return`, whose operands it gives.
    fn body(&mut self, scope: &mut Scope<'a>, function_index: usize) -> Outcome<Vec<Option<ValueId>>> {
        loop {
            let results = self.cursor.result_names()?;
            let name_at = self.cursor.token.start;
            let name = self.cursor.string("an operation, e.g. `\"qcc.add\"`, or `\"func.return\"`")?;
            let op = self.cursor.generic(name_at, results)?;
            if name == "func.return" {
                if !op.results.is_empty() || !op.ty.1.is_empty() || !op.attributes.is_empty() {
                    return Err(Failure::new(name_at, "`func.return` has no results and no attributes"));
                }
                return op.operands(scope);
            }
            let Some(short) = name.strip_prefix("qcc.") else {
                return Err(Failure::new(
                    name_at,
                    format!("`{name}` is not an operation of the dialect `qcc`"),
                ));
            };
            self.operation(scope, short, op, function_index)?;
        }
    }

    fn operation(
        &mut self,
        scope: &mut Scope<'a>,
        name: &str,
        mut text: Generic<'a>,
        function_index: usize,
    ) -> Outcome<()> {
        let operands = text.operands(scope)?;
        let wrong = if operands.contains(&None) {
            None
        } else {
            let operands: Vec<ValueId> = operands.into_iter().flatten().collect();
            match text.build(scope, name, &operands) {
                Ok(results) => {
                    let id = scope.function.order().last().expect("invariant: an operation was just added");
                    self.places.operations.insert((function_index, *id), text.start);
                    return scope.define_results(&text.results, results.iter().map(|v| Some(*v)).collect());
                }
                Err(failure) => Some(failure),
            }
        };
        // The operation is wrong but its text is well formed: note it, and go on to find other errors.
        self.errors.extend(wrong);
        if self.errors.len() >= MAX_ERRORS {
            return Err(Failure::new(text.start, "too many errors"));
        }
        let count = text.ty.1.len();
        scope.define_results(&text.results, vec![None; count])
    }
}

impl<'a> Cursor<'a> {
    /// `[{qcc.dims = ["B"], qcc.name = "x"}, {}]`
    fn ports(&mut self) -> Outcome<Vec<Port>> {
        let mut ports = Vec::new();
        self.expect(b'[')?;
        self.list(b']', |c| {
            let at = c.expect(b'{')?.start;
            let mut entries = BTreeMap::new();
            c.attributes(&mut entries)?;
            let mut port = Port::default();
            for (key, value) in entries {
                match (key.as_str(), value) {
                    ("qcc.name", Attribute::String(name)) => port.name = Some(name),
                    ("qcc.dims", Attribute::Array(sizes)) => {
                        let size = |a: &Attribute| match a {
                            Attribute::String(text) => Dim::parse(text),
                            _ => None,
                        };
                        let dims = sizes.iter().map(size).collect::<Option<_>>();
                        let message = "`qcc.dims` is an array of sizes as strings, e.g. `[\"B\", \"2*T + 1\", \"256\"]`";
                        port.dims = Some(dims.ok_or_else(|| Failure::new(at, message))?);
                    }
                    (key, _) => {
                        let message = format!("`{key}` is not `qcc.name = \"…\"` or `qcc.dims = [\"…\"]`");
                        return Err(Failure::new(at, message));
                    }
                }
            }
            ports.push(port);
            Ok(())
        })?;
        Ok(ports)
    }

    /// `array<i64: argument, result, …>`
    fn state_bindings(&mut self) -> Outcome<Vec<StateBinding>> {
        let at = self.token.start;
        let indices = self.integers("i64")?;
        let index = |n: i64| {
            usize::try_from(n)
                .map_err(|_| Failure::new(at, format!("`qcc.states` holds the negative index {n}")))
        };
        if indices.len() % 2 != 0 {
            return Err(Failure::new(at, "`qcc.states` holds pairs: argument, result, argument, result, …"));
        }
        indices
            .chunks_exact(2)
            .map(|pair| Ok(StateBinding { argument: index(pair[0])?, result: index(pair[1])? }))
            .collect()
    }

    /// `%0:2, %a =`, if an operation has results.
    fn result_names(&mut self) -> Outcome<Vec<(&'a str, usize, usize)>> {
        let mut names = Vec::new();
        if self.token.kind != Kind::Percent {
            return Ok(names);
        }
        loop {
            let (name, at) = (self.lexeme(), self.token.start);
            self.expect_kind(Kind::Percent, "a result")?;
            let count = if self.accept(b':')? { self.natural("how many results there are")? } else { 1 };
            let count = usize::try_from(count).map_err(|_| Failure::new(at, "too many results"))?;
            names.push((name, count, at));
            if !self.accept(b',')? {
                self.expect(b'=')?;
                return Ok(names);
            }
        }
    }

    /// `(operands) <{…}> {…} : type loc(…)`
    fn generic(&mut self, start: usize, results: Vec<(&'a str, usize, usize)>) -> Outcome<Generic<'a>> {
        let mut op = Generic {
            start,
            results,
            operands: Vec::new(),
            attributes: BTreeMap::new(),
            operand_segments: None,
            result_segments: None,
            ty: Default::default(),
            location: "".into(),
        };
        self.expect(b'(')?;
        self.list(b')', |c| {
            op.operands.push(c.operand()?);
            Ok(())
        })?;
        if self.accept(b'<')? {
            self.expect(b'{')?;
            self.operation_attributes(&mut op)?;
            self.expect(b'>')?;
        }
        if self.at(b'(') {
            return self.fail("operations of the dialect have no regions");
        }
        if self.accept(b'{')? {
            self.operation_attributes(&mut op)?;
        }
        self.expect(b':')?;
        op.ty = self.function_type()?;
        op.location = self.trailing_location()?;
        Ok(op)
    }

    /// `%a` or `%a#1`
    fn operand(&mut self) -> Outcome<(&'a str, usize, usize)> {
        let (name, at) = (self.lexeme(), self.token.start);
        let token = self.expect_kind(Kind::Percent, "an operand")?;
        if self.token.kind != Kind::Hash || self.token.start != token.end {
            return Ok((name, 0, at));
        }
        match self.lexeme()[1..].parse() {
            Ok(index) => self.advance().map(|_| (name, index, at)),
            Err(_) => self.expected("the index of a result"),
        }
    }

    fn operation_attributes(&mut self, op: &mut Generic<'a>) -> Outcome<()> {
        self.dictionary(|c, key, at, has_value| {
            let segments = match key {
                OPERAND_SEGMENTS => &mut op.operand_segments,
                RESULT_SEGMENTS => &mut op.result_segments,
                _ => {
                    let value = if has_value { c.attribute()? } else { Attribute::Unit };
                    return insert_new(&mut op.attributes, key, value, at);
                }
            };
            match segments.replace(c.integers("i32")?) {
                None => Ok(()),
                Some(_) => Err(Failure::new(at, format!("the attribute `{key}` occurs twice"))),
            }
        })
    }
}

impl<'a> Scope<'a> {
    fn define(&mut self, name: &'a str, values: Vec<Option<ValueId>>, at: usize) -> Outcome<()> {
        match self.values.insert(name, values) {
            None => Ok(()),
            Some(_) => Err(Failure::new(at, format!("`{name}` is defined twice"))),
        }
    }

    fn define_results(
        &mut self,
        names: &[(&'a str, usize, usize)],
        mut values: Vec<Option<ValueId>>,
    ) -> Outcome<()> {
        for &(name, count, at) in names {
            if count > values.len() {
                return Err(Failure::new(at, format!("`{name}` names more results than the operation has")));
            }
            let rest = values.split_off(count);
            self.define(name, std::mem::replace(&mut values, rest), at)?;
        }
        match (names.first(), values.is_empty()) {
            (Some((name, _, at)), false) => {
                Err(Failure::new(*at, format!("`{name}` leaves {} results without a name", values.len())))
            }
            _ => Ok(()),
        }
    }
}

impl<'a> Generic<'a> {
    /// The values of the operands; their types must be those written.
    fn operands(&self, scope: &Scope<'a>) -> Outcome<Vec<Option<ValueId>>> {
        if self.operands.len() != self.ty.0.len() {
            let message = format!("{} operands, but {} operand types", self.operands.len(), self.ty.0.len());
            return Err(Failure::new(self.start, message));
        }
        let look_up = |&(name, index, at): &(&str, usize, usize), ty: &TensorType| {
            let value = *scope
                .values
                .get(name)
                .ok_or_else(|| Failure::new(at, format!("`{name}` is used before its definition")))?
                .get(index)
                .ok_or_else(|| Failure::new(at, format!("`{name}` has no result {index}")))?;
            match value.map(|v| scope.function.ty(v)).filter(|actual| !agrees(actual, ty)) {
                None => Ok(value),
                Some(actual) => Err(Failure::new(at, format!("`{name}` has type {actual}, not {ty}"))),
            }
        };
        self.operands.iter().zip(&self.ty.0).map(|(operand, ty)| look_up(operand, ty)).collect()
    }

    fn build(
        &mut self,
        scope: &mut Scope<'a>,
        name: &str,
        operands: &[ValueId],
    ) -> Outcome<SmallVec<[ValueId; 2]>> {
        let fail = |message: String| Failure::new(self.start, message);
        let op = Op::from_attributes(name, &mut self.attributes).map_err(|e| match e {
            AttributeError::UnknownOp(_) => {
                fail(format!("{e}{}", near_match(name, TABLE.iter().map(|spec| spec.name))))
            }
            e => fail(e.to_string()),
        })?;
        let spec = op.spec();
        let mut annotations = BTreeMap::new();
        for (key, value) in std::mem::take(&mut self.attributes) {
            let Some(short) = key.strip_prefix("qcc.").filter(|short| !short.is_empty()) else {
                let near = near_match(&key, spec.attributes.iter().map(|(name, _)| *name));
                return Err(fail(format!(
                    "`qcc.{name}` has no attribute `{key}`{near}; annotations are called `qcc.…`"
                )));
            };
            annotations.insert(short.to_string(), value);
        }
        if self.result_segments.is_some() {
            return Err(fail(format!("`qcc.{name}` takes no `{RESULT_SEGMENTS}`")));
        }
        let slots = slots(spec, operands, self.operand_segments.as_deref()).map_err(fail)?;
        if matches!(op, Op::Parameter { .. }) && self.ty.1.iter().any(|ty| ty.constant_dims().is_none()) {
            return Err(fail("a parameter has constant sizes".into()));
        }
        let results = scope
            .function
            .add_declared(op, slots, &self.ty.1, &self.location)
            .map_err(|e| Failure::new(self.start, e.to_string()))?;
        if !annotations.is_empty() {
            let id = *scope.function.order().last().expect("invariant: an operation was just added");
            scope.function.node_mut(id).annotations = annotations;
        }
        Ok(results)
    }
}

/// One slot an operand group; a variadic group takes the rest.
fn slots(
    spec: &OpSpec,
    operands: &[ValueId],
    segments: Option<&[i64]>,
) -> Result<SmallVec<[Option<ValueId>; 4]>, String> {
    let groups = spec.operands;
    let name = spec.name;
    let sizes: SmallVec<[usize; 8]> = match (OpSpec::needs_segments(groups), segments) {
        (true, Some(sizes)) => {
            let sizes: SmallVec<[usize; 8]> =
                sizes.iter().map(|n| usize::try_from(*n).unwrap_or(usize::MAX)).collect();
            let total = sizes.iter().try_fold(0usize, |sum, n| sum.checked_add(*n));
            if sizes.len() != groups.len() || total != Some(operands.len()) {
                return Err(format!(
                    "`{OPERAND_SEGMENTS}` does not fit the {} operands of `qcc.{name}`",
                    operands.len()
                ));
            }
            sizes
        }
        (true, None) => {
            return Err(format!("`qcc.{name}` needs `{OPERAND_SEGMENTS}`, one size an operand group"));
        }
        (false, Some(_)) => return Err(format!("`qcc.{name}` takes no `{OPERAND_SEGMENTS}`")),
        (false, None) => {
            let singles = groups.iter().filter(|(_, a)| *a == Arity::Single).count();
            let Some(rest) = operands.len().checked_sub(singles) else {
                return Err(format!(
                    "`qcc.{name}` takes at least {singles} operands, got {}",
                    operands.len()
                ));
            };
            if singles == groups.len() && rest > 0 {
                return Err(format!("`qcc.{name}` takes {singles} operands, got {}", operands.len()));
            }
            groups.iter().map(|(_, a)| if *a == Arity::Single { 1 } else { rest }).collect()
        }
    };
    let mut operands = operands.iter().copied();
    let mut slots = SmallVec::new();
    for ((group, arity), size) in groups.iter().zip(sizes) {
        match (arity, size) {
            (Arity::Optional, 0) => slots.push(None),
            (Arity::Single | Arity::Optional, 1) => slots.push(operands.next()),
            (Arity::Variadic, n) => slots.extend(operands.by_ref().take(n).map(Some)),
            _ => return Err(format!("`qcc.{name}` takes one operand `{group}`, got {size}")),
        }
    }
    Ok(slots)
}

/// One port a value; none at all stands for ports without attributes.
fn fit_ports(mut ports: Vec<Port>, count: usize, what: &str, at: usize) -> Outcome<Vec<Port>> {
    if ports.is_empty() {
        ports.resize_with(count, Port::default);
    }
    if ports.len() == count {
        Ok(ports)
    } else {
        Err(Failure::new(at, format!("`{what}` needs {count} entries")))
    }
}

/// Whether a type is as written, where `?` stands for any symbolic size.
fn agrees(actual: &TensorType, written: &TensorType) -> bool {
    actual.element == written.element
        && actual.layout == written.layout
        && actual.rank() == written.rank()
        && actual.dims.iter().zip(&written.dims).all(|(a, w)| a.constant() == w.constant())
}

/// The type of an argument with the sizes `qcc.dims` names.
fn named_sizes(written: TensorType, dims: Option<Vec<Dim>>, at: usize) -> Outcome<TensorType> {
    match dims {
        None if written.dims.contains(&Dim::symbol(UNKNOWN_SIZE)) => Err(Failure::new(
            at,
            "the argument has a dynamic size; name its sizes in `arg_attrs`, e.g. `{qcc.dims = [\"B\", \"256\"]}`",
        )),
        None => Ok(written),
        Some(dims) => {
            let named = TensorType { dims, ..written.clone() };
            if agrees(&named, &written) {
                return Ok(named);
            }
            Err(Failure::new(at, format!("`qcc.dims` says {:?}, the type {written}", named.dims)))
        }
    }
}
