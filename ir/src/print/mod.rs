//! The printer: a [`Module`] as MLIR generic assembly, byte for byte what `mlir-opt --mlir-print-op-generic` (with
//! `--mlir-print-debuginfo` where locations are asked for) prints back, so that dumps can pass through MLIR's tools and still be compared
//! as text. Names are deterministic.
//!
//! What the generic form has no place for travels in attributes: sizes of arguments in `qcc.dims` (an array of strings, where a size is
//! symbolic), names of arguments and results in `qcc.name`, state bindings in `qcc.states` (argument, result, argument, result, …),
//! annotations as `qcc.NAME`.

mod attribute;
mod float;
mod location;

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::attribute::Attribute;
use crate::dim::Dim;
use crate::entity::ValueId;
use crate::function::{Function, Module, Node};
use crate::ops::{Arity, OpSpec};
use crate::types::TensorType;
use attribute::{write_dictionary, write_display, write_list, write_string};
use location::{Locations, write_location};

/// The attribute that says how many operands each group takes.
pub(crate) const OPERAND_SEGMENTS: &str = "operandSegmentSizes";
/// The attribute that says how many results each group has.
pub(crate) const RESULT_SEGMENTS: &str = "resultSegmentSizes";

/// What the printer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether to write source names as MLIR locations. Without them a dump is shorter, but parsing it loses the names.
    pub locations: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { locations: true }
    }
}

/// The module as text; ends with a line break.
pub fn print_module(module: &Module, options: Options) -> String {
    let locations = options.locations.then(|| Locations::of(module));
    let mut printer = Printer { out: String::new(), locations };
    printer.module(module);
    printer.out
}

/// One function on its own, without locations: for messages and debugging.
pub fn print_function(function: &Function) -> String {
    let mut printer = Printer { out: String::new(), locations: None };
    printer.function(function, &mut Numbering::default());
    printer.out
}

/// The next free numbers of `%argN` and `%N`.
#[derive(Clone, Copy, Default)]
struct Numbering {
    argument: usize,
    value: usize,
}

impl Numbering {
    fn after(self, function: &Function) -> Numbering {
        let values = function.order().iter().filter(|op| !function.node(**op).results.is_empty()).count();
        Numbering { argument: self.argument + function.arguments().len(), value: self.value + values }
    }
}

struct Printer<'a> {
    out: String,
    locations: Option<Locations<'a>>,
}

/// The text name of each value.
struct Names(Vec<(NameKind, usize, Option<usize>)>);

#[derive(Clone, Copy)]
enum NameKind {
    Argument,
    Result,
}

impl Names {
    fn write(&self, out: &mut String, value: ValueId) {
        let (kind, number, index) = self.0[value.index()];
        out.push_str(match kind {
            NameKind::Argument => "%arg",
            NameKind::Result => "%",
        });
        write_display(out, number);
        if let Some(index) = index {
            out.push('#');
            write_display(out, index);
        }
    }
}

impl Printer<'_> {
    fn module(&mut self, module: &Module) {
        self.location_table(true);
        self.out.push_str("\"builtin.module\"() ({\n");
        if module.functions.is_empty() {
            // A module has one block; only of an empty one does it have to be said.
            self.out.push_str("^bb0:\n");
        }
        // MLIR numbers the functions of a generic module from the last to the first.
        let mut numbering = Numbering::default();
        let mut starts: Vec<Numbering> = Vec::with_capacity(module.functions.len());
        for function in module.functions.iter().rev() {
            starts.push(numbering);
            numbering = numbering.after(function);
        }
        for function in &module.functions {
            let mut start = starts.pop().expect("invariant: one start a function");
            self.function(function, &mut start);
        }
        self.out.push_str("}) : () -> ()");
        self.location("");
        self.out.push('\n');
        self.location_table(false);
    }

    fn location_table(&mut self, before: bool) {
        if let Some(locations) = &self.locations {
            locations.write_table(&mut self.out, before);
        }
    }

    fn location(&mut self, name: &str) {
        if let Some(locations) = &self.locations {
            locations.write_reference(&mut self.out, name);
        }
    }

    fn function(&mut self, function: &Function, numbering: &mut Numbering) {
        self.out.push_str("  \"func.func\"() <{");
        let argument_attributes: Vec<_> = function
            .arguments()
            .iter()
            .map(|v| port_attributes(&function.value(*v).name, Some(function.ty(*v))))
            .collect();
        self.port_attributes("arg_attrs = ", &argument_attributes);
        self.out.push_str("function_type = ");
        let argument_types = function.arguments().iter().map(|v| function.ty(*v));
        let result_types = function.results.iter().map(|v| function.ty(*v));
        write_function_type(&mut self.out, argument_types, result_types);
        self.out.push_str(", ");
        let result_attributes: Vec<_> = (0..function.results.len())
            .map(|i| port_attributes(function.result_names.get(i).map_or("", |n| n), None))
            .collect();
        self.port_attributes("res_attrs = ", &result_attributes);
        self.out.push_str("sym_name = ");
        write_string(&mut self.out, &function.name);
        self.out.push_str("}> ({\n");

        let mut names = Names(vec![(NameKind::Result, usize::MAX, None); function.value_count()]);
        self.block_arguments(function, numbering, &mut names);
        for &op in function.order() {
            self.node(function, function.node(op), numbering, &mut names);
        }
        self.terminator(function, &names);

        self.out.push_str("  })");
        if !function.states.is_empty() {
            let states = function.states.iter().flat_map(|s| [s.argument as i64, s.result as i64]).collect();
            self.out.push(' ');
            write_dictionary(&mut self.out, [("qcc.states", &Attribute::Ints(states))]);
        }
        self.out.push_str(" : () -> ()");
        self.location("");
        self.out.push('\n');
    }

    fn port_attributes(&mut self, key: &str, ports: &[BTreeMap<&str, Attribute>]) {
        if ports.iter().all(BTreeMap::is_empty) {
            return;
        }
        self.out.push_str(key);
        self.out.push('[');
        write_list(&mut self.out, "", ports, |out, port| {
            if port.is_empty() {
                out.push_str("{}");
            } else {
                write_dictionary(out, port.iter().map(|(k, v)| (*k, v)));
            }
        });
        self.out.push_str("], ");
    }

    fn block_arguments(&mut self, function: &Function, numbering: &mut Numbering, names: &mut Names) {
        if function.arguments().is_empty() {
            return;
        }
        self.out.push_str("  ^bb0(");
        for (i, &argument) in function.arguments().iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            names.0[argument.index()] = (NameKind::Argument, numbering.argument, None);
            numbering.argument += 1;
            names.write(&mut self.out, argument);
            self.out.push_str(": ");
            write_display(&mut self.out, function.ty(argument));
            if self.locations.is_some() {
                self.out.push(' ');
                write_location(&mut self.out, &function.value(argument).name);
            }
        }
        self.out.push_str("):\n");
    }

    fn node(&mut self, function: &Function, node: &Node, numbering: &mut Numbering, names: &mut Names) {
        self.out.push_str("    ");
        if !node.results.is_empty() {
            let number = numbering.value;
            numbering.value += 1;
            self.out.push('%');
            write_display(&mut self.out, number);
            let several = node.results.len() > 1;
            if several {
                self.out.push(':');
                write_display(&mut self.out, node.results.len());
            }
            for (i, result) in node.results.iter().enumerate() {
                names.0[result.index()] = (NameKind::Result, number, several.then_some(i));
            }
            self.out.push_str(" = ");
        }
        self.out.push_str("\"qcc.");
        self.out.push_str(node.op.name());
        self.out.push('"');
        let operands = || node.operands.iter().flatten();
        self.operands(operands(), names);
        self.node_attributes(node);
        self.out.push_str(" : ");
        let types = |v: &ValueId| function.ty(*v);
        write_function_type(&mut self.out, operands().map(types), node.results.iter().map(types));
        self.location(&node.location);
        self.out.push('\n');
    }

    fn operands<'v>(&mut self, operands: impl Iterator<Item = &'v ValueId>, names: &Names) {
        self.out.push('(');
        write_list(&mut self.out, "", operands, |out, v| names.write(out, *v));
        self.out.push(')');
    }

    fn node_attributes(&mut self, node: &Node) {
        let spec = node.op.spec();
        let mut entries: Vec<(Cow<'static, str>, AttributeText<'_>)> = node
            .op
            .attributes()
            .into_iter()
            .map(|(k, v)| (Cow::Borrowed(k), AttributeText::Attribute(Cow::Owned(v))))
            .collect();
        if OpSpec::needs_segments(spec.operands) {
            let present: Vec<bool> = node.operands.iter().map(Option::is_some).collect();
            entries
                .push((OPERAND_SEGMENTS.into(), AttributeText::Segments(segments(spec.operands, &present))));
        }
        if OpSpec::needs_segments(spec.results) {
            let present = vec![true; node.results.len()];
            entries.push((RESULT_SEGMENTS.into(), AttributeText::Segments(segments(spec.results, &present))));
        }
        for (name, value) in &node.annotations {
            entries.push((format!("qcc.{name}").into(), AttributeText::Attribute(Cow::Borrowed(value))));
        }
        if entries.is_empty() {
            return;
        }
        entries.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        self.out.push_str(" {");
        write_list(&mut self.out, "", &entries, |out, (key, value)| match value {
            AttributeText::Segments(sizes) => {
                out.push_str(key);
                out.push_str(" = array<i32");
                write_list(out, ": ", sizes, write_display);
                out.push('>');
            }
            AttributeText::Attribute(value) => {
                attribute::write_key(out, key);
                if **value != Attribute::Unit {
                    out.push_str(" = ");
                    attribute::write_attribute(out, value, false);
                }
            }
        });
        self.out.push('}');
    }

    fn terminator(&mut self, function: &Function, names: &Names) {
        self.out.push_str("    \"func.return\"");
        self.operands(function.results.iter(), names);
        self.out.push_str(" : ");
        write_function_type(&mut self.out, function.results.iter().map(|v| function.ty(*v)), []);
        self.location("");
        self.out.push('\n');
    }
}

enum AttributeText<'a> {
    Attribute(Cow<'a, Attribute>),
    /// `array<i32: …>`: an MLIR notion that no operation has as a field.
    Segments(Vec<usize>),
}

/// How many values each group takes, of slots that are present or not.
fn segments(groups: &[(&'static str, Arity)], present: &[bool]) -> Vec<usize> {
    let count = |slots: &[bool]| slots.iter().filter(|p| **p).count();
    (0..groups.len())
        .map(|i| match groups[i].1 {
            Arity::Variadic => count(present.get(i..).unwrap_or_default()),
            Arity::Single | Arity::Optional => count(present.get(i..i + 1).unwrap_or_default()),
        })
        .collect()
}

fn port_attributes(name: &str, ty: Option<&TensorType>) -> BTreeMap<&'static str, Attribute> {
    let mut attributes = BTreeMap::new();
    if !name.is_empty() {
        attributes.insert("qcc.name", Attribute::String(name.into()));
    }
    if let Some(ty) = ty.filter(|ty| ty.constant_dims().is_none()) {
        let dims = ty.dims.iter().map(|d: &Dim| Attribute::String(d.to_string().into())).collect();
        attributes.insert("qcc.dims", Attribute::Array(dims));
    }
    attributes
}

/// Writes `(A, B) -> C`; one result goes without parentheses.
fn write_function_type<'t>(
    out: &mut String,
    arguments: impl IntoIterator<Item = &'t TensorType>,
    results: impl IntoIterator<Item = &'t TensorType>,
) {
    out.push('(');
    write_list(out, "", arguments, write_display);
    out.push_str(") -> ");
    let results: Vec<&TensorType> = results.into_iter().collect();
    if let [ty] = results.as_slice() {
        return write_display(out, ty);
    }
    out.push('(');
    write_list(out, "", results, write_display);
    out.push(')');
}
