//! The op table: every operation of the dialect, once.
//!
//! An entry reads `Variant = "name" { field: Type, … } (operand, operand: Optional, operand: Variadic) -> (result)`. Several optional
//! operands are fine; a variadic group stands last. Types and broadcasting are checked by `infer`, meaning is defined by the interpreter.

use super::{
    Arity, AttributeError, AttributeMap, CoordinateTransform, ImageLayout, NearestRounding, OpSpec, PadMode,
    ResizeMode, Rounding, Special,
};
use crate::attribute::{Attribute, Dense, Field, Float, Str};
use crate::dim::Dim;
use crate::element::ElementType;
use crate::format::CacheFormat;

macro_rules! arity {
    () => {
        Arity::Single
    };
    ($kind:ident) => {
        Arity::$kind
    };
}

macro_rules! op_table {
    ($(
        $(#[doc = $doc:literal])*
        $variant:ident = $name:literal { $( $field:ident : $ty:ty ),* $(,)? }
        ( $( $operand:ident $( : $kind:ident )? ),* $(,)? ) -> ( $( $result:ident $( : $rkind:ident )? ),* $(,)? )
    )*) => {
        /// An operation with its attributes. Operands, results and location are in its [`Node`](crate::Node).
        #[allow(missing_docs, reason = "fields are described in the documentation of their operation")]
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Op {
            $( $(#[doc = $doc])* $variant { $( $field: $ty ),* } ),*
        }

        /// All operations, in table order.
        pub const TABLE: &[OpSpec] = &[ $( OpSpec {
            name: $name,
            doc: concat!($($doc, "\n"),*),
            operands: &[ $( (stringify!($operand), arity!($($kind)?)) ),* ],
            results: &[ $( (stringify!($result), arity!($($rkind)?)) ),* ],
            attributes: &[ $( (stringify!($field), <$ty as Field>::CONSTRAINT) ),* ],
        } ),* ];

        impl Op {
            /// Name without the dialect: `linear`.
            pub fn name(&self) -> &'static str {
                match self { $( Op::$variant { .. } => $name ),* }
            }

            /// Attributes by name, in table order; those that are as if they were not [given](Field::unless_given) are left out.
            pub fn attributes(&self) -> Vec<(&'static str, Attribute)> {
                match self {
                    $( Op::$variant { $( $field ),* } => {
                        let all: Vec<Option<(&'static str, Attribute)>> = vec![ $( given(stringify!($field), $field) ),* ];
                        all.into_iter().flatten().collect()
                    } ),*
                }
            }

            /// The operation called `name` (without dialect) with fields taken out of `attributes`; what is left there is discardable.
            ///
            /// # Errors
            /// When the name is unknown, or a field is absent or of another kind.
            pub fn from_attributes(name: &str, attributes: &mut AttributeMap) -> Result<Op, AttributeError> {
                match name {
                    $( $name => Ok(Op::$variant { $( $field: take::<$ty>(attributes, $name, stringify!($field))? ),* }), )*
                    _ => Err(AttributeError::UnknownOp(name.to_string())),
                }
            }
        }
    };
}

fn given<T: Field + PartialEq>(name: &'static str, field: &T) -> Option<(&'static str, Attribute)> {
    (T::unless_given().as_ref() != Some(field)).then(|| (name, field.to_attribute()))
}

fn take<T: Field>(
    attributes: &mut AttributeMap,
    op: &'static str,
    name: &'static str,
) -> Result<T, AttributeError> {
    let Some(attribute) = attributes.remove(name) else {
        return T::unless_given().ok_or(AttributeError::Missing { op, name, expected: T::EXPECTED });
    };
    T::from_attribute(&attribute).ok_or(AttributeError::Kind { op, name, expected: T::EXPECTED })
}

impl Op {
    /// What the table says of this operation.
    pub fn spec(&self) -> &'static OpSpec {
        OpSpec::find(self.name()).expect("invariant: enum and table come from one macro")
    }
}

op_table! {
    // ---- leaves ----
    /// A weight, by name (`"scope::key"`); its type is the type of the result.
    Parameter = "parameter" { name: Str } () -> (y)
    /// A small constant held in the IR.
    Constant = "constant" { value: Dense } () -> (y)
    /// The integers `0, 1, …, size − 1` (`i64`).
    Iota = "iota" { size: Dim } () -> (y)

    // ---- contractions ----
    /// `y = x · weightᵀ + bias`; x `[…, in]`, weight `[out, in]`, bias `[out]`.
    Linear = "linear" {} (x, weight, bias: Optional) -> (y)
    /// Matrix product of the last two axes, leading axes broadcast (NumPy `matmul`).
    Matmul = "matmul" {} (a, b) -> (y)
    /// Hadamard transform of each run of `size` elements of the last axis: `y = x · H` for a run `x` as a row, `x · Hᵀ` if `transpose`;
    /// `H · Hᵀ = I`. `H` is a base matrix ⊗ a Sylvester matrix, see [`hadamard`](crate::hadamard); `size` divides the last axis.
    Hadamard = "hadamard" { size: i64, transpose: bool } (x) -> (y)
    /// Convolution; weight `[out, in / groups, kernel…]`, bias `[out]`; `pads` = begins then ends; cross-correlation as in ONNX.
    Conv = "conv" { strides: Vec<i64>, pads: Vec<i64>, dilations: Vec<i64>, groups: i64, layout: ImageLayout } (x, weight, bias: Optional) -> (y)
    /// Transposed convolution; weight `[in, out / groups, kernel…]`.
    ConvTranspose = "conv_transpose" { strides: Vec<i64>, pads: Vec<i64>, dilations: Vec<i64>, output_padding: Vec<i64>, groups: i64 } (x, weight, bias: Optional) -> (y)

    // ---- indexing ----
    /// Rows of `table` `[vocabulary, width]` by integer `indices` (negative ones count from the end); those of a quantized table, which has a
    /// `table_scale`, dequantized.
    Embedding = "embedding" {} (table, indices, table_scale: Optional) -> (y)
    /// `x` indexed along `axis` by integer `indices` (negative ones count from the end).
    Gather = "gather" { axis: i64 } (x, indices) -> (y)
    /// The indices (`i64`) that sort the vector `x` ascending, equal elements in their order: the inverse of a permutation. Weights only.
    Argsort = "argsort" {} (x) -> (y)
    /// Elements `starts[i], starts[i] + steps[i], …` before (or, for negative steps, after) `ends[i]` along `axes[i]`; bounds already clamped.
    Slice = "slice" { axes: Vec<i64>, starts: Vec<i64>, ends: Vec<i64>, steps: Vec<i64> } (x) -> (y)
    /// Concatenation along `axis`.
    Concat = "concat" { axis: i64 } (x: Variadic) -> (y)
    /// Padding by `pads` (begins then ends, one of each an axis, not negative) in `mode`; `value` for constant padding.
    Pad = "pad" { pads: Vec<i64>, mode: PadMode, value: Float } (x) -> (y)
    /// The same elements in row-major order under another shape.
    Reshape = "reshape" { shape: Vec<Dim> } (x) -> (y)
    /// Axis i of the result is axis `permutation[i]` of `x`.
    Transpose = "transpose" { permutation: Vec<i64> } (x) -> (y)
    /// NumPy broadcasting to `shape`.
    Broadcast = "broadcast" { shape: Vec<Dim> } (x) -> (y)
    /// Interpolation to the spatial `sizes` of `x` `[batch, channels, spatial…]`; `scales` are the factors the coordinate rule uses.
    Resize = "resize" { mode: ResizeMode, coordinates: CoordinateTransform, rounding: NearestRounding, sizes: Vec<i64>, scales: Vec<Float> } (x) -> (y)
    /// Numeric conversion to the element type `to` (float to integer truncates).
    Cast = "cast" { to: ElementType } (x) -> (y)

    // ---- elementwise, two operands, NumPy broadcasting ----
    /// `a + b`.
    Add = "add" {} (a, b) -> (y)
    /// `a − b`.
    Sub = "sub" {} (a, b) -> (y)
    /// `a · b`.
    Mul = "mul" {} (a, b) -> (y)
    /// `a / b`; integers truncate.
    Div = "div" {} (a, b) -> (y)
    /// The smaller; NaN if either is.
    Min = "min" {} (a, b) -> (y)
    /// The larger; NaN if either is.
    Max = "max" {} (a, b) -> (y)
    /// `a` to the power `b`.
    Pow = "pow" {} (a, b) -> (y)
    /// `x` where `x ≥ 0`, else `slope · x`; slope broadcasts.
    Prelu = "prelu" {} (x, slope) -> (y)
    /// `x · sigmoid(scale · x)`; scale broadcasts to the sizes of `x`. `scaled_silu(x / scale, scale) · scale = silu(x)` (MambaQuant,
    /// arXiv 2501.13484).
    ScaledSilu = "scaled_silu" {} (x, scale) -> (y)
    /// `a = b`, as `i1`; NaN equals nothing.
    Equal = "equal" {} (a, b) -> (y)
    /// `a < b`, as `i1`; false where either is NaN.
    Less = "less" {} (a, b) -> (y)
    /// `a ≤ b`, as `i1`; false where either is NaN.
    LessOrEqual = "less_or_equal" {} (a, b) -> (y)
    /// `a` where `condition` (`i1`) is true, else `b`; all three broadcast.
    Select = "select" {} (condition, a, b) -> (y)

    // ---- elementwise, one operand ----
    /// `−x`.
    Neg = "neg" {} (x) -> (y)
    /// `|x|`.
    Abs = "abs" {} (x) -> (y)
    /// eˣ.
    Exp = "exp" {} (x) -> (y)
    /// Natural logarithm.
    Log = "log" {} (x) -> (y)
    /// Square root.
    Sqrt = "sqrt" {} (x) -> (y)
    /// `1 / x`.
    Reciprocal = "reciprocal" {} (x) -> (y)
    /// Gauss error function.
    Erf = "erf" {} (x) -> (y)
    /// Sine of radians.
    Sin = "sin" {} (x) -> (y)
    /// Cosine of radians.
    Cos = "cos" {} (x) -> (y)
    /// Hyperbolic tangent.
    Tanh = "tanh" {} (x) -> (y)
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid = "sigmoid" {} (x) -> (y)
    /// `x · sigmoid(x)`.
    Silu = "silu" {} (x) -> (y)
    /// `max(x, 0)`.
    Relu = "relu" {} (x) -> (y)
    /// `log(1 + eˣ)`.
    Softplus = "softplus" {} (x) -> (y)
    /// `x · max(0, min(1, x / 6 + 1 / 2))`.
    HardSwish = "hard_swish" {} (x) -> (y)
    /// `max(0, min(1, alpha · x + beta))`.
    HardSigmoid = "hard_sigmoid" { alpha: Float, beta: Float } (x) -> (y)
    /// `x` where `x ≥ 0`, else `alpha · x`.
    LeakyRelu = "leaky_relu" { alpha: Float } (x) -> (y)
    /// Gaussian error linear unit; `tanh` selects the tanh approximation.
    Gelu = "gelu" { tanh: bool } (x) -> (y)
    /// `min(max(x, min), max)`; NaN stays NaN.
    Clamp = "clamp" { min: Float, max: Float } (x) -> (y)
    /// Largest integer not above `x`.
    Floor = "floor" {} (x) -> (y)

    // ---- normalisation and reduction ----
    /// Softmax along `axis`.
    Softmax = "softmax" { axis: i64 } (x) -> (y)
    /// Logarithm of the softmax along `axis`.
    LogSoftmax = "log_softmax" { axis: i64 } (x) -> (y)
    /// `x / sqrt(mean(x²) + epsilon) · weight` over the last axis.
    RmsNorm = "rms_norm" { epsilon: Float } (x, weight) -> (y)
    /// Layer normalisation over the axes from `axis` on.
    LayerNorm = "layer_norm" { axis: i64, epsilon: Float } (x, weight: Optional, bias: Optional) -> (y)
    /// `(x − mean) / sqrt(variance + epsilon) · scale + bias` per channel (axis 1).
    BatchNorm = "batch_norm" { epsilon: Float } (x, scale, bias, mean, variance) -> (y)
    /// Mean over `axes`.
    ReduceMean = "reduce_mean" { axes: Vec<i64>, keep_dims: bool } (x) -> (y)
    /// Sum over `axes`.
    ReduceSum = "reduce_sum" { axes: Vec<i64>, keep_dims: bool } (x) -> (y)
    /// Maximum over `axes`.
    ReduceMax = "reduce_max" { axes: Vec<i64>, keep_dims: bool } (x) -> (y)
    /// Maximum over windows; padding counts as −∞. `pads` = begins then ends.
    MaxPool = "max_pool" { kernel: Vec<i64>, strides: Vec<i64>, pads: Vec<i64>, dilations: Vec<i64>, ceil: bool, layout: ImageLayout } (x) -> (y)
    /// Mean over windows; padding counts in the divisor if `count_pads`.
    AvgPool = "avg_pool" { kernel: Vec<i64>, strides: Vec<i64>, pads: Vec<i64>, dilations: Vec<i64>, ceil: bool, count_pads: bool, layout: ImageLayout } (x) -> (y)

    // ---- state-space models ----
    /// Causal depthwise convolution along time. x `[B, T, D]`, weight `[D, K]`, bias `[D]`, state `[B, D, K − 1]`: the inputs before
    /// the first, oldest first. `new_state` holds the last K − 1 inputs. `y[t] = bias + Σ_k weight[k] · x[t − (K − 1) + k]`.
    CausalConv = "causal_conv" {} (x, weight, state, bias: Optional) -> (y, new_state)
    /// Mamba's selective scan. u, delta `[B, T, D]`, a `[D, N]`, b, c `[B, T, N]`, d `[D]`, state `[B, D, N]`:
    /// `h ← exp(delta · a) ⊙ h + (delta · u) · b`, `y = h · c + d ⊙ u`. `new_state` is h after the last step.
    SelectiveScan = "selective_scan" {} (u, delta, a, b, c, d, state) -> (y, new_state)
    /// The recurrence of `selective_scan` alone: h after every step, `[B, T, D, N]`, so that `h · c` can be an operation of its own.
    /// `new_state` `[B, D, N]` is h after the last step.
    SelectiveScanStates = "selective_scan_states" {} (u, delta, a, b, state) -> (h, new_state)

    // ---- attention ----
    /// The positions `p, p + 1, …` (`i64`) of what `x` has along `axis`, where p is how much `past` has along it: `x` goes on after `past`.
    Positions = "positions" { axis: i64 } (x, past) -> (y)
    /// Rotary position embedding (RoPE, arXiv 2104.09864) of x `[B, T, H, D]` at integer `positions` `[T]` or `[B, T]`: of the first 2·F of
    /// the D features of a head, for `frequencies` `[F]` in radians a position, pair i is turned by `position · frequencies[i]`; what is
    /// left stays. `frequencies` `[G, F]` are those of each H / G heads. A pair is `(i, i + F)`, or `(2·i, 2·i + 1)` if `interleaved`.
    RotaryEmbedding = "rotary_embedding" { interleaved: bool } (x, positions, frequencies) -> (y)
    /// Attention: q `[B, T, H, D]`, k `[B, S, G, D]`, v `[B, S, G, E]` to `[B, T, H, E]`, `softmax(scale · q · kᵀ) · v` for each head; query
    /// head h reads head `h / (H / G)` of k and v. The queries are the last T of the S positions. If `causal`, none sees a later key; if
    /// `window` is not 0, none sees more than the last `window` keys up to its own. A query that sees no key yields zeros. A `bias`, of four
    /// axes that broadcast to `[B, H, T, S]`, the last one S, is added to `scale · q · kᵀ`: a key of bias −∞ is not seen.
    ///
    /// `keys` and `values` are the formats that they are held and read in: rounded to f16 or bf16 (saturating), or to codes and back, ties to
    /// even and saturating, with a scale for each token of a head or for each block along the axis that is reduced. That is features for
    /// keys, and tokens for values: those are rounded to f16 first, and a query reads codes only of blocks that its own token or an earlier
    /// one completes, so that reading all tokens at once and one after the other give the same.
    Attention = "attention" { scale: Float, causal: bool, window: i64, keys: CacheFormat, values: CacheFormat } (q, k, v, bias: Optional) -> (y)

    // ---- quantization ----
    //
    // What comes with codes, `more`, follows from their type and stands in this order: a `zero_point` (`i32`, as many as scales) where codes have
    // one; the f32 `tensor_scale` where scales are E4M3; the `codebook`, the levels (f32) of all codes, where the element is a calibrated one.
    /// Codes of `x` for the quantized element type `to`: those of the levels nearest to `x · (1 / scale)`, the zero point added to integers; see
    /// [`levels`](crate::levels). `rounding` decides between two levels that are equally near, `special` what becomes of NaN and of what is
    /// beyond the last level. `narrow` drops the lowest code of a signed integer.
    Quantize = "quantize" { to: ElementType, narrow: bool, rounding: Rounding, special: Special } (x, scale, more: Variadic) -> (y)
    /// As `quantize`, with scales computed from `x` itself, where no `tensor_scale` is given this too.
    ///
    /// * Scales are `max|x|` (of unsigned integers `max x`) over what shares one, times the f32 nearest to `1 / largest level`; 1 where all are zero. NaN does not count.
    /// * Asymmetric integers: `(max − min) · (1 / (highest − lowest))`, where 0 counts as a value, and `zero_point = lowest − round(min / scale)`.
    /// * E8M0 scales are `2^(⌊log2 max|x|⌋ − ⌊log2 largest level⌋)`, the least one where all are zero (OCP MX v1.0, §6.3); NaN where a value is
    ///   NaN or infinite, unless `special` makes those finite.
    /// * E4M3 scales: `tensor_scale = max|x| · (1 / (448 · largest level))` over the tensor, and the scale of a block
    ///   `(max|x| · (1 / largest level)) · (1 / tensor_scale)`, rounded, at least the least positive one (NVFP4).
    /// * Ternary and binary: the scale of least squared error. Fixed point: 1.
    /// * Codebooks, of weights: the 2ⁿ clusters of least squared error of `x / scale` (rounded to 2⁻¹² of it); power exponents: the
    ///   exponent `a` of least squared error, of the levels `sign(q) · (|q| / (2ⁿ⁻¹ − 1))^(1/a)`; codes are the nearest in the powers `|x|^a`.
    ///
    /// Split codes of n-bit levels (`"splitn"`) group what would share a scale into the three clusters of least squared error, or as many as
    /// there are distinct values; a boundary is the midpoint of two centres, and what lies on it belongs to the outer cluster. `scale` and
    /// `zero_point` (integers, not only levels) are tables with a last axis of three, and 1 and 0 for a cluster that is not there: a
    /// cluster's levels `0 … 2ⁿ − 1` stand for its least to its greatest value, `scale = max((max − min) / (2ⁿ − 1), max|x| · 2⁻²²)`, or 1
    /// where that is 0, and `zero_point = −round(min / scale)`, ties to even. The code is
    /// `cluster · 2ⁿ + clamp(round(x / scale) + zero_point)`. All is computed in f64, but for the rounding of scales to their type. NaN and
    /// infinities belong to no cluster: NaN has the code of 0, an infinity the outermost level of an outermost cluster.
    DynamicQuantize = "dynamic_quantize" { to: ElementType, narrow: bool, rounding: Rounding, special: Special } (x, tensor_scale: Optional) -> (y, scale, more: Variadic)
    /// `level · scale`, the zero point taken off integers before; of split codes by the tables of their cluster. A `tensor_scale` multiplies
    /// scales first.
    Dequantize = "dequantize" {} (x, scale, more: Variadic) -> (y)
    /// `linear` on codes: exact `i32` sums, `fma(sum, x_scale · weight_scale, bias)`, clamped to `[lower, upper]`, then quantized as
    /// `to` when that is a quantized type. Block scales: one fma a block, ascending, from +0, then `fma(r, x_scale, bias)`. A float `x`
    /// (no `x_scale`) meets dequantized weights. `narrow` as in `quantize`.
    QuantizedLinear = "quantized_linear" { to: ElementType, narrow: bool, lower: Float, upper: Float }
        (x, weight, weight_scale, x_scale: Optional, x_zero_point: Optional, bias: Optional, y_scale: Optional, y_zero_point: Optional) -> (y)
    /// `conv` on codes, as `quantized_linear`; padding counts as the zero point. After `upper`, `bounds` (f32 `[out]`) is a further upper
    /// bound for each channel.
    QuantizedConv = "quantized_conv" { strides: Vec<i64>, pads: Vec<i64>, dilations: Vec<i64>, groups: i64, layout: ImageLayout, to: ElementType, narrow: bool, lower: Float, upper: Float }
        (x, weight, weight_scale, x_scale, x_zero_point: Optional, bias: Optional, y_scale: Optional, y_zero_point: Optional, bounds: Optional) -> (y)
}
