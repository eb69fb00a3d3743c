//! `--verify-each`: runs a module before and after a pass on the same inputs and compares. A pass that promises to keep the function and
//! does not is named, with the output and the error; users of other tools find such passes by bisection.

use qcc_ir::{ElementType, Function, Module, Storage, TensorType};
use qcc_params::{Data, Tensor};

use crate::context::Context;
use crate::pass::{PassError, Preservation};
use crate::random::Random;

/// Outputs of the module before a pass.
pub(crate) struct Proof {
    tolerance: f64,
    layout: Layout,
    cases: Vec<Case>,
}

/// Inputs, and what the module made of them.
struct Case {
    kind: &'static str,
    /// Whether states hold something already, in the layout of the module before the pass.
    goes_on: bool,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// The layouts of a function's states, which their names say: a pass that arranges a state in another way renames it.
pub(crate) struct Layout(Vec<String>);

impl Layout {
    pub(crate) fn of(function: &Function) -> Layout {
        let name = |argument: usize| function.value(function.arguments()[argument]).name.to_string();
        Layout(function.states.iter().map(|s| name(s.argument)).collect())
    }

    /// The results that hold states in another layout.
    pub(crate) fn changed(&self, function: &Function) -> Vec<usize> {
        let now = Layout::of(function).0;
        let states = function.states.iter().zip(self.0.iter().zip(&now));
        states.filter(|(_, (before, now))| before != now).map(|(s, _)| s.result).collect()
    }
}

const PASS: &str = "verify-each";

impl Proof {
    /// Runs the module before the pass; `None` when the pass promises nothing or there is nothing to run with.
    pub(crate) fn before(
        preservation: Preservation,
        module: &Module,
        context: &Context<'_>,
    ) -> Result<Option<Proof>, PassError> {
        let Preservation::Relative(tolerance) = preservation else { return Ok(None) };
        let (Some(function), Some(reference)) = (module.entry(), context.reference) else { return Ok(None) };
        let fail = |e| PassError::failed(PASS, e);
        let mut inputs = vec![("random", random_inputs(function).map_err(fail)?)];
        if !only_in_states(function).is_empty() {
            inputs.push(("random", fresh_inputs(function).map_err(fail)?));
        }
        if let Some(samples) = context.samples.filter(|s| !s.is_empty()) {
            inputs.push(("calibration", samples.inputs(0, function).map_err(fail)?));
        }
        let mut prepared =
            reference.prepare(module, &context.parameters).map_err(|e| PassError::failed(PASS, e))?;
        let cases = inputs
            .into_iter()
            .map(|(kind, inputs)| {
                let goes_on =
                    function.states.iter().any(|s| inputs.get(s.argument).is_some_and(|x| !x.is_empty()));
                let outputs = prepared.run(&inputs).map_err(|e| PassError::failed(PASS, e))?;
                Ok(Case { kind, goes_on, inputs, outputs })
            })
            .collect::<Result<_, PassError>>()?;
        Ok(Some(Proof { tolerance, layout: Layout::of(function), cases }))
    }

    /// Runs the module after the pass and compares.
    pub(crate) fn after(self, pass: &str, module: &Module, context: &Context<'_>) -> Result<(), PassError> {
        let (Some(function), Some(reference)) = (module.entry(), context.reference) else { return Ok(()) };
        let mut prepared =
            reference.prepare(module, &context.parameters).map_err(|e| PassError::failed(PASS, e))?;
        // States in another layout are not what they were; nor is what a state held.
        let changed = self.layout.changed(function);
        for Case { kind, inputs, outputs, .. } in
            self.cases.iter().filter(|case| changed.is_empty() || !case.goes_on)
        {
            let got = prepared.run(inputs).map_err(|e| PassError::failed(PASS, e))?;
            for (i, (a, b)) in got.iter().zip(outputs).enumerate().filter(|(i, _)| !changed.contains(i)) {
                let error = relative_error(a, b);
                if error > self.tolerance {
                    return Err(PassError::NotPreserved {
                        pass: pass.to_string(),
                        output: function
                            .result_names
                            .get(i)
                            .map_or_else(|| i.to_string(), ToString::to_string),
                        error,
                        tolerance: self.tolerance,
                        inputs: kind,
                    });
                }
            }
        }
        Ok(())
    }
}

/// max|a − b| / max|b|, as `contract.md` defines relative error; infinite where shapes differ or a value is NaN on one side only.
pub fn relative_error(a: &Tensor, b: &Tensor) -> f64 {
    if a.dims != b.dims || a.element != b.element {
        return f64::INFINITY;
    }
    let (mut difference, mut largest) = (0f64, 0f64);
    for (x, y) in a.to_f64_vec().into_iter().zip(b.to_f64_vec()) {
        if x.is_nan() != y.is_nan() {
            return f64::INFINITY;
        }
        if x != y && !x.is_nan() {
            difference = difference.max((x - y).abs());
        }
        if y.is_finite() {
            largest = largest.max(y.abs());
        }
    }
    // An infinite difference stays infinite whatever it is divided by; neither quotient can be NaN.
    if difference == 0.0 { 0.0 } else { difference / largest.max(f64::MIN_POSITIVE) }
}

/// Seeded random inputs: floats in [−1, 1) (half precision: ±[1, 2)), integers small and valid as indices of anything, codes small;
/// symbols are 2 or 3.
///
/// # Errors
/// When the sizes of an argument overflow.
pub fn random_inputs(function: &Function) -> Result<Vec<Tensor>, String> {
    inputs(function, &|symbol| Some(if symbol == "B" { 2 } else { 3 }))
}

/// As [`random_inputs`], where states that grow hold nothing yet.
///
/// # Errors
/// When the sizes of an argument overflow.
pub fn fresh_inputs(function: &Function) -> Result<Vec<Tensor>, String> {
    let held = only_in_states(function);
    let bind = |symbol: &str| match symbol {
        _ if held.iter().any(|s| s == symbol) => Some(0),
        "B" => Some(2),
        _ => Some(3),
    };
    inputs(function, &bind)
}

/// Sizes that no input has: what states that grow hold.
fn only_in_states(function: &Function) -> Vec<String> {
    let is_state = |index: usize| function.states.iter().any(|s| s.argument == index);
    let symbols = |states: bool| {
        let arguments = function.arguments().iter().enumerate().filter(move |(i, _)| is_state(*i) == states);
        arguments.flat_map(|(_, value)| &function.ty(*value).dims).flat_map(qcc_ir::Dim::symbols)
    };
    let of_inputs: Vec<_> = symbols(false).collect();
    let mut held: Vec<String> =
        symbols(true).filter(|s| !of_inputs.contains(s)).map(|s| s.to_string()).collect();
    held.sort();
    held.dedup();
    held
}

fn inputs(function: &Function, bind: &dyn Fn(&str) -> Option<i64>) -> Result<Vec<Tensor>, String> {
    let mut random = Random::new(0);
    let make = |argument: &qcc_ir::ValueId| random_input(function.ty(*argument), bind, &mut random);
    function.arguments().iter().map(make).collect()
}

fn random_input(
    ty: &TensorType,
    bind: &dyn Fn(&str) -> Option<i64>,
    random: &mut Random,
) -> Result<Tensor, String> {
    let sizes: Vec<i64> = ty
        .dims
        .iter()
        .map(|d| d.evaluate(bind))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("cannot make an input of type {ty}"))?;
    let dims = sizes
        .iter()
        .map(|n| usize::try_from(*n).map_err(|_| format!("cannot make an input of type {ty}")))
        .collect::<Result<Vec<_>, _>>()?;
    let n = qcc_params::tensor::element_count(&dims).map_err(|e| e.to_string())?;
    // Types without a variant of their own here go by their bytes.
    let from_bytes = |bytes: Vec<u8>| {
        Tensor::from_le_bytes(&TensorType::new(sizes.iter().copied(), ty.element), &bytes)
            .map_err(|e| e.to_string())
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "numbers below 3")]
    let data = match ty.element {
        ElementType::F32 => Data::F32((0..n).map(|_| random.unit()).collect()),
        ElementType::F64 => Data::F64((0..n).map(|_| f64::from(random.unit())).collect()),
        ElementType::I64 => Data::I64((0..n).map(|_| random.below(3) as i64).collect()),
        ElementType::I32 => Data::I32((0..n).map(|_| random.below(3) as i32).collect()),
        ElementType::U8 => Data::U8((0..n).map(|_| random.below(3) as u8).collect()),
        ElementType::I8 => Data::I8((0..n).map(|_| random.below(3) as i8).collect()),
        ElementType::Bool => Data::Bool((0..n).map(|_| random.below(2) == 1).collect()),
        ElementType::F16 => return from_bytes(halves(n, 0x3C00, 10, random)),
        ElementType::BF16 => return from_bytes(halves(n, 0x3F80, 7, random)),
        ElementType::Quant(q) => {
            let wide = qcc_params::tensor::wide_codes(q.storage);
            let bytes = (0..n).flat_map(|_| [Some(code(q.storage, random)), wide.then_some(0)]);
            return from_bytes(bytes.flatten().collect());
        }
    };
    Tensor::new(dims, ty.element, data).map_err(|e| e.to_string())
}

/// Bytes of 16-bit floats with the bits `one` of 1.0 and so many mantissa bits.
fn halves(n: usize, one: u16, mantissa: u32, random: &mut Random) -> Vec<u8> {
    #[allow(clippy::cast_possible_truncation, reason = "the bits below 16 are wanted")]
    let half = |bits: u64| one | (bits as u16 & 0x8000) | (bits as u16 & ((1 << mantissa) - 1));
    (0..n).flat_map(|_| half(random.bits()).to_le_bytes()).collect()
}

/// A small code that is neither NaN nor infinite.
#[allow(clippy::cast_possible_truncation, reason = "small codes have 8 bits at most")]
fn code(storage: Storage, random: &mut Random) -> u8 {
    match storage {
        Storage::Binary => [1, 0xFF][random.below(2) as usize],
        _ if qcc_params::tensor::signed_codes(storage) => (random.below(3) as u8).wrapping_sub(1),
        _ => random.below(1 << storage.bits().saturating_sub(2).max(1)) as u8,
    }
}
