//! `calibrate`: the ranges of activations over sample inputs, which static quantization needs.
//!
//! Measured are the inputs of every `linear` and `conv`. Ranges are min-max, or percentiles of a histogram of 2048 bins over the min-max
//! range (a second run over the samples), as in MambaQuant's recipe (percentile calibration, arXiv 2501.13484).

use std::collections::{HashMap, HashSet};

use qcc_ir::{Function, Module, Op, ValueId};
use qcc_params::Tensor;

use crate::context::{Context, Executor, Samples};
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: "calibrate",
    summary: "measures the ranges of activations over the calibration samples, for static quantization",
    options: &[
        ("method", "minmax (default) or percentile"),
        ("percentile", "share of values inside the range, in percent (default 99.999)"),
    ],
    make: |options| Ok(Box::new(Calibrate::new(options)?)),
};

const NAME: &str = "calibrate";
const BINS: usize = 2048;

/// The interval that values of one activation lie in.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    /// Share of values outside the range at each end; 0 is min-max.
    outside: f64,
}

impl Calibrate {
    fn new(options: &mut Options) -> Result<Calibrate, String> {
        let method: String = options.take("method")?.unwrap_or_else(|| "minmax".into());
        let percentile: Option<f64> = options.take("percentile")?;
        match (method.as_str(), percentile) {
            ("minmax", None) => Ok(Calibrate { outside: 0.0 }),
            ("minmax", Some(_)) => Err("`percentile` needs `method=percentile`".into()),
            ("percentile", p) => {
                let p = p.unwrap_or(99.999);
                if !(50.0..=100.0).contains(&p) {
                    return Err(format!("`percentile={p}` must lie between 50 and 100"));
                }
                Ok(Calibrate { outside: 1.0 - p / 100.0 })
            }
            (other, _) => Err(format!("unknown method `{other}`; use minmax or percentile")),
        }
    }
}

impl Pass for Calibrate {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(0.0)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let (Some(executor), Some(samples)) = (context.executor, context.samples.filter(|s| !s.is_empty()))
        else {
            return Err(PassError::failed(
                NAME,
                "static quantization needs calibration data: pass `--calibration FILE|DIR`",
            ));
        };
        let function = module.entry().ok_or_else(|| PassError::failed(NAME, "the module has no function"))?;
        let sites = sites(function);
        let tapped = tapped(module, &sites);
        let outputs = function.results.len();
        let by_feature = features(function);
        let observer = |site| Observer { by_feature: by_feature.contains(site), ..Observer::new() };
        let mut observers: Vec<Observer> = sites.iter().map(observer).collect();
        let rounds = if self.outside > 0.0 { 2 } else { 1 };
        for round in 0..rounds {
            observe(&tapped, context, executor, samples, |tensors| {
                for (observer, tensor) in observers.iter_mut().zip(&tensors[outputs..]) {
                    if round == 0 { observer.widen(tensor) } else { observer.count(tensor) }
                }
            })?;
        }
        for (&site, observer) in sites.iter().zip(&observers) {
            let range = observer.range(self.outside).ok_or_else(|| {
                let name = &function.value(site).name;
                PassError::at(NAME, name, "the calibration samples give NaN or infinite activations here")
            })?;
            context.statistics.set(site, range);
            if observer.by_feature {
                context.statistics.channels.insert(site, observer.features.clone());
            }
        }
        Ok(Outcome::of([("measured", sites.len()), ("samples", samples.len())]))
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

/// A copy of the module whose entry function also returns the sites.
pub(crate) fn tapped(module: &Module, sites: &[ValueId]) -> Module {
    let mut tapped = module.clone();
    for (i, &site) in sites.iter().enumerate() {
        tapped.functions[0].add_result(&format!("tap.{i}"), site);
    }
    tapped
}

pub(crate) fn observe(
    module: &Module,
    context: &Context<'_>,
    executor: &dyn Executor,
    samples: &dyn Samples,
    mut see: impl FnMut(&[Tensor]),
) -> Result<(), PassError> {
    let mut prepared =
        executor.prepare(module, &context.parameters).map_err(|e| PassError::failed(NAME, e))?;
    let function = &module.functions[0];
    for i in 0..samples.len() {
        context.progress.report("calibrating", i, samples.len());
        let inputs = samples.inputs(i, function).map_err(|e| PassError::failed(NAME, e))?;
        see(&prepared.run(&inputs).map_err(|e| PassError::failed(NAME, e))?);
    }
    context.progress.report("calibrating", samples.len(), samples.len());
    Ok(())
}

/// What is seen of one activation.
struct Observer {
    /// Whether no NaN and no infinity was seen.
    finite: bool,
    min: f32,
    max: f32,
    histogram: Vec<u64>,
    /// Whether features are seen one by one.
    by_feature: bool,
    /// The range of each feature.
    features: Vec<Range>,
}

impl Observer {
    fn new() -> Observer {
        Observer {
            finite: true,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            histogram: Vec::new(),
            by_feature: false,
            features: Vec::new(),
        }
    }

    fn widen(&mut self, tensor: &Tensor) {
        for x in tensor.as_f32().unwrap_or(&[]) {
            self.min = self.min.min(*x);
            self.max = self.max.max(*x);
            self.finite &= x.is_finite();
        }
        let width = tensor.dims.last().copied().unwrap_or(1).max(1);
        if self.by_feature {
            self.features.resize(width, Range { min: f32::INFINITY, max: f32::NEG_INFINITY });
            for row in tensor.as_f32().unwrap_or(&[]).chunks_exact(width) {
                for (range, x) in self.features.iter_mut().zip(row) {
                    *range = Range { min: range.min.min(*x), max: range.max.max(*x) };
                }
            }
        }
    }

    fn bin_width(&self) -> f64 {
        (f64::from(self.max) - f64::from(self.min)) / BINS as f64
    }

    fn count(&mut self, tensor: &Tensor) {
        self.histogram.resize(BINS, 0);
        let width = self.bin_width();
        if width <= 0.0 {
            return;
        }
        for x in tensor.as_f32().unwrap_or(&[]) {
            let bin = ((f64::from(*x) - f64::from(self.min)) / width) as usize;
            self.histogram[bin.min(BINS - 1)] += 1;
        }
    }

    /// The range with the share `outside` of all values cut off, taken from both ends where there are values of that sign.
    fn range(&self, outside: f64) -> Option<Range> {
        if !self.finite || self.min > self.max {
            return None;
        }
        let total: u64 = self.histogram.iter().sum();
        if outside <= 0.0 || total == 0 {
            return Some(Range { min: self.min, max: self.max });
        }
        let cut = (total as f64 * outside) as u64;
        let past = |seen: &mut u64, n: &u64| {
            *seen += n;
            *seen > cut
        };
        let low = self.histogram.iter().scan(0, |seen, n| Some(past(seen, n))).position(|p| p).unwrap_or(0);
        let high =
            self.histogram.iter().rev().scan(0, |seen, n| Some(past(seen, n))).position(|p| p).unwrap_or(0);
        let (min, max, width) = (f64::from(self.min), f64::from(self.max), self.bin_width());
        Some(Range { min: (min + low as f64 * width) as f32, max: (max - high as f64 * width) as f32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(values: &[f32], outside: f64) -> Option<Range> {
        let tensor = Tensor::f32(&[values.len()], values.to_vec()).expect("counts agree");
        let mut observer = Observer::new();
        observer.widen(&tensor);
        observer.count(&tensor);
        observer.range(outside)
    }

    #[test]
    fn min_max_sees_every_value() {
        assert_eq!(observe(&[1.0, -3.0, 2.0], 0.0), Some(Range { min: -3.0, max: 2.0 }));
        assert_eq!(observe(&[0.0; 4], 0.0), Some(Range { min: 0.0, max: 0.0 }));
    }

    #[test]
    fn percentiles_cut_outliers_at_both_ends() {
        let mut values: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
        values.extend([-100.0, 100.0]);
        let range = observe(&values, 0.001).expect("finite");
        assert!(range.min > -0.2 && range.min <= 0.0, "{range:?}");
        assert!(range.max < 1.2 && range.max >= 1.0, "{range:?}");
    }

    #[test]
    fn a_nan_is_not_forgotten() {
        assert_eq!(observe(&[1.0, f32::NAN, 2.0], 0.0), None);
        assert_eq!(observe(&[1.0, f32::INFINITY], 0.0), None);
        assert_eq!(observe(&[], 0.0), None);
    }
}
