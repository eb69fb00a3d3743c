//! The error of a quantized layer: `E‖W x − Ŵ x̂‖² / E‖W x‖²` over the kept rows, with weights and activations really rounded.

use qcc_interpreter::formats::{self, Parameters, Rules, Scales};
use qcc_ir::format::Format;
use qcc_ir::{Granularity, QuantType};

use super::matrix::Matrix;
use crate::calibrate::Range;
use crate::quantize::range;

/// The formats of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Formats {
    /// Of its weight; none keeps floats.
    pub weights: Option<Format>,
    /// Of its input; none keeps floats.
    pub activations: Option<Format>,
    /// Of the output head's weight, whose input keeps floats; none keeps it.
    pub head: Option<Format>,
}

impl Formats {
    /// The passes that quantize to these formats, with ranges measured as `calibrate` says. None keeps everything in floats.
    pub fn passes(&self, calibrate: &str) -> Option<String> {
        let weights = self.weights?;
        let mut text = String::from("canonicalize,");
        if let Some(activations) = self.activations.filter(|a| !a.dynamic()) {
            text.push_str(&format!("calibrate{{{calibrate} activations={activations}}},"));
        }
        text.push_str(&format!("quantize{{weights={weights}"));
        for (name, format) in [("activations", &self.activations), ("head", &self.head)] {
            if let Some(format) = format {
                text.push_str(&format!(" {name}={format}"));
            }
        }
        text.push_str("},canonicalize,lower-quantized,canonicalize");
        Some(text)
    }

    /// The input after rounding.
    ///
    /// # Errors
    /// When the format is not implemented.
    pub fn rounded_input(&self, x: &Matrix) -> Result<Matrix, String> {
        rounded_or_same(x, self.activations.as_ref())
    }

    /// The weight after rounding.
    ///
    /// # Errors
    /// When the format is not implemented.
    pub fn rounded_weight(&self, w: &Matrix) -> Result<Matrix, String> {
        rounded_or_same(w, self.weights.as_ref())
    }

    /// The output head's weight after rounding.
    ///
    /// # Errors
    /// When the format is not implemented.
    pub fn rounded_head(&self, w: &Matrix) -> Result<Matrix, String> {
        rounded_or_same(w, self.head.as_ref())
    }
}

/// The error of a layer whose input and weight are rounded: the mean square of `x · wᵀ − x̂ · ŵᵀ` over that of `x · wᵀ`.
pub fn relative(y: &Matrix, rounded_x: &Matrix, rounded_w: &Matrix) -> f64 {
    let other = rounded_x.times_transposed(rounded_w);
    let (mut noise, mut signal) = (0.0, 0.0);
    for (a, b) in y.data.iter().zip(&other.data) {
        noise += (a - b) * (a - b);
        signal += a * a;
    }
    if noise == 0.0 { 0.0 } else { noise / signal.max(f64::MIN_POSITIVE) }
}

fn rounded_or_same(m: &Matrix, format: Option<&Format>) -> Result<Matrix, String> {
    format.map_or_else(|| Ok(m.clone()), |format| rounded(m, format))
}

fn rounded(m: &Matrix, format: &Format) -> Result<Matrix, String> {
    let is_weight = format.role() == qcc_ir::format::Role::Weight;
    // Channels of a weight are its rows, features of an activation its columns.
    let channel = if is_weight { 0 } else { 1 };
    let q = format.quant_type(channel, 1).ok_or_else(|| format!("`{format}` is a float format"))?;
    #[allow(clippy::cast_possible_truncation, reason = "tensors are f32")]
    let values: Vec<f32> = m.data.iter().map(|x| *x as f32).collect();
    let dims = [m.rows, m.columns];
    let rules = Rules::nearest(format.narrow());
    let back = match is_weight || format.dynamic() {
        true => formats::rounded(&values, &dims, q, rules),
        false => {
            let parameters = fixed(m, &q, format.narrow());
            let codes = formats::quantize(&values, &dims, q, rules, &parameters);
            codes.and_then(|codes| formats::dequantize(&codes, &dims, q, &parameters))
        }
    };
    let back = back.map_err(|e| e.to_string())?;
    Ok(Matrix::new(m.rows, m.columns, back.into_iter().map(f64::from).collect()))
}

/// Scales and zero points that `quantize` would take from the range of these values, or of each feature.
fn fixed(m: &Matrix, q: &QuantType, narrow: bool) -> Parameters<f32> {
    let groups = if q.granularity == Granularity::Tensor { 1 } else { m.columns };
    let mut ranges = vec![Range { min: 0.0, max: 0.0 }; groups];
    for (at, x) in m.data.iter().enumerate() {
        #[allow(clippy::cast_possible_truncation, reason = "tensors are f32")]
        let (range, x) = (&mut ranges[at % groups], *x as f32);
        *range = Range { min: range.min.min(x), max: range.max.max(x) };
    }
    let found: Vec<_> = ranges.into_iter().map(|range| range::parameters(range, q, narrow)).collect();
    let zero_points = q.zero_point.then(|| found.iter().map(|p| p.zero_point).collect());
    Parameters::new(Scales::Floats(found.iter().map(|p| p.scale).collect()), zero_points)
}

#[cfg(test)]
mod tests {
    use qcc_ir::format::Role;

    use super::*;

    /// Features of an activation have scales of their own: what is exact in each stays exact, however they differ.
    #[test]
    fn features_have_ranges_of_their_own() {
        let m = Matrix::new(3, 2, vec![127.0, 0.5, -3.0, 63.5, 1.0, -2.0]);
        let of = |text: &str| rounded(&m, &Format::parse(text, Role::Activation).expect(text)).expect(text);
        assert_eq!(of("int8:channel").data, m.data);
        assert_ne!(of("int8:tensor").data, m.data);
        let shifted = of("uint8:channel:asym");
        assert!(shifted.data.iter().zip(&m.data).all(|(a, b)| (a - b).abs() < 0.3), "{:?}", shifted.data);
    }
}
