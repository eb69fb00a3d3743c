//! Locations as MLIR prints them: `loc(#loc3)` at each operation, the aliases in a table beside the module. Aliases are numbered in order
//! of first appearance; those that a block argument needs stand before the module, all others after it.

use std::collections::HashMap;

use super::attribute::{write_display, write_string};
use crate::function::Module;

/// The alias table of one module. The empty name is the unknown location.
pub(super) struct Locations<'a> {
    index: HashMap<&'a str, usize>,
    entries: Vec<(&'a str, bool)>,
}

impl<'a> Locations<'a> {
    /// Collects the locations of a module in the order MLIR visits them.
    pub(super) fn of(module: &'a Module) -> Locations<'a> {
        let mut table = Locations { index: HashMap::new(), entries: Vec::new() };
        // The module, the functions and the returns have no location of their own.
        table.add("", false);
        for function in &module.functions {
            for &argument in function.arguments() {
                table.add(&function.value(argument).name, true);
            }
            for &op in function.order() {
                table.add(&function.node(op).location, false);
            }
        }
        table
    }

    fn add(&mut self, name: &'a str, by_argument: bool) {
        let next = self.entries.len();
        let at = *self.index.entry(name).or_insert(next);
        if at == next {
            self.entries.push((name, false));
        }
        self.entries[at].1 |= by_argument;
    }

    /// Writes ` loc(#locN)`.
    pub(super) fn write_reference(&self, out: &mut String, name: &str) {
        out.push_str(" loc(");
        write_alias(out, self.index[name]);
        out.push(')');
    }

    /// Writes the aliases that stand before the module, or those after it.
    pub(super) fn write_table(&self, out: &mut String, before: bool) {
        for (at, (name, by_argument)) in self.entries.iter().enumerate() {
            if *by_argument == before {
                write_alias(out, at);
                out.push_str(" = ");
                write_location(out, name);
                out.push('\n');
            }
        }
    }
}

fn write_alias(out: &mut String, at: usize) {
    out.push_str("#loc");
    if at > 0 {
        write_display(out, at);
    }
}

/// Writes `loc("name")` or `loc(unknown)`.
pub(super) fn write_location(out: &mut String, name: &str) {
    out.push_str("loc(");
    if name.is_empty() {
        out.push_str("unknown");
    } else {
        write_string(out, name);
    }
    out.push(')');
}
