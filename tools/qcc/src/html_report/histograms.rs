//! How values were distributed before and after quantization, as JSON inside the page: its script draws them.

use serde_json::{Value, json};

use super::Layer;

/// Most bins of a histogram in the page; more do not show in a plot of its size.
const MOST_BINS: usize = 96;

/// The same values before and after quantization.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// In the float model.
    pub before: Histogram,
    /// In the quantized model.
    pub after: Histogram,
}

/// Numbers of values in bins of equal width.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Lower end of the first bin.
    pub low: f64,
    /// Upper end of the last bin.
    pub high: f64,
    /// Values in each bin.
    pub counts: Vec<u64>,
}

impl Histogram {
    /// As JSON, if it can be drawn: bins of some width with some value.
    fn describe(&self) -> Option<Value> {
        let width = (self.high - self.low) / self.counts.len() as f64;
        let drawable = width.is_finite() && width > 0.0 && self.counts.iter().any(|&n| n > 0);
        if !drawable {
            return None;
        }
        let merged = self.counts.len().div_ceil(MOST_BINS);
        let counts: Vec<u64> = self
            .counts
            .chunks(merged)
            .map(|bins| bins.iter().fold(0u64, |sum, &n| sum.saturating_add(n)))
            .collect();
        // The last bin may hold fewer of the merged ones and yet has to be as wide as all others.
        let high = self.low + width * (counts.len() * merged) as f64;
        Some(json!([self.low, high, counts]))
    }
}

impl Pair {
    fn describe(&self) -> Option<Value> {
        Some(json!([self.before.describe()?, self.after.describe()?]))
    }
}

/// Those of weights and of activations of every layer, safe inside a `script` element.
pub fn json(layers: &[Layer]) -> String {
    let describe = |pair: &Option<Pair>| pair.as_ref().and_then(Pair::describe);
    let pairs: Value = layers
        .iter()
        .map(|l| json!([describe(&l.weight_histograms), describe(&l.activation_histograms)]))
        .collect();
    // Neither `</script` nor `<!--` may stand in such an element, not even in a string.
    pairs.to_string().replace('<', "\\u003c")
}
