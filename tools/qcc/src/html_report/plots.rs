//! Signal-to-noise ratios over the layers of a model: paths for SVG, and where labels stand beside them.
//!
//! The drawing area is as wide as there are layers and 100 high, and the page stretches it to the space it has. Lines
//! and dots (subpaths of no length with caps) keep their width on the screen, and labels are text of the page, so that
//! a plot is legible on a telephone too.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Layer, decibels};

/// A plot of signal-to-noise ratios.
#[derive(Debug, Serialize)]
pub struct Plot {
    id: &'static str,
    title: &'static str,
    caption: &'static str,
    /// What it shows, in words.
    description: String,
    layers: usize,
    series: Vec<Line>,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    /// What each layer says under the pointer.
    hints: Vec<String>,
}

/// A series as it is drawn.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    line: String,
    dots: String,
}

/// A label at a position in percent.
#[derive(Debug, Serialize)]
struct Tick {
    at: String,
    label: String,
}

/// A property of layers to draw.
struct Series {
    name: &'static str,
    value: fn(&Layer) -> Option<f64>,
}

/// What each layer loses alone. None if that is not known of any layer.
pub fn sqnr(layers: &[Layer]) -> Option<Plot> {
    let series = [
        Series { name: "Weight", value: |l| l.weight_sqnr_db },
        Series { name: "Output", value: |l| l.output_sqnr_db },
    ];
    let caption = "What each layer loses where it alone is quantized. Higher is better.";
    plot("sqnr", "SQNR per layer", caption, layers, &series)
}

/// What the layers lose together. None if that is not known of any layer.
pub fn depth(layers: &[Layer]) -> Option<Plot> {
    let series = [Series { name: "Output in the quantized model", value: |l| l.depth_sqnr_db }];
    let caption = "The error that has gathered up to each layer's output. Higher is better.";
    plot("depth", "Error growth with depth", caption, layers, &series)
}

fn plot(
    id: &'static str,
    title: &'static str,
    caption: &'static str,
    layers: &[Layer],
    series: &[Series],
) -> Option<Plot> {
    let known = |s: &&Series| layers.iter().any(|l| drawn((s.value)(l)).is_some());
    let series: Vec<&Series> = series.iter().filter(known).collect();
    let values: Vec<f64> =
        series.iter().flat_map(|s| layers.iter().filter_map(|l| drawn((s.value)(l)))).collect();
    if values.is_empty() {
        return None;
    }
    let axis = Axis::new(&values);
    Some(Plot {
        id,
        title,
        caption,
        description: series.iter().map(|s| lowest(s, layers)).collect::<Vec<_>>().join(" "),
        layers: layers.len(),
        series: series.iter().map(|s| line(s, layers, &axis)).collect(),
        x_ticks: layer_ticks(layers.len()),
        y_ticks: axis.ticks(),
        hints: layers.iter().enumerate().map(|(i, l)| hint(i, l, &series)).collect(),
    })
}

/// What can be drawn: numbers, and infinity on a line of its own.
fn drawn(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() || *value == f64::INFINITY)
}

fn line(series: &Series, layers: &[Layer], axis: &Axis) -> Line {
    let (mut line, mut dots) = (String::new(), String::new());
    let mut command = 'M';
    for (i, layer) in layers.iter().enumerate() {
        let value = drawn((series.value)(layer));
        if let Some(value) = value {
            let _ = write!(dots, "M{i}.5 {:.1}h0", axis.at(value));
        }
        command = match value.filter(|value| value.is_finite()) {
            Some(value) => {
                let _ = write!(line, "{command}{i}.5 {:.1}", axis.at(value));
                'L'
            }
            None => 'M',
        };
    }
    Line { name: series.name, line, dots }
}

fn hint(index: usize, layer: &Layer, series: &[&Series]) -> String {
    let values = series.iter().map(|s| format!("{}: {}", s.name, decibels((s.value)(layer))));
    format!("{} {}\n{}", index + 1, layer.name, values.collect::<Vec<_>>().join("\n"))
}

fn lowest(series: &Series, layers: &[Layer]) -> String {
    let known = layers.iter().filter_map(|l| Some((drawn((series.value)(l))?, &l.name)));
    known.min_by(|(a, _), (b, _)| a.total_cmp(b)).map_or_else(String::new, |(value, name)| {
        format!("{}: lowest {} at {name}.", series.name, decibels(Some(value)))
    })
}

/// The vertical axis, in dB. Built of numbers and infinities.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    /// Height of the line of infinity above all numbers; zero if nothing stands on it.
    exact: f64,
}

impl Axis {
    fn new(values: &[f64]) -> Axis {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        // Where all are infinite, any numbers do.
        let low = finite().reduce(f64::min).unwrap_or(0.0);
        let high = finite().reduce(f64::max).unwrap_or(0.0);
        let exact = if finite().count() < values.len() { 12.0 } else { 0.0 };
        let step = step((high - low).max(1.0), 5.0);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        Axis { low, high: if high > low { high } else { low + step }, step, exact }
    }

    /// From the top, in percent.
    fn at(&self, value: f64) -> f64 {
        if value == f64::INFINITY {
            return 0.0;
        }
        self.exact + (self.high - value) / (self.high - self.low) * (100.0 - self.exact)
    }

    fn ticks(&self) -> Vec<Tick> {
        let steps = ((self.high - self.low) / self.step).round() as u32;
        let places = usize::from(self.step < 1.0);
        let numbers = (0..=steps).map(|i| self.low + f64::from(i) * self.step);
        let mut ticks: Vec<Tick> = numbers.map(|n| tick(self.at(n), format!("{n:.places$}"))).collect();
        if self.exact > 0.0 {
            ticks.push(tick(0.0, "exact".into()));
        }
        ticks
    }
}

fn layer_ticks(layers: usize) -> Vec<Tick> {
    let step = step(layers as f64, 6.0).max(1.0) as usize;
    let first = (step > 1 && layers > 0).then_some(1);
    let numbers = first.into_iter().chain((step..=layers).step_by(step));
    numbers.map(|n| tick((n as f64 - 0.5) / layers as f64 * 100.0, n.to_string())).collect()
}

fn tick(at: f64, label: String) -> Tick {
    Tick { at: format!("{at:.2}"), label }
}

/// A round number that divides a span into about so many parts.
fn step(span: f64, parts: f64) -> f64 {
    let magnitude = 10f64.powf((span / parts).log10().floor());
    let round = [1.0, 2.0, 5.0].map(|digit| digit * magnitude);
    round.into_iter().find(|step| span / step <= parts).unwrap_or(10.0 * magnitude)
}
