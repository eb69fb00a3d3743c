//! Formats by channel: keys and values are divided by the scales of their features, found in calibration, before they are cached. Queries are
//! multiplied by those of keys, and what attention yields by those of values, so that but for rounding the function is the same.

use qcc_ir::format::CacheFormat;
use qcc_ir::{Dense, Function, Module, Op, OpId, Patch, ValueId};
use qcc_params::Tensor;

use super::{NAME, defining, mark, operand, reads_states};
use crate::context::Context;
use crate::observe::observe;
use crate::pass::PassError;

const NEEDS: &str = "scales of channels of keys and values are measured";

/// Keys or values of an attention.
struct Site {
    attention: OpId,
    format: CacheFormat,
    is_keys: bool,
    /// The concatenation that puts new ones behind those of before.
    concat: OpId,
    new: ValueId,
    /// Heads of queries, of keys and values, features of a head.
    heads: usize,
    shared: usize,
    features: usize,
    /// The largest of each feature of each head.
    largest: Vec<f32>,
}

impl Site {
    fn find(
        function: &Function,
        attention: OpId,
        is_keys: bool,
        format: CacheFormat,
    ) -> Result<Site, String> {
        let slot = if is_keys { 1 } else { 2 };
        let held = operand(function, attention, slot)?;
        let concat = defining(function, held)?;
        if function.node(concat).op != (Op::Concat { axis: 1 }) || function.node(concat).operands.len() != 2 {
            return Err("what is new is not put behind what was before".into());
        }
        if function.uses().remove(&held).unwrap_or_default().len() != 1 {
            return Err("they are read by others too".into());
        }
        let size = |value: ValueId, axis: usize| {
            let size = function.ty(value).dims.get(axis).and_then(qcc_ir::Dim::constant);
            let size = size.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
            size.ok_or_else(|| "heads and features have no constant number".to_string())
        };
        let (shared, features) = (size(held, 2)?, size(held, 3)?);
        let new = operand(function, concat, 1)?;
        let heads = size(operand(function, attention, 0)?, 2)?;
        let largest = vec![0.0; shared * features];
        Ok(Site { attention, format, is_keys, concat, new, heads, shared, features, largest })
    }

    fn see(&mut self, tensor: &Tensor) {
        let channels = self.largest.len();
        for row in tensor.f32_values().chunks_exact(channels) {
            for (largest, x) in self.largest.iter_mut().zip(row) {
                // NaN and infinities say nothing of a range.
                if x.is_finite() {
                    *largest = largest.max(x.abs());
                }
            }
        }
    }

    /// Scales of the features of heads of keys or values.
    fn scales(&self) -> Vec<f32> {
        #[allow(clippy::cast_possible_truncation, reason = "levels are f32 numbers")]
        let level = self.format.rows().map_or(1.0, |q| q.largest_level() as f32);
        let scale = |largest: &f32| Some(largest / level).filter(|s| s.is_normal()).unwrap_or(1.0);
        self.largest.iter().map(scale).collect()
    }

    fn divide(&self, function: &mut Function) -> Result<(), String> {
        let location = function.node(self.attention).location.to_string();
        let features = i64::try_from(self.features).map_err(|e| e.to_string())?;
        let times = |function: &mut Function, patch: &mut Patch, x: ValueId, factors: &[f32]| {
            let rows = factors.len() as i64 / features;
            let factors = function.add_constant(Dense::f32(&[rows, features], factors), &location);
            patch.add(function, Op::Mul {}, [x, factors], &location).map_err(|e| e.to_string())
        };
        let scales = self.scales();
        let inverses: Vec<f32> = scales.iter().map(|s| 1.0 / s).collect();
        // Of each head of queries.
        let group = self.heads / self.shared;
        let wide: Vec<f32> = (0..self.heads)
            .flat_map(|h| &scales[h / group * self.features..][..self.features])
            .copied()
            .collect();
        let mut patch = Patch::new();
        let divided = times(function, &mut patch, self.new, &inverses)?;
        function.node_mut(self.concat).operands[1] = Some(divided);
        if self.is_keys {
            let queries = operand(function, self.attention, 0)?;
            let queries = times(function, &mut patch, queries, &wide)?;
            function.node_mut(self.attention).operands[0] = Some(queries);
        } else {
            let y = function.node(self.attention).results[0];
            let multiplied = times(function, &mut patch, y, &wide)?;
            patch.redirect(y, multiplied);
        }
        patch.apply(function).map_err(|e| e.to_string())?;
        let state = operand(function, self.concat, 0)?;
        mark(function, state, "divided", &inverses.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
        function.sort();
        Ok(())
    }
}

/// Divides what is held in formats by channel.
pub(super) fn divide(
    module: &mut Module,
    keys: CacheFormat,
    values: CacheFormat,
    context: &mut Context<'_>,
) -> Result<(), PassError> {
    let mut sites = Vec::new();
    for (index, function) in module.functions.iter().enumerate() {
        for id in function.order().iter().copied().filter(|id| reads_states(function, *id)) {
            if index != 0 {
                return Err(PassError::failed(
                    NAME,
                    "keys and values are calibrated in the entry function alone",
                ));
            }
            for (is_keys, format) in [(true, keys), (false, values)] {
                if format.is_by_channel() {
                    let location = function.node(id).location.to_string();
                    let site = Site::find(function, id, is_keys, format);
                    sites.push(site.map_err(|e| PassError::at(NAME, &location, e))?);
                }
            }
        }
    }
    if sites.is_empty() {
        return Ok(());
    }
    let new: Vec<ValueId> = sites.iter().map(|site| site.new).collect();
    observe(NAME, NEEDS, module, &new, 1, context, |_, part, tensors| {
        for (site, tensor) in part.iter().zip(tensors) {
            sites[*site].see(tensor);
        }
    })?;
    let function = &mut module.functions[0];
    for site in sites {
        let location = function.node(site.attention).location.to_string();
        site.divide(function).map_err(|e| PassError::at(NAME, &location, e))?;
    }
    Ok(())
}
