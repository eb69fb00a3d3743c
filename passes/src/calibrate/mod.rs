//! `calibrate`: the ranges of activations over sample inputs, which static quantization needs.
//!
//! Measured are the inputs of every `linear` and `conv`: what is [observed](observation) does not depend on how [ranges](range) are chosen
//! from it, so that it is kept in a [cache](cache) for other recipes.
//!
//! | method | range | source |
//! | --- | --- | --- |
//! | `minmax` | of all values | |
//! | `percentile` | of all values but a share at each end | MambaQuant's recipe, arXiv 2501.13484 |
//! | `mse` | of least squared error in the format, of a grid | |
//! | `entropy` | of least information lost in the format (Kullback–Leibler) | TensorRT's calibrator, GTC 2017 |
//! | `moving` | moving average of what each sample has | arXiv 1712.05877 |
//!
//! With activations by feature (`:channel`) each feature has a range of its own, chosen by the same method. Ranges of tokens and blocks are
//! found while the model runs.

mod cache;
mod observation;
mod range;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use qcc_ir::format::{Format, Role, Sharing};
use qcc_ir::{Function, Module, Op, ValueId};
use qcc_params::Tensor;
use rayon::prelude::*;

use crate::assign::Requested;
use crate::context::{Context, Samples};
use crate::observe::observe;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};
pub use cache::StatisticsCache;
use observation::Observation;
use range::Method;

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: "calibrate",
    summary: "measures the ranges of activations over the calibration samples, for static quantization",
    options: &[
        ("method", "minmax (default), percentile, mse, entropy or moving"),
        ("percentile", "of percentile: share of values kept at each end, in percent (default 99.999)"),
        ("momentum", "of moving: what the average keeps of itself at each sample (default 0.9)"),
        (
            "activations",
            "the format that ranges are for: mse and entropy need it, and others where it is by feature",
        ),
    ],
    make: |options| Ok(Box::new(Calibrate::new(options)?)),
};

const NAME: &str = "calibrate";
const NEEDS: &str = "static quantization needs calibration data";

/// The interval that values of one activation lie in.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Range {
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
}

/// Ranges of values of the entry function.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    ranges: HashMap<ValueId, Range>,
    /// Of each feature (of the last axis).
    channels: HashMap<ValueId, Vec<Range>>,
    /// Of values in formats that some of their readers ask for alone.
    own: HashMap<(ValueId, Format), (Range, Vec<Range>)>,
}

impl Statistics {
    /// The range of a value, if it was measured.
    pub fn range(&self, value: ValueId) -> Option<Range> {
        self.ranges.get(&value).copied()
    }

    /// The range of each feature (index of the last axis) of a value, if it was measured.
    pub fn channels(&self, value: ValueId) -> Option<&[Range]> {
        self.channels.get(&value).map(Vec::as_slice)
    }

    /// The range of a value in a format.
    pub fn range_in(&self, value: ValueId, format: &Format) -> Option<Range> {
        self.own.get(&(value, *format)).map(|(range, _)| *range).or_else(|| self.range(value))
    }

    /// The range of each feature of a value in a format.
    pub fn channels_in(&self, value: ValueId, format: &Format) -> Option<&[Range]> {
        let own = self.own.get(&(value, *format)).map(|(_, features)| features.as_slice());
        own.filter(|features| !features.is_empty()).or_else(|| self.channels(value))
    }

    /// Sets the range of a value.
    pub fn set(&mut self, value: ValueId, range: Range) {
        self.ranges.insert(value, range);
    }

    /// Number of measured values.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

struct Calibrate {
    method: Method,
    /// What ranges are for.
    activations: Option<Format>,
}

impl Calibrate {
    fn new(options: &mut Options) -> Result<Calibrate, String> {
        let activations = match options.take::<String>("activations")?.as_deref() {
            None => None,
            Some(text) => Some(Format::parse(text, Role::Activation).map_err(|e| e.to_string())?),
        };
        // Floats need no ranges.
        let activations = activations.filter(|format| !format.is_float());
        let method = Method::new(options)?;
        Ok(Calibrate { method, activations })
    }

    /// The formats that readers of activations ask for alone.
    fn own(&self, function: &Function) -> Result<Vec<(ValueId, Format)>, PassError> {
        let mut own = Vec::new();
        for id in function.order() {
            let node = function.node(*id);
            let requested = Requested::of(node).map_err(|e| PassError::at(NAME, &node.location, e))?;
            if let (Some(Some(x)), Some(format)) = (node.operands.first(), requested.activations)
                && !format.is_float()
                && !own.contains(&(*x, format))
            {
                own.push((*x, format));
            }
        }
        if self.method.looks_at_format() && self.activations.is_none() && own.is_empty() {
            let needs = "this method needs the format that ranges are for: `activations=FORMAT`";
            return Err(PassError::failed(NAME, needs));
        }
        Ok(own)
    }

    /// What samples have at each site, from the cache where another compilation has left it there.
    fn observed(
        &self,
        module: &Module,
        sites: &[ValueId],
        own: &[(ValueId, Format)],
        context: &Context<'_>,
    ) -> Result<Vec<Observation>, PassError> {
        let counted = self.method.counts();
        let mut formats = own.iter().map(|(_, format)| format).chain(&self.activations);
        let by_feature = formats.any(|format| format.sharing() == Sharing::Channel);
        let what = if by_feature { "features" } else { "tensors" };
        let key = |counted: bool| {
            let what = format!("{what}, counted: {counted}");
            context.statistics_cache.as_ref()?.key(module, &context.parameters, context.samples?, &what)
        };
        let cached = context.statistics_cache.as_ref().zip(key(counted));
        // What was counted has the range too.
        let counted_too = || context.statistics_cache.as_ref().filter(|_| !counted).zip(key(true));
        let load = |(cache, key): (&StatisticsCache, blake3::Hash)| cache.load(&key, sites.len());
        if let Some(found) = cached.and_then(load).or_else(|| counted_too().and_then(load)) {
            tracing::info!("statistics of {} activations are those of another compilation", sites.len());
            return Ok(found);
        }
        let features = features(&module.functions[0]);
        let start = |site: &ValueId| Observation::new(by_feature && features.contains(site));
        let mut all: Vec<Observation> = sites.iter().map(start).collect();
        let rounds = if counted { 2 } else { 1 };
        observe(NAME, NEEDS, module, sites, rounds, context, |round, part, tensors| {
            let places: HashMap<usize, usize> = part.iter().enumerate().map(|(at, i)| (*i, at)).collect();
            let seen = all.iter_mut().enumerate();
            let mut seen: Vec<(&mut Observation, &Tensor)> =
                seen.filter_map(|(i, observation)| Some((observation, tensors[*places.get(&i)?]))).collect();
            seen.par_iter_mut().for_each(|(observation, tensor)| match round {
                0 => observation.widen(tensor),
                _ => observation.count(tensor),
            });
        })?;
        if let Some((site, _)) = sites.iter().zip(&all).find(|(_, observation)| !observation.is_finite()) {
            let name = &module.functions[0].value(*site).name;
            let what = "the calibration samples give NaN or infinite activations here";
            return Err(PassError::at(NAME, name, what));
        }
        if let Some((cache, key)) = cached {
            cache.store(&key, &all);
        }
        Ok(all)
    }
}

impl Pass for Calibrate {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(0.0)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let function = module.entry().ok_or_else(|| PassError::failed(NAME, "the module has no function"))?;
        let sites = sites(function);
        let own = self.own(function)?;
        let observed = self.observed(module, &sites, &own, context)?;
        // Of all sites in the format of all, then of some in formats of their own.
        let at = |value: &ValueId| sites.iter().position(|site| site == value);
        let wanted: Vec<(usize, Option<Format>)> = (0..sites.len())
            .map(|i| (i, self.activations))
            .chain(own.iter().filter_map(|(value, format)| Some((at(value)?, Some(*format)))))
            .collect();
        let chosen: Result<Vec<(Range, Vec<Range>)>, String> = wanted
            .par_iter()
            .map(|(i, format)| {
                let target = format.map(range::Target::new).transpose()?;
                let of = |seen| self.method.range(seen, target.as_ref());
                Ok((of(&observed[*i].whole), observed[*i].features.iter().map(of).collect()))
            })
            .collect();
        let chosen = chosen.map_err(|e| PassError::failed(NAME, e))?;
        for (at, ((i, format), (range, features))) in wanted.into_iter().zip(chosen).enumerate() {
            let statistics = &mut context.statistics;
            match format.filter(|_| at >= sites.len()) {
                Some(format) => drop(statistics.own.insert((sites[i], format), (range, features))),
                None => {
                    statistics.set(sites[i], range);
                    if !features.is_empty() {
                        statistics.channels.insert(sites[i], features);
                    }
                }
            }
        }
        let samples = context.samples.map_or(0, Samples::len);
        Ok(Outcome::of([("measured", sites.len()), ("samples", samples)]))
    }
}

/// Float activations that feed a linear or convolution, each once, in order.
pub fn sites(function: &Function) -> Vec<ValueId> {
    let mut sites = Vec::new();
    for &op in function.order() {
        let node = function.node(op);
        if let (Op::Linear {} | Op::Conv { .. }, Some(Some(x))) = (&node.op, node.operands.first())
            && function.ty(*x).element.is_float()
            && !sites.contains(x)
        {
            sites.push(*x);
        }
    }
    sites
}

/// The inputs of linear layers, whose features may have ranges of their own.
fn features(function: &Function) -> HashSet<ValueId> {
    let nodes = function.order().iter().map(|id| function.node(*id));
    nodes.filter(|node| matches!(node.op, Op::Linear {})).filter_map(|node| node.operands[0]).collect()
}
