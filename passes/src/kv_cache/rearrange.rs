//! `rearrange-kv-channels` (K-sort; Accurate Block Quantization in LLMs with Outliers, arXiv 2403.20137): features of keys of similar size
//! become neighbours, so that a block of them that shares a scale holds no small ones beside large ones. Queries are rearranged alike,
//! which leaves every score as it is.
//!
//! | form | rearranges | costs |
//! | --- | --- | --- |
//! | `pairs` | pairs of features that are turned together, which become neighbours: rows of the weights of keys and queries, and frequencies, which each head of keys then has of its own | nothing at run time |
//! | `any` | any features, behind the rotation | moving keys and queries at run time |
//!
//! Features are sorted by size, the largest first. What rounding makes of scores is `Σ_blocks max k² · Σ_features q²`: as long as two features of
//! different blocks can change places for less of it, they do. So the block of the largest features is filled up with those that queries
//! weigh least, not with the next largest.
//!
//! Values have their blocks along tokens, where the order of features does not matter; `values=true` sorts them all the same, with the columns
//! of the layer that reads them.

use qcc_ir::format::CacheFormat;
use qcc_ir::{Dense, DenseData, Dim, Function, Module, Op, OpId, Str, ValueId};
use qcc_params::Parameters;

use super::rotate::{NAME as ROTATES, rotate};
use super::{defining, mark, operand, reads_states};
use crate::context::Context;
use crate::observe::observe;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};
use crate::transform::Explanation;
use crate::transform::explanation::{LayerChoice, Refusal};
use crate::weights;

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "sorts features of keys by size, so that blocks of a cache hold features alike",
    options: &[
        ("keys", "format of cached keys, whose blocks are to hold features alike (default bfp4:block=16)"),
        (
            "by",
            "what sizes are: `weights` (default), norms of rows, or `keys`, the largest calibrated keys and mean square queries",
        ),
        ("form", "`pairs` (default) is free at run time, `any` groups best"),
        ("values", "`true` sorts features of values too (default false)"),
        (
            "whole",
            "what becomes of heads that are one block: `keep` (default), or `rotate` as `rotate-keys` does",
        ),
    ],
    make: |options| Ok(Box::new(Rearrange::new(options)?)),
};

const NAME: &str = "rearrange-kv-channels";
const NEEDS: &str = "sizes of keys are measured";

struct Rearrange {
    keys: CacheFormat,
    by_keys: bool,
    pairs: bool,
    values: bool,
    rotates_whole: bool,
}

impl Rearrange {
    fn new(options: &mut Options) -> Result<Rearrange, String> {
        let default = || CacheFormat::parse("bfp4:block=16").map_err(|e| e.to_string());
        let keys = options.take("keys")?.map_or_else(default, Ok)?;
        let mut either = |name: &str, words: [&str; 2]| match options.take::<String>(name)? {
            None => Ok(false),
            Some(word) if word == words[0] => Ok(false),
            Some(word) if word == words[1] => Ok(true),
            Some(word) => Err(format!("`{name}={word}`: there are {} and {}", words[0], words[1])),
        };
        Ok(Rearrange {
            keys,
            by_keys: either("by", ["weights", "keys"])?,
            pairs: !either("form", ["pairs", "any"])?,
            values: either("values", ["false", "true"])?,
            rotates_whole: either("whole", ["keep", "rotate"])?,
        })
    }
}

impl Pass for Rearrange {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut explanation = Explanation { pass: NAME, ..Explanation::default() };
        let (mut sorted, mut seen) = (0, 0);
        for index in 0..module.functions.len() {
            let function = &mut module.functions[index];
            let (mut sites, mut refused) = (Vec::new(), Vec::new());
            for id in function.order().to_vec() {
                if !reads_states(function, id) {
                    continue;
                }
                let name = function.node(id).location.to_string();
                if self.rotates_whole && is_one_block(function, id, self.keys) {
                    seen += 1;
                    match rotate(function, id) {
                        Ok(()) => explanation.layers.push(LayerChoice::done(&name, ROTATES)),
                        Err(why) => refused.push((name, why)),
                    }
                    continue;
                }
                match Site::find(function, id).and_then(|site| site.fits(self.keys)) {
                    Ok(site) => sites.push((name, site)),
                    Err(why) => refused.push((name, why)),
                }
            }
            seen += sites.len() + refused.len();
            for (name, why) in refused {
                context.warn(NAME, format!("`{name}` keeps the order of its keys: {why}"));
                explanation.refused.push(Refusal::new(&name, NAME, why));
            }
            let sizes = self.sizes(module, index, &sites, context)?;
            let block = self.keys.block().unwrap_or(1) as usize;
            for ((name, site), sizes) in sites.into_iter().zip(sizes) {
                let at = |e: String| PassError::at(NAME, &name, e);
                let function = &mut module.functions[index];
                site.sort(function, &mut context.parameters, &sizes, (self.pairs, block)).map_err(at)?;
                if self.values {
                    match site.values(function) {
                        Ok(values) => values.sort(function, context).map_err(at)?,
                        Err(why) => {
                            context.warn(NAME, format!("`{name}` keeps the order of its values: {why}"));
                        }
                    }
                }
                explanation.layers.push(LayerChoice::done(&name, NAME));
                sorted += 1;
            }
            module.functions[index].sort();
            module.functions[index].remove_dead();
        }
        if seen == 0 {
            context.warn(NAME, "there is no attention that keeps keys and values".to_string());
        }
        context.explanations.push(explanation);
        Ok(Outcome::of([("layers", sorted)]))
    }
}

impl Rearrange {
    /// The sizes of features of each head of keys of the sites.
    fn sizes(
        &self,
        module: &Module,
        index: usize,
        sites: &[(String, Site)],
        context: &mut Context<'_>,
    ) -> Result<Vec<Vec<Sizes>>, PassError> {
        if !self.by_keys {
            let function = &module.functions[index];
            let of = |(name, site): &(String, Site)| {
                site.norms(function, context).map_err(|e| PassError::at(NAME, name, e))
            };
            return sites.iter().map(of).collect();
        }
        if sites.is_empty() {
            return Ok(Vec::new());
        }
        if index != 0 {
            return Err(PassError::failed(NAME, "keys are calibrated in the entry function alone"));
        }
        let none = |site: &Site| Sizes { keys: vec![0.0; site.features], queries: vec![0.0; site.features] };
        let mut sizes: Vec<Vec<Sizes>> = sites.iter().map(|(_, site)| vec![none(site); site.heads]).collect();
        // Keys of a site, then its queries.
        let values: Vec<ValueId> =
            sites.iter().flat_map(|(_, site)| [site.new_keys, site.turned_queries]).collect();
        observe(NAME, NEEDS, module, &values, 1, context, |_, part, tensors| {
            for (value, tensor) in part.iter().zip(tensors) {
                let (site, is_keys) = (value / 2, value % 2 == 0);
                let (group, features) = (sites[site].1.group, sites[site].1.features);
                let share = if is_keys { 1 } else { group };
                let heads = sizes[site].len() * share;
                for (at, x) in tensor.f32_values().iter().enumerate() {
                    let (of_head, feature) = (&mut sizes[site][at / features % heads / share], at % features);
                    let x = f64::from(*x);
                    if is_keys {
                        of_head.keys[feature] = of_head.keys[feature].max(x.abs());
                    } else {
                        of_head.queries[feature] += x * x;
                    }
                }
            }
        })?;
        Ok(sizes)
    }
}

/// How large features of a head are.
#[derive(Clone)]
struct Sizes {
    /// Of keys.
    keys: Vec<f64>,
    /// Squares, of the queries that read them.
    queries: Vec<f64>,
}

/// A projection to heads: a layer, whose result is reshaped, perhaps normalised and turned.
#[derive(Clone, Copy)]
struct Projection {
    layer: OpId,
    norm: Option<OpId>,
    turn: OpId,
}

/// Attention whose keys can be sorted.
struct Site {
    attention: OpId,
    queries: Projection,
    keys: Projection,
    /// Keys and queries of a call, turned.
    new_keys: ValueId,
    turned_queries: ValueId,
    /// The state.
    state: ValueId,
    /// Heads of keys, query heads that share one, features of a head.
    heads: usize,
    group: usize,
    features: usize,
}

/// The operation that alone reads a value.
fn only_reader(function: &Function, value: ValueId) -> Result<OpId, String> {
    let users = function.uses().remove(&value).unwrap_or_default();
    match users.as_slice() {
        [(user, _)] if !function.results.contains(&value) => Ok(*user),
        _ => Err(format!("`{}` is read by others too", function.value(value).name)),
    }
}

impl Projection {
    /// What makes `value`, which nothing else may read on the way.
    fn find(function: &Function, value: ValueId, what: &str) -> Result<Projection, String> {
        let turn = defining(function, value)?;
        if function.node(turn).op != (Op::RotaryEmbedding { interleaved: false }) {
            return Err(format!("its {what} are not turned by halves of a head"));
        }
        let mut at = operand(function, turn, 0)?;
        let mut norm = None;
        let id = defining(function, at)?;
        if matches!(function.node(id).op, Op::RmsNorm { .. }) {
            only_reader(function, at)?;
            let gain = operand(function, id, 1)?;
            function.parameter_name(gain).ok_or_else(|| format!("the gain of its {what} is computed"))?;
            norm = Some(id);
            at = operand(function, id, 0)?;
        }
        let reshape = defining(function, at)?;
        only_reader(function, at)?;
        let Op::Reshape { .. } = function.node(reshape).op else {
            return Err(format!("its {what} are no heads of a layer"));
        };
        let made = operand(function, reshape, 0)?;
        only_reader(function, made)?;
        let layer = defining(function, made)?;
        if function.node(layer).op != (Op::Linear {}) {
            return Err(format!("its {what} are not made by a linear layer"));
        }
        for slot in 1..function.node(layer).operands.len() {
            if let Some(weight) = function.node(layer).operands[slot] {
                let named = function.parameter_name(weight).is_some();
                named.then_some(()).ok_or_else(|| format!("the weight of its {what} is computed"))?;
            }
        }
        Ok(Projection { layer, norm, turn })
    }

    /// Reads rows of the weight and bias in another order.
    fn reorder(
        self,
        function: &mut Function,
        parameters: &mut Parameters,
        order: &[usize],
    ) -> Result<(), String> {
        for slot in [1, 2] {
            gather(function, parameters, self.layer, slot, 0, order)?;
        }
        Ok(())
    }
}

/// Makes an operand that is a weight one whose entries along an axis are in another order.
fn gather(
    function: &mut Function,
    parameters: &mut Parameters,
    id: OpId,
    slot: usize,
    axis: i64,
    order: &[usize],
) -> Result<(), String> {
    let Some(weight) = function.node(id).operands.get(slot).copied().flatten() else { return Ok(()) };
    let name = function.parameter_name(weight).cloned().ok_or("a weight is computed")?;
    let indices = order.iter().map(|i| i64::try_from(*i)).collect::<Result<Vec<_>, _>>();
    let indices = Dense::i64(&[order.len() as i64], &indices.map_err(|e| e.to_string())?);
    let indices = weights::constant(parameters, &format!("{name}.order"), indices);
    let sorted =
        weights::computed(parameters, &format!("{name}.sorted"), Op::Gather { axis }, &[&name, &indices])?;
    let value = weights::value(function, parameters, &sorted)?;
    function.node_mut(id).operands[slot] = Some(value);
    Ok(())
}

impl Site {
    fn find(function: &Function, attention: OpId) -> Result<Site, String> {
        let all = operand(function, attention, 1)?;
        let concat = defining(function, all)?;
        if function.node(concat).op != (Op::Concat { axis: 1 }) || function.node(concat).operands.len() != 2 {
            return Err("its keys are not put behind those of before".into());
        }
        let (state, new_keys) = (operand(function, concat, 0)?, operand(function, concat, 1)?);
        let queries = operand(function, attention, 0)?;
        for value in [queries, new_keys] {
            only_reader(function, value)?;
        }
        let keys = Projection::find(function, new_keys, "keys")?;
        let turned_queries = queries;
        let queries = Projection::find(function, queries, "queries")?;
        let frequencies = operand(function, keys.turn, 2)?;
        if operand(function, queries.turn, 2)? != frequencies {
            return Err("its queries and keys are turned by other frequencies".into());
        }
        let constant = function.defining(frequencies).is_some_and(
            |(_, node)| matches!(&node.op, Op::Constant { value } if matches!(value.data, DenseData::F32(_))),
        );
        if !constant {
            return Err("its frequencies are no constant".into());
        }
        let size = |dim: &Dim| {
            dim.constant().and_then(|n| usize::try_from(n).ok()).ok_or("a head has no constant size")
        };
        let dims = |value: ValueId| function.ty(value).dims.clone();
        let (heads, features) = (size(&dims(new_keys)[2])?, size(&dims(new_keys)[3])?);
        let group = size(&dims(turned_queries)[2])? / heads.max(1);
        let ty = function.ty(frequencies);
        if ty.rank() != 1 || size(&ty.dims[0])? * 2 != features {
            return Err(
                "not all features of its heads are turned, or heads have frequencies of their own".into()
            );
        }
        Ok(Site { attention, queries, keys, new_keys, turned_queries, state, heads, group, features })
    }

    /// Refuses where sorting changes nothing.
    fn fits(self, keys: CacheFormat) -> Result<Site, String> {
        match keys.block() {
            None => Err(format!("in {keys} no features of a head share a scale with some others alone")),
            Some(block) if block as usize >= self.features => Err(format!(
                "a block of {block} holds a whole head of {} features, whose order then does not matter",
                self.features
            )),
            Some(_) => Ok(self),
        }
    }

    /// Norms of the rows that make each feature, by head.
    fn norms(&self, function: &Function, context: &Context<'_>) -> Result<Vec<Sizes>, String> {
        let keys = self.row_norms(function, context, self.keys)?;
        let queries = self.row_norms(function, context, self.queries)?;
        let of_group = |queries: &[Vec<f64>]| {
            let squares = |j: usize| queries.iter().map(|head| head[j] * head[j]).sum::<f64>();
            let half = self.features / 2;
            (0..2 * half).map(|j| squares(j % half) + squares(j % half + half)).collect()
        };
        let queries = queries.chunks_exact(self.group.max(1)).map(of_group);
        // The rotation makes both of a pair as large as they are together.
        let half = self.features / 2;
        let turned =
            |head: Vec<f64>| (0..2 * half).map(|j| head[j % half].hypot(head[j % half + half])).collect();
        let keys = keys.into_iter().map(turned);
        Ok(keys.zip(queries).map(|(keys, queries)| Sizes { keys, queries }).collect())
    }

    /// Norms of the rows of a projection, its bias included, by its heads.
    fn row_norms(
        &self,
        function: &Function,
        context: &Context<'_>,
        projection: Projection,
    ) -> Result<Vec<Vec<f64>>, String> {
        let values = |value: ValueId| {
            let name = function.parameter_name(value).ok_or("a weight is computed")?;
            let tensor = context.parameters.evaluate(name, context.evaluator).map_err(|e| e.to_string())?;
            Ok::<_, String>(tensor.to_f64_vec())
        };
        let layer = operand(function, projection.layer, 1)?;
        let row =
            function.ty(layer).dims.get(1).and_then(Dim::constant).and_then(|n| usize::try_from(n).ok());
        let (weight, row) = (values(layer)?, row.ok_or("a weight has no constant size")?);
        // Inputs are about 1 large; a bias counts as one more of them.
        let bias = match function.node(projection.layer).operands.get(2).copied().flatten() {
            Some(bias) => values(bias)?,
            None => Vec::new(),
        };
        let norm = |(at, row): (usize, &[f64])| {
            let squares: f64 = row.iter().map(|w| w * w).sum();
            squares.sqrt().hypot(bias.get(at).copied().unwrap_or(0.0))
        };
        let norms: Vec<f64> = weight.chunks_exact(row.max(1)).enumerate().map(norm).collect();
        let mut heads: Vec<Vec<f64>> = norms.chunks_exact(self.features).map(<[f64]>::to_vec).collect();
        if let Some(norm) = projection.norm {
            // What is normalised is as large as its gain says.
            let gains = values(operand(function, norm, 1)?)?;
            heads.iter_mut().for_each(|head| head.iter_mut().zip(&gains).for_each(|(n, g)| *n *= g.abs()));
        }
        Ok(heads)
    }

    /// Features of each head in their order for blocks of so many.
    fn orders(&self, sizes: &[Sizes], pairs: bool, block: usize) -> Vec<Vec<usize>> {
        let half = self.features / 2;
        let order = |sizes: &Sizes| {
            if !pairs {
                return grouped(&sizes.keys, &sizes.queries, block);
            }
            let keys: Vec<f64> = (0..half).map(|j| sizes.keys[j].hypot(sizes.keys[j + half])).collect();
            let queries: Vec<f64> = (0..half).map(|j| sizes.queries[j] + sizes.queries[j + half]).collect();
            // Neighbours, so that a block holds both of a pair however long it is.
            grouped(&keys, &queries, block.div_ceil(2)).into_iter().flat_map(|j| [j, j + half]).collect()
        };
        if pairs && self.keys.norm.is_some() {
            // All heads have the gains of one norm.
            let sum = |of: &dyn Fn(&Sizes) -> &[f64], power: i32| -> Vec<f64> {
                (0..self.features).map(|j| sizes.iter().map(|s| of(s)[j].powi(power)).sum()).collect()
            };
            let keys = sum(&|s| &s.keys, 2).into_iter().map(f64::sqrt).collect();
            return vec![order(&Sizes { keys, queries: sum(&|s| &s.queries, 1) }); self.heads];
        }
        sizes.iter().map(order).collect()
    }

    fn sort(
        &self,
        function: &mut Function,
        parameters: &mut Parameters,
        sizes: &[Sizes],
        (pairs, block): (bool, usize),
    ) -> Result<(), String> {
        let orders = self.orders(sizes, pairs, block);
        let rows = |share: usize| of_heads(&orders, share);
        if pairs {
            self.keys.reorder(function, parameters, &rows(1))?;
            self.queries.reorder(function, parameters, &rows(self.group))?;
            for norm in [self.keys.norm, self.queries.norm].into_iter().flatten() {
                gather(function, parameters, norm, 1, 0, &orders[0])?;
            }
            self.reorder_frequencies(function, &orders)?;
        } else {
            for (slot, reader, order) in [
                (1, defining(function, operand(function, self.attention, 1)?)?, rows(1)),
                (0, self.attention, rows(self.group)),
            ] {
                self.move_features(function, reader, slot, &order)?;
            }
        }
        mark_order(function, self.state, &rows(1));
        Ok(())
    }

    /// Gives each head of keys the frequencies of its pairs.
    fn reorder_frequencies(&self, function: &mut Function, orders: &[Vec<usize>]) -> Result<(), String> {
        let old = operand(function, self.keys.turn, 2)?;
        let (_, node) = function.defining(old).ok_or("frequencies are an argument")?;
        let Op::Constant { value: Dense { data: DenseData::F32(frequencies), .. } } = &node.op else {
            return Err("frequencies are no constant".into());
        };
        let half = frequencies.len();
        #[allow(clippy::cast_possible_truncation, reason = "they are f32 numbers")]
        let of = |order: &Vec<usize>| {
            order.iter().step_by(2).map(|j| frequencies[*j].0 as f32).collect::<Vec<f32>>()
        };
        let location = node.location.clone();
        let alike = orders.iter().all(|order| *order == orders[0]);
        let value = if alike {
            Dense::f32(&[half as i64], &of(&orders[0]))
        } else {
            let all: Vec<f32> = orders.iter().flat_map(of).collect();
            Dense::f32(&[orders.len() as i64, half as i64], &all)
        };
        let new = function.add_constant(value, &location);
        for turn in [self.keys.turn, self.queries.turn] {
            let node = function.node_mut(turn);
            node.operands[2] = Some(new);
            node.op = Op::RotaryEmbedding { interleaved: true };
        }
        Ok(())
    }

    /// Moves features of an operand `[batch, token, head, feature]` at run time.
    fn move_features(
        &self,
        function: &mut Function,
        reader: OpId,
        slot: usize,
        order: &[usize],
    ) -> Result<(), String> {
        let value = operand(function, reader, slot)?;
        let dims = function.ty(value).dims.clone();
        let location = function.node(reader).location.to_string();
        let flat = dims[2].checked_mul(&dims[3]).ok_or("a size overflows")?;
        let indices: Result<Vec<i64>, _> = order.iter().map(|i| i64::try_from(*i)).collect();
        let indices = Dense::i64(&[order.len() as i64], &indices.map_err(|e| e.to_string())?);
        let indices = function.add_constant(indices, &location);
        let mut add = |op: Op, operands: Vec<ValueId>| {
            function.add_one(op, operands, &location).map_err(|e| e.to_string())
        };
        let shape = vec![dims[0].clone(), dims[1].clone(), flat];
        let joined = add(Op::Reshape { shape }, vec![value])?;
        let moved = add(Op::Gather { axis: 2 }, vec![joined, indices])?;
        let parted = add(Op::Reshape { shape: dims }, vec![moved])?;
        function.node_mut(reader).operands[slot] = Some(parted);
        Ok(())
    }

    /// The layers that make values and read what attention makes of them.
    fn values(&self, function: &Function) -> Result<ValueSite, String> {
        let all = operand(function, self.attention, 2)?;
        let concat = defining(function, all)?;
        let new = operand(function, concat, 1)?;
        let reshape = defining(function, new)?;
        only_reader(function, new)?;
        let made = operand(function, reshape, 0)?;
        only_reader(function, made)?;
        let layer = defining(function, made)?;
        let back = only_reader(function, function.node(self.attention).results[0])?;
        let reader = only_reader(function, function.node(back).results[0])?;
        let is = |id: OpId, wanted: &dyn Fn(&Op) -> bool| wanted(&function.node(id).op);
        let linear = |op: &Op| *op == Op::Linear {};
        let reshapes = |op: &Op| matches!(op, Op::Reshape { .. });
        if !(is(layer, &linear) && is(reader, &linear) && is(reshape, &reshapes) && is(back, &reshapes)) {
            return Err("its values are not made and read by linear layers alone".into());
        }
        for id in [layer, reader] {
            for weight in function.node(id).operands.iter().skip(1).flatten() {
                function.parameter_name(*weight).ok_or("a weight of its values is computed")?;
            }
        }
        let features = function.ty(new).dims[3].constant().and_then(|n| usize::try_from(n).ok());
        let features = features.ok_or("a head has no constant size")?;
        let state = operand(function, concat, 0)?;
        Ok(ValueSite { layer, reader, state, heads: self.heads, group: self.group, features })
    }
}

/// Layers whose features of values can be sorted.
struct ValueSite {
    layer: OpId,
    reader: OpId,
    state: ValueId,
    heads: usize,
    group: usize,
    features: usize,
}

impl ValueSite {
    fn sort(&self, function: &mut Function, context: &mut Context<'_>) -> Result<(), String> {
        let weight = operand(function, self.layer, 1)?;
        let name: &Str = function.parameter_name(weight).ok_or("a weight is computed")?;
        let tensor = context.parameters.evaluate(name, context.evaluator).map_err(|e| e.to_string())?;
        let weight = tensor.to_f64_vec();
        let row = weight.len() / (self.heads * self.features).max(1);
        let norms: Vec<f64> =
            weight.chunks_exact(row.max(1)).map(|r| r.iter().map(|w| w * w).sum()).collect();
        let orders: Vec<Vec<usize>> = norms.chunks_exact(self.features).map(descending).collect();
        let rows = |share: usize| of_heads(&orders, share);
        for slot in [1, 2] {
            gather(function, &mut context.parameters, self.layer, slot, 0, &rows(1))?;
        }
        gather(function, &mut context.parameters, self.reader, 1, 1, &rows(self.group))?;
        mark_order(function, self.state, &rows(1));
        Ok(())
    }
}

/// The features of all heads in their order, where `share` heads follow each other that have the same.
fn of_heads(orders: &[Vec<usize>], share: usize) -> Vec<usize> {
    let heads = orders.iter().flat_map(|order| std::iter::repeat_n(order, share));
    heads.enumerate().flat_map(|(h, order)| order.iter().map(move |j| h * order.len() + j)).collect()
}

/// Indices in blocks of so many: by size, the largest first, and then exchanged between blocks while that lowers
/// `Σ_blocks max size² · Σ weights`.
fn grouped(sizes: &[f64], weights: &[f64], block: usize) -> Vec<usize> {
    let mut order = descending(sizes);
    let block = block.max(1);
    let error = |members: &[usize]| {
        let most = members.iter().fold(0.0f64, |m, i| m.max(sizes[*i]));
        most * most * members.iter().map(|i| weights[*i]).sum::<f64>()
    };
    let ends = |at: usize| (at / block * block, (at / block * block + block).min(order.len()));
    let bounds: Vec<(usize, usize)> = (0..order.len()).map(ends).collect();
    // Each exchange lowers the sum by a part of it that counts; a few for each feature are enough.
    let least = 1e-6 * order.chunks(block).map(error).sum::<f64>();
    for _ in 0..4 * order.len() {
        let mut best: Option<(f64, usize, usize)> = None;
        for a in 0..order.len() {
            for b in bounds[a].1..order.len() {
                let ((a0, a1), (b0, b1)) = (bounds[a], bounds[b]);
                let before = error(&order[a0..a1]) + error(&order[b0..b1]);
                order.swap(a, b);
                let gain = before - error(&order[a0..a1]) - error(&order[b0..b1]);
                order.swap(a, b);
                if gain > least && best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, a, b));
                }
            }
        }
        let Some((_, a, b)) = best else { break };
        order.swap(a, b);
    }
    order
}

/// Indices by size, the largest first; equal ones as they come.
fn descending(sizes: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|a, b| sizes[*b].total_cmp(&sizes[*a]));
    order
}

/// Says in the name of a state in which order it is.
fn mark_order(function: &mut Function, state: ValueId, order: &[usize]) {
    let rows: Vec<u8> = order.iter().flat_map(|row| (*row as u64).to_le_bytes()).collect();
    mark(function, state, "sorted", &rows);
}

/// Whether all features of a head of the keys share a scale, which sorting does not change.
fn is_one_block(function: &Function, attention: OpId, keys: CacheFormat) -> bool {
    let features = operand(function, attention, 1)
        .ok()
        .and_then(|keys| function.ty(keys).dims.last().and_then(Dim::constant));
    keys.block().zip(features).is_some_and(|(block, features)| i64::from(block) >= features)
}
