//! Attributes of a node, typed. Every attribute must be asked for: one that is left over has a meaning that was not imported.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::proto::{AttributeProto, NodeProto, TensorProto};

/// The attributes of one node.
pub(crate) struct Attributes<'a> {
    node: &'a NodeProto,
    asked: RefCell<HashSet<&'static str>>,
}

/// `AttributeProto.AttributeType`.
const FLOAT: i32 = 1;
const INT: i32 = 2;
const STRING: i32 = 3;
const TENSOR: i32 = 4;
const FLOATS: i32 = 6;
const INTS: i32 = 7;

impl<'a> Attributes<'a> {
    /// The attributes of `node`.
    pub fn new(node: &'a NodeProto) -> Attributes<'a> {
        Attributes { node, asked: RefCell::new(HashSet::new()) }
    }

    fn find(&self, name: &'static str, kind: i32, what: &str) -> Result<Option<&'a AttributeProto>, String> {
        self.asked.borrow_mut().insert(name);
        let Some(attribute) = self.node.attribute.iter().find(|a| a.name.as_deref() == Some(name)) else {
            return Ok(None);
        };
        match attribute.r#type {
            Some(is) if is != kind && is != 0 => Err(format!("its attribute `{name}` must be {what}")),
            _ => Ok(Some(attribute)),
        }
    }

    /// An integer.
    pub fn int(&self, name: &'static str) -> Result<Option<i64>, String> {
        Ok(self.find(name, INT, "an integer")?.map(|a| a.i.unwrap_or(0)))
    }

    /// An integer that is 0 or 1.
    pub fn flag(&self, name: &'static str, default: bool) -> Result<bool, String> {
        Ok(self.int(name)?.map_or(default, |v| v != 0))
    }

    /// Integers.
    pub fn ints(&self, name: &'static str) -> Result<Option<Vec<i64>>, String> {
        Ok(self.find(name, INTS, "a list of integers")?.map(|a| a.ints.clone()))
    }

    /// A float.
    pub fn float(&self, name: &'static str) -> Result<Option<f64>, String> {
        Ok(self.find(name, FLOAT, "a float")?.map(|a| f64::from(a.f.unwrap_or(0.0))))
    }

    /// Floats.
    pub fn floats(&self, name: &'static str) -> Result<Option<Vec<f32>>, String> {
        Ok(self.find(name, FLOATS, "a list of floats")?.map(|a| a.floats.clone()))
    }

    /// A string.
    pub fn string(&self, name: &'static str) -> Result<Option<&'a str>, String> {
        let Some(attribute) = self.find(name, STRING, "a string")? else { return Ok(None) };
        let bytes = attribute.s.as_deref().unwrap_or_default();
        std::str::from_utf8(bytes).map(Some).map_err(|_| format!("its attribute `{name}` is not UTF-8"))
    }

    /// A tensor.
    pub fn tensor(&self, name: &'static str) -> Result<Option<&'a TensorProto>, String> {
        let Some(attribute) = self.find(name, TENSOR, "a tensor")? else { return Ok(None) };
        attribute.t.as_ref().map(Some).ok_or_else(|| format!("its attribute `{name}` must be a tensor"))
    }

    /// Attributes without influence on the result at inference.
    pub fn ignore(&self, names: &[&'static str]) {
        self.asked.borrow_mut().extend(names);
    }

    /// Refuses every value of an integer attribute but its default.
    pub fn only(&self, name: &'static str, default: i64) -> Result<(), String> {
        match self.int(name)? {
            Some(value) if value != default => {
                Err(format!("its attribute `{name}` is {value}; only {default} can be imported"))
            }
            _ => Ok(()),
        }
    }

    /// Checks that every attribute was asked for.
    pub fn finish(&self) -> Result<(), String> {
        let asked = self.asked.borrow();
        let left = self.node.attribute.iter().find(|a| !a.name.as_deref().is_some_and(|n| asked.contains(n)));
        match left {
            Some(a) => Err(format!(
                "its attribute `{}` is not known for this operator",
                a.name.as_deref().unwrap_or_default()
            )),
            None => Ok(()),
        }
    }
}
