//! What the machine that a model is compiled for can do, roughly: enough to rank the forms of a function. Read from a description, never
//! measured while compiling, so that the same inputs give the same choices.

use egg::Id;
use qcc_ir::{Op, TensorType};
use serde::Deserialize;

use crate::equivalence::facts::{Facts, Graph};
use crate::equivalence::heads::{Meaning, meaning};
use crate::equivalence::language::Term;

/// A target description (TOML), of one core.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Target {
    /// Float operations (additions and multiplications) a second.
    pub float_operations: f64,
    /// Integer operations a second of 8-bit products.
    pub int8_operations: f64,
    /// Bytes read from memory a second.
    pub memory_bytes: f64,
    /// Bytes of activations moved in caches a second.
    pub cache_bytes: f64,
    /// Bytes of weights that caches hold from one call to the next.
    pub cached_bytes: f64,
    /// Elements of weights a second that are expanded from codes no product reads as they are.
    pub decoded_elements: f64,
    /// Seconds to start one operation.
    pub start: f64,
    /// Bits of a weight as it will be stored: of the format, not of the machine.
    #[serde(skip, default = "stored_bits")]
    pub weight_bits: f64,
    /// Tokens that are worked on together: 1 when a language model writes, hundreds when it reads.
    pub tokens: f64,
}

impl Default for Target {
    /// A core with 256-bit vectors.
    fn default() -> Target {
        Target {
            float_operations: 8e10,
            int8_operations: 1.6e11,
            memory_bytes: 1.2e10,
            cache_bytes: 6e10,
            cached_bytes: 1.6e7,
            decoded_elements: 4e9,
            start: 2e-7,
            weight_bits: stored_bits(),
            tokens: 1.0,
        }
    }
}

fn stored_bits() -> f64 {
    8.0
}

impl Target {
    /// Reads a description.
    ///
    /// # Errors
    /// When it is no TOML, has unknown keys, or numbers that are not above zero.
    pub fn parse(text: &str) -> Result<Target, String> {
        let target: Target = toml::from_str(text).map_err(|e| e.to_string())?;
        let Target { float_operations, int8_operations, memory_bytes, cache_bytes, .. } = target;
        let Target { cached_bytes, decoded_elements, start, tokens, .. } = target;
        let all = [
            ("float-operations", float_operations),
            ("int8-operations", int8_operations),
            ("memory-bytes", memory_bytes),
            ("cache-bytes", cache_bytes),
            ("cached-bytes", cached_bytes),
            ("decoded-elements", decoded_elements),
            ("start", start),
            ("tokens", tokens),
        ];
        match all.iter().find(|(_, x)| !(x.is_finite() && *x > 0.0)) {
            None => Ok(target),
            Some((key, x)) => Err(format!("`{key}` is {x}; it must be a number above zero")),
        }
    }

    /// Seconds of one token for an operation of its own on so many elements, each read and written once.
    pub fn elementwise_seconds(&self, elements: usize) -> f64 {
        let elements = elements as f64;
        self.start / self.tokens + 8.0 * elements / self.cache_bytes + 4.0 * elements / self.float_operations
    }

    /// Seconds of one token for a fast Hadamard transform of so many elements.
    pub fn transform_seconds(&self, elements: usize, size: i64) -> f64 {
        self.start / self.tokens
            + 8.0 * elements as f64 / self.cache_bytes
            + self.butterflies(elements as f64, size)
    }

    /// Seconds of a transform's additions: a butterfly for each doubling; vectors do not help the first few much.
    fn butterflies(&self, elements: f64, size: i64) -> f64 {
        4.0 * elements * (size as f64).max(2.0).log2() / self.float_operations
    }

    /// Seconds that an e-node takes for one token, by itself.
    pub fn seconds(&self, graph: &Graph, class: Id, term: &Term) -> f64 {
        let Term::Apply(head, children) = term else { return 0.0 };
        let facts: Vec<&Facts> = children.iter().map(|c| &graph[*c].data).collect();
        let result = elements(&graph[class].data);
        let moved: f64 = result + facts.iter().filter(|f| !f.is_free()).map(|f| elements(f)).sum::<f64>();
        let elementwise = self.start / self.tokens + 4.0 * moved / self.cache_bytes;
        match meaning(head, &facts) {
            Ok(Meaning::Op(op, from)) => elementwise + self.work(&op, &facts[from..], result),
            Ok(Meaning::Steps(steps)) => elementwise * steps.0.len() as f64,
            Ok(Meaning::Projection(_)) => 0.0,
            Err(_) => f64::INFINITY,
        }
    }

    /// Seconds of arithmetic and of reading weights.
    fn work(&self, op: &Op, operands: &[&Facts], result: f64) -> f64 {
        let ty = |i: usize| operands.get(i).and_then(|f| f.tensor()).map(|t| &t.ty);
        match op {
            Op::Linear {} | Op::Conv { .. } | Op::ConvTranspose { .. } => {
                let (weight, rows) = (ty(1).map_or(0.0, size), ty(1).and_then(|t| t.dims.first()).map(dim));
                let products = result * weight / rows.unwrap_or(1.0).max(1.0);
                let bytes = weight * self.weight_bits / 8.0 / self.tokens;
                (2.0 * products / self.int8_operations).max(bytes / self.memory_bytes)
            }
            Op::Matmul {} => {
                let inner = ty(0).and_then(|t| t.dims.last()).map_or(1.0, dim);
                2.0 * result * inner / self.float_operations
            }
            Op::Hadamard { size, .. } => self.butterflies(result, *size),
            Op::SelectiveScan {} | Op::SelectiveScanStates {} => {
                let states = ty(2).and_then(|t| t.dims.last()).map_or(1.0, dim);
                // An exponential and five more operations for each state.
                20.0 * result * states / self.float_operations
            }
            _ => 4.0 * result / self.float_operations,
        }
    }
}

/// Elements of one token: symbols count 1.
fn elements(facts: &Facts) -> f64 {
    match facts {
        Facts::Tensor(t) => size(&t.ty),
        Facts::Tuple(types) => types.iter().map(size).sum(),
        _ => 0.0,
    }
}

fn size(ty: &TensorType) -> f64 {
    ty.dims.iter().map(dim).product()
}

#[allow(clippy::cast_precision_loss, reason = "an estimate")]
fn dim(d: &qcc_ir::Dim) -> f64 {
    d.evaluate(&|_| Some(1)).map_or(f64::from(u32::MAX), |n| n as f64)
}
