//! The error of a quantized layer: `E‖W x − Ŵ x̂‖² / E‖W x‖²` over the kept rows, with weights and activations really rounded.

use qcc_interpreter::formats::{self, Parameters, Rules, Scales};
use qcc_ir::QuantType;
use qcc_ir::format::Format;

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
    /// The passes that quantize to these formats; `calibrate` is the pass that measures ranges. None keeps everything in floats.
    pub fn passes(&self, calibrate: &str) -> Option<String> {
        let weights = self.weights?;
        let mut text = String::from("canonicalize,");
        if self.activations.is_some_and(|a| !a.dynamic()) {
            text.push_str(&format!("{calibrate},"));
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
    let q = format.quant_type(0, 1).ok_or_else(|| format!("`{format}` is a float format"))?;
    #[allow(clippy::cast_possible_truncation, reason = "tensors are f32")]
    let values: Vec<f32> = m.data.iter().map(|x| *x as f32).collect();
    let dims = [m.rows, m.columns];
    let rules = Rules::nearest(format.narrow());
    let is_weight = format.role() == qcc_ir::format::Role::Weight;
    let back = match is_weight || format.dynamic() {
        true => formats::rounded(&values, &dims, q, rules),
        false => {
            let parameters = fixed(&values, &q, format.narrow());
            let codes = formats::quantize(&values, &dims, q, rules, &parameters);
            codes.and_then(|codes| formats::dequantize(&codes, &dims, q, &parameters))
        }
    };
    let back = back.map_err(|e| e.to_string())?;
    Ok(Matrix::new(m.rows, m.columns, back.into_iter().map(f64::from).collect()))
}

/// Scale and zero point that `quantize` would take from the range of these values.
fn fixed(values: &[f32], q: &QuantType, narrow: bool) -> Parameters<f32> {
    let bounds = values.iter().fold((0f32, 0f32), |(l, h), x| (l.min(*x), h.max(*x)));
    let p = range::parameters(Range { min: bounds.0, max: bounds.1 }, q, narrow);
    Parameters::new(Scales::Floats(vec![p.scale]), q.zero_point.then(|| vec![p.zero_point]))
}
