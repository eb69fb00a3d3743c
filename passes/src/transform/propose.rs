//! Proposals: for each group, what could be done to its input, from what the samples look like; each with its error.
//!
//! | what | where it is proposed | source |
//! | --- | --- | --- |
//! | rotated stream (a frame) | behind normalisations | QuaRot, arXiv 2404.00456; K·H: MambaQuant, arXiv 2501.13484 |
//! | rotation between two layers | behind a linear layer | R5 of MambaQuant |
//! | fast Hadamard transform | behind anything else | R2, R6 of MambaQuant |
//! | scale | everywhere | SmoothQuant, arXiv 2211.10438; S2, S5 of MambaQuant |
//! | scale by the mean magnitude | everywhere, where asked for | AWQ, arXiv 2306.00978 |
//! | shift to the middle of the range | behind a linear layer | MambaQuant's reduce_mean |
//! | permutation | with weights in blocks | sorted columns share scales with their like |

use std::collections::HashMap;

use qcc_ir::format::{Format, Sharing};
use qcc_ir::hadamard::Order;
use qcc_ir::{Function, Op, Str, ValueId};
use qcc_params::{Data, Tensor};

use super::error::{Formats, relative};
use super::explanation::AS_IT_IS;
use super::kind::{Basis, Kind};
use super::matrix::{Matrix, givens_equaliser, hadamard, klt_hadamard, random_hadamard};
use super::observe::Rows;
use super::part::{Part, widened};
use super::search::{Binding, Introduction};
use super::site::{Group, Producer};
use crate::context::Context;
use crate::equivalence::facts::Properties;
use crate::random::Random;

/// Random signs tried for a rotation of the residual stream.
const SIGNS: usize = 4;

/// What could be done at a group.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The kinds of transforms it is made of; none for the layers as they are.
    pub kinds: Vec<Kind>,
    /// How it enters the e-graph.
    pub introductions: Vec<Introduction>,
    /// The error of each layer.
    pub errors: Vec<f64>,
}

impl Candidate {
    /// Its transforms by name: `smooth, rotate-online`.
    pub fn label(&self) -> String {
        match self.kinds.as_slice() {
            [] => AS_IT_IS.to_string(),
            kinds => kinds.iter().map(|k| k.name()).collect::<Vec<_>>().join(", "),
        }
    }
}

/// All proposals of a function.
#[derive(Clone, Debug, Default)]
pub struct Proposals {
    /// For each group; the first is always the group as it is.
    pub candidates: Vec<Vec<Candidate>>,
    /// The rotations of the stream's frames.
    pub frames: Vec<ValueId>,
    /// Whether frames are without mean.
    pub centred: bool,
    /// What is known of weights.
    pub properties: HashMap<ValueId, Properties>,
    /// Sites where a kind was wanted and cannot be proposed, and why.
    pub refused: Vec<NotProposed>,
}

impl Proposals {
    /// Whether a layer could have this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.candidates.iter().flatten().any(|c| c.kinds.contains(&kind))
    }
}

/// A kind that was wanted and cannot be proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotProposed {
    /// The layers of the group.
    pub layers: Vec<String>,
    /// What was wanted.
    pub kind: Kind,
    /// Why not.
    pub reason: String,
}

/// What to propose.
#[derive(Clone, Debug)]
pub struct Wish {
    /// These kinds.
    pub kinds: Vec<Kind>,
    /// The rotation of offline rotations; none takes the best for the residual stream.
    pub basis: Option<Basis>,
    /// What layers will be rounded to.
    pub formats: Formats,
    /// The seed of random signs.
    pub seed: u64,
}

impl Wish {
    fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

/// One step of a candidate: how it enters the e-graph, and what it does in numbers.
type Step = (Introduction, Part);

/// Proposes; adds the matrices and vectors it needs to the parameters and, as weights without users, to the function.
///
/// # Errors
/// When a weight cannot be evaluated or a format is not implemented.
pub fn propose(
    wish: &Wish,
    function: &mut Function,
    groups: &[Group],
    rows: &[Rows],
    context: &mut Context<'_>,
) -> Result<Proposals, String> {
    let mut proposer =
        Proposer { wish, function, context, proposals: Proposals::default(), random: Random::new(wish.seed) };
    let inputs: Vec<Matrix> = rows.iter().map(|r| widened(&r.data, r.width)).collect();
    let gains = proposer.gains(groups)?;
    if wish.has(Kind::RotateResidual) {
        proposer.frames(groups, rows, &inputs, &gains)?;
    }
    for (g, group) in groups.iter().enumerate() {
        let candidates = proposer.group(group, &rows[g], &inputs[g], &gains)?;
        proposer.proposals.candidates.push(candidates);
    }
    Ok(proposer.proposals)
}

/// Gain and bias of a normalisation, in numbers.
struct Gain {
    gain: Vec<f64>,
    bias: Option<(ValueId, Vec<f64>)>,
}

struct Proposer<'a, 'b> {
    wish: &'a Wish,
    function: &'a mut Function,
    context: &'a mut Context<'b>,
    proposals: Proposals,
    random: Random,
}

impl Proposer<'_, '_> {
    fn refuse(&mut self, group: &Group, kind: Kind, reason: String) {
        self.proposals.refused.push(NotProposed { layers: group.names(), kind, reason });
    }

    fn evaluate(&self, value: ValueId) -> Result<Vec<f64>, String> {
        let name = self.function.parameter_name(value).ok_or("a gain is no weight")?;
        let tensor = self.context.parameters.evaluate(name, self.context.evaluator);
        Ok(tensor.map_err(|e| e.to_string())?.to_f64_vec())
    }

    /// The gains of the normalisations before groups, by input of the group. Those with a zero cannot be divided by and are left out.
    fn gains(&mut self, groups: &[Group]) -> Result<HashMap<ValueId, Gain>, String> {
        let mut gains = HashMap::new();
        for group in groups {
            let Producer::Norm(value) = group.producer else { continue };
            let gain = self.evaluate(value)?;
            if gain.contains(&0.0) {
                let reason = "the gain of its normalisation has zeros".to_string();
                if self.wish.has(Kind::RotateResidual) {
                    self.refuse(group, Kind::RotateResidual, reason);
                }
                continue;
            }
            let node = self.function.defining(group.input).map(|(_, node)| node.clone());
            let node = node.ok_or("a normalisation is no operation")?;
            let bias = match node.operands.get(2).copied().flatten() {
                Some(bias) if self.function.parameter_name(bias).is_none() => {
                    let reason = "the bias of its normalisation is no weight".to_string();
                    if self.wish.has(Kind::RotateResidual) {
                        self.refuse(group, Kind::RotateResidual, reason);
                    }
                    continue;
                }
                Some(bias) => Some((bias, self.evaluate(bias)?)),
                None => None,
            };
            let layer_norm = matches!(node.op, Op::LayerNorm { .. });
            self.proposals.centred |= layer_norm;
            self.proposals.properties.insert(value, Properties::NONZERO);
            gains.insert(group.input, Gain { gain, bias });
        }
        Ok(gains)
    }

    /// One frame for each width of the stream: the rotation from the inputs of all groups behind normalisations of that width, without
    /// gains, each weighing the same.
    fn frames(
        &mut self,
        groups: &[Group],
        rows: &[Rows],
        inputs: &[Matrix],
        gains: &HashMap<ValueId, Gain>,
    ) -> Result<(), String> {
        let mut pooled: Vec<Matrix> = Vec::new();
        for (group, x) in groups.iter().zip(inputs) {
            let Some(gain) = gains.get(&group.input) else { continue };
            let plain = stripped(gain).iter().fold(x.clone(), |x, part| part.of_activation(&x));
            let mut covariance = plain.covariance();
            let trace = covariance.trace().max(f64::MIN_POSITIVE);
            covariance.data.iter_mut().for_each(|c| *c /= trace);
            match pooled.iter_mut().find(|p| p.columns == covariance.columns) {
                Some(p) => p.data.iter_mut().zip(&covariance.data).for_each(|(a, b)| *a += b),
                None => pooled.push(covariance),
            }
        }
        for covariance in pooled {
            let rotation = self.stream_rotation(&covariance, groups, rows, inputs, gains)?;
            let frame = self.matrix("rotation.stream", &rotation)?;
            self.proposals.frames.push(frame);
        }
        Ok(())
    }

    /// The rotation whose groups have the least error together: of some with random signs, and of all bases where none is wished for.
    fn stream_rotation(
        &mut self,
        covariance: &Matrix,
        groups: &[Group],
        rows: &[Rows],
        inputs: &[Matrix],
        gains: &HashMap<ValueId, Gain>,
    ) -> Result<Matrix, String> {
        let bases = match self.wish.basis {
            Some(basis) => vec![basis],
            None => vec![Basis::KltHadamard, Basis::Hadamard],
        };
        let mut best: Option<(f64, Matrix)> = None;
        for basis in bases {
            for _ in 0..if basis.is_random() { SIGNS } else { 1 } {
                let rotation = self.rotation(basis, covariance)?;
                let mut error = 0.0;
                for ((group, rows), x) in groups.iter().zip(rows).zip(inputs) {
                    if let Some(gain) = gains.get(&group.input).filter(|_| group.width == rotation.rows) {
                        let mut parts = stripped(gain);
                        parts.push(Part::Rotate(rotation.clone()));
                        let errors = self.site(group, rows, x)?.errors(&self.wish.formats, &parts)?;
                        error += errors.iter().sum::<f64>();
                    }
                }
                if best.as_ref().is_none_or(|(least, _)| error < *least) {
                    best = Some((error, rotation));
                }
            }
        }
        Ok(best.ok_or("there is no rotation")?.1)
    }

    /// A group in numbers.
    fn site<'s>(&self, group: &'s Group, rows: &'s Rows, x: &'s Matrix) -> Result<Site<'s>, String> {
        let mut weights = Vec::new();
        for layer in &group.layers {
            let name = self.function.parameter_name(layer.weight).ok_or("a weight is no parameter")?;
            let w =
                self.context.parameters.evaluate(name, self.context.evaluator).map_err(|e| e.to_string())?;
            weights.push(widened(&w.to_f32_vec(), group.width));
        }
        Ok(Site { group, rows, x, weights })
    }

    /// An orthogonal matrix in this basis, or the nearest there is for this size.
    fn rotation(&mut self, basis: Basis, covariance: &Matrix) -> Result<Matrix, String> {
        let n = covariance.rows;
        let made = match basis {
            Basis::Hadamard => hadamard(n),
            Basis::RandomHadamard => random_hadamard(n, &mut self.random),
            Basis::KltHadamard => klt_hadamard(covariance, &mut self.random)?,
            Basis::Givens => None,
        };
        Ok(made.unwrap_or_else(|| givens_equaliser(covariance)))
    }

    fn parameter(&mut self, name: &str, tensor: Tensor, properties: Properties) -> Result<ValueId, String> {
        let ty = tensor.ty();
        let mut unique = name.to_string();
        let mut n = 1;
        while self.context.parameters.ty(&unique).is_some() {
            unique = format!("{name}.{n}");
            n += 1;
        }
        let name: Str = self.context.parameters.insert_tensor(&unique, tensor).map_err(|e| e.to_string())?;
        let value = self.function.add_parameter(&name, ty);
        self.proposals.properties.insert(value, properties);
        Ok(value)
    }

    fn matrix(&mut self, name: &str, m: &Matrix) -> Result<ValueId, String> {
        let data = Data::F64(m.data.clone());
        let tensor = Tensor::new(vec![m.rows, m.columns], qcc_ir::ElementType::F64, data);
        self.parameter(name, tensor.map_err(|e| e.to_string())?, Properties::ORTHOGONAL)
    }

    fn vector(&mut self, name: &str, v: &[f32], properties: Properties) -> Result<ValueId, String> {
        let tensor = Tensor::f32(&[v.len()], v.to_vec()).map_err(|e| e.to_string())?;
        self.parameter(name, tensor, properties)
    }

    /// All candidates of a group, the group as it is first.
    fn group(
        &mut self,
        group: &Group,
        rows: &Rows,
        x: &Matrix,
        gains: &HashMap<ValueId, Gain>,
    ) -> Result<Vec<Candidate>, String> {
        let site = self.site(group, rows, x)?;
        let mut all = vec![self.candidate(&site, &[], Vec::new())?];
        let name = group.name();
        if self.wish.has(Kind::Smooth) {
            let smooth = self.scaled(&site, &[])?;
            let scaled = self.candidate(&site, &[Kind::Smooth], vec![smooth])?;
            self.add_if_better(&site, scaled, &mut all);
        }
        if self.wish.has(Kind::Awq) {
            let step = self.by_magnitude(&site)?;
            let scaled = self.candidate(&site, &[Kind::Awq], vec![step])?;
            self.add_if_better(&site, scaled, &mut all);
        }
        if let Some(gain) = gains.get(&group.input) {
            for (frame, rotation) in self.fitting_frames(group.width)? {
                let mut steps = self.strip(group, gain);
                let free = vec![("?r", Binding::Value(frame))];
                steps.push((Introduction { rule: "rotated-input", free }, Part::Rotate(rotation)));
                all.push(self.candidate(&site, &[Kind::RotateResidual], steps)?);
            }
        }
        if group.producer == Producer::Linear {
            self.between_layers(&site, &name, &mut all)?;
        } else if group.producer == Producer::Other && self.wish.has(Kind::RotateOnline) {
            self.online(&site, &mut all)?;
        }
        if self.wish.kinds.len() == 1 {
            self.tell_what_does_not_fit(group, self.wish.kinds[0], !gains.contains_key(&group.input));
        }
        if self.wish.has(Kind::Permute) && self.blocks() {
            let step = self.sorted(&site, &name)?;
            let sorted = self.candidate(&site, &[Kind::Permute], vec![step])?;
            self.add_if_better(&site, sorted, &mut all);
        }
        Ok(all)
    }

    /// Why a kind that was asked for by name, and alone, is not proposed at a group; what is proposed and does not pass is told elsewhere.
    fn tell_what_does_not_fit(&mut self, group: &Group, kind: Kind, no_frame: bool) {
        let reads = match group.producer {
            Producer::Norm(_) => "a normalisation",
            Producer::Linear => "a linear layer",
            // What has no gain, or one that is computed, is no normalisation to a frame.
            Producer::Other => "neither a normalisation nor a linear layer",
        };
        let (norm, linear) =
            (matches!(group.producer, Producer::Norm(_)), group.producer == Producer::Linear);
        let reason = match kind {
            // Zeros in a gain have been told.
            Kind::RotateResidual if no_frame && !norm => {
                format!("it reads {reads}; the stream is read behind normalisations")
            }
            Kind::RotateHeads | Kind::Shift if !linear => {
                format!("it reads {reads}; only a linear layer takes it up")
            }
            Kind::RotateOnline if norm || linear => {
                let other = if norm { "rotate-residual" } else { "rotate-heads" };
                format!("it reads {reads}; `{other}` rotates that without work at run time")
            }
            Kind::Permute if !self.blocks() => {
                "no features share a scale in these formats: use blocks, e.g. weights in int4:block=32"
                    .to_string()
            }
            _ => return,
        };
        self.refuse(group, kind, reason);
    }

    /// Adds what has less error than the group as it is, or says that it has not.
    fn add_if_better(&mut self, site: &Site<'_>, candidate: Candidate, all: &mut Vec<Candidate>) {
        let total = |c: &Candidate| c.errors.iter().sum::<f64>();
        let (before, after) = (all.first().map_or(f64::INFINITY, total), total(&candidate));
        if after < before || site.group.layers.iter().all(|l| l.head) {
            all.push(candidate);
        } else if let Some(&kind) = candidate.kinds.first() {
            let reason = format!("its error would be {after:.2e} instead of {before:.2e}");
            self.refuse(site.group, kind, reason);
        }
    }

    /// Whether neighbours along the features share scales.
    fn blocks(&self) -> bool {
        let Formats { weights, activations, .. } = &self.wish.formats;
        let blocked = |f: &Option<Format>| f.is_some_and(|f| matches!(f.sharing(), Sharing::Block(_)));
        blocked(weights) || blocked(activations)
    }

    fn fitting_frames(&self, width: usize) -> Result<Vec<(ValueId, Matrix)>, String> {
        let mut fitting = Vec::new();
        for &frame in &self.proposals.frames {
            let name = self.function.parameter_name(frame).ok_or("a frame is no weight")?;
            let r =
                self.context.parameters.evaluate(name, self.context.evaluator).map_err(|e| e.to_string())?;
            if r.dims == [width, width] {
                fitting.push((frame, Matrix::new(width, width, r.to_f64_vec())));
            }
        }
        Ok(fitting)
    }

    /// The steps that take bias and gain out of a normalisation's result.
    fn strip(&self, group: &Group, gain: &Gain) -> Vec<Step> {
        let Producer::Norm(value) = group.producer else { return Vec::new() };
        let introduction = |part: &Part| match (part, &gain.bias) {
            (Part::Shift(_), Some((bias, _))) => ("shifted-input", "?v", Binding::NegativeOf(*bias)),
            _ => ("scaled-input", "?s", Binding::ReciprocalOf(value)),
        };
        let step = |part: Part| {
            let (rule, variable, binding) = introduction(&part);
            (Introduction { rule, free: vec![(variable, binding)] }, part)
        };
        stripped(gain).into_iter().map(step).collect()
    }

    /// Rotations and shifts that pass from a layer into the one before.
    fn between_layers(
        &mut self,
        site: &Site<'_>,
        name: &str,
        all: &mut Vec<Candidate>,
    ) -> Result<(), String> {
        if self.wish.has(Kind::RotateHeads) {
            let mut before: Vec<(Vec<Step>, Vec<Kind>)> = vec![(Vec::new(), Vec::new())];
            if self.wish.has(Kind::Smooth) {
                let scaled = self.scaled(site, &[])?;
                before.push((vec![scaled], vec![Kind::Smooth]));
            }
            for (mut steps, mut kinds) in before {
                let x = steps.iter().fold(site.x.clone(), |x, (_, part)| part.of_activation(&x));
                let rotation =
                    self.rotation(self.wish.basis.unwrap_or(Basis::KltHadamard), &x.covariance())?;
                let r = self.matrix(&format!("rotation.{name}"), &rotation)?;
                let free = vec![("?r", Binding::Value(r))];
                steps.push((Introduction { rule: "rotated-input", free }, Part::Rotate(rotation)));
                kinds.push(Kind::RotateHeads);
                all.push(self.candidate(site, &kinds, steps)?);
            }
        }
        if self.wish.has(Kind::Shift) {
            #[allow(clippy::cast_possible_truncation, reason = "bounds are f32")]
            let middle: Vec<f32> = site.rows.bounds.iter().map(|(l, h)| -((l + h) / 2.0)).collect();
            let v = self.vector(&format!("shift.{name}"), &middle, Properties::default())?;
            let part = Part::Shift(middle.iter().map(|v| f64::from(*v)).collect());
            let free = vec![("?v", Binding::Value(v))];
            let step = (Introduction { rule: "shifted-input", free }, part);
            let shifted = self.candidate(site, &[Kind::Shift], vec![step])?;
            self.add_if_better(site, shifted, all);
        }
        Ok(())
    }

    /// The fast transform while the model runs, alone and behind a scale.
    fn online(&mut self, site: &Site<'_>, all: &mut Vec<Candidate>) -> Result<(), String> {
        let width = site.group.width;
        let order = Order::largest_dividing(i64::try_from(width).map_err(|e| e.to_string())?);
        let size = usize::try_from(order.size()).map_err(|e| e.to_string())?;
        if size < 2 {
            let reason = format!("no Hadamard matrix is known of a size that divides its {width} features");
            self.refuse(site.group, Kind::RotateOnline, reason);
            return Ok(());
        }
        let block = hadamard(size).ok_or("a known order has no matrix")?;
        let mut matrix = Matrix::zeros(width, width);
        for at in (0..width).step_by(size) {
            for i in 0..size {
                let to = (at + i) * width + at;
                matrix.data[to..to + size].copy_from_slice(&block.data[i * size..(i + 1) * size]);
            }
        }
        let op = Op::Hadamard { size: order.size(), transpose: false };
        let transformed = || {
            let free = vec![("?h", Binding::Attributes(op.clone()))];
            (Introduction { rule: "transformed-input", free }, Part::Rotate(matrix.clone()))
        };
        all.push(self.candidate(site, &[Kind::RotateOnline], vec![transformed()])?);
        if self.wish.has(Kind::Smooth) {
            let scaled = self.scaled(site, &[Part::Rotate(matrix.clone())])?;
            let kinds = [Kind::Smooth, Kind::RotateOnline];
            all.push(self.candidate(site, &kinds, vec![scaled, transformed()])?);
        }
        Ok(())
    }

    /// The scale `max|x|^−α · max|w|^(1 − α)` whose α of a grid gives the least error, before the steps that follow it.
    fn scaled(&mut self, site: &Site<'_>, after: &[Part]) -> Result<Step, String> {
        let mut columns = vec![0f64; site.group.width];
        for w in &site.weights {
            for row in w.data.chunks(w.columns.max(1)) {
                columns.iter_mut().zip(row).for_each(|(m, w)| *m = m.max(w.abs()));
            }
        }
        let grid = (1..10).map(|tenth| scales(&site.rows.largest, &columns, f64::from(tenth) / 10.0));
        self.least(site, grid, after)
    }

    /// The scale `mean|x|^−r` whose r of a grid gives the least error.
    fn by_magnitude(&mut self, site: &Site<'_>) -> Result<Step, String> {
        let grid = (0..20).map(|i| magnitude_scales(&site.rows.mean, f64::from(i) / 20.0));
        self.least(site, grid, &[])
    }

    /// The scale of least error, before the steps that follow it.
    fn least(
        &mut self,
        site: &Site<'_>,
        grid: impl Iterator<Item = Vec<f32>>,
        after: &[Part],
    ) -> Result<Step, String> {
        let mut best: Option<(f64, Vec<f32>)> = None;
        for s in grid {
            let mut parts = vec![Part::Scale(s.iter().map(|s| f64::from(*s)).collect())];
            parts.extend_from_slice(after);
            let error: f64 = site.errors(&self.wish.formats, &parts)?.iter().sum();
            if best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, s));
            }
        }
        let (_, s) = best.ok_or("the grid is empty")?;
        let value = self.vector(&format!("scale.{}", site.group.name()), &s, Properties::POSITIVE)?;
        let introduction = Introduction { rule: "scaled-input", free: vec![("?s", Binding::Value(value))] };
        Ok((introduction, Part::Scale(s.iter().map(|s| f64::from(*s)).collect())))
    }

    /// Features in the order of how much they bring: those that share a scale are alike.
    fn sorted(&mut self, site: &Site<'_>, name: &str) -> Result<Step, String> {
        let mut squares = vec![0f64; site.group.width];
        for w in &site.weights {
            for row in w.data.chunks(w.columns.max(1)) {
                squares.iter_mut().zip(row).for_each(|(m, w)| *m += w * w);
            }
        }
        let mut order: Vec<usize> = (0..site.group.width).collect();
        let size = |i: &usize| squares[*i].sqrt();
        order.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
        let indices: Vec<i64> = order.iter().map(|i| *i as i64).collect();
        let tensor = Tensor::i64(&[indices.len()], indices).map_err(|e| e.to_string())?;
        let value = self.parameter(&format!("order.{name}"), tensor, Properties::PERMUTATION)?;
        let introduction = Introduction { rule: "permuted-input", free: vec![("?p", Binding::Value(value))] };
        Ok((introduction, Part::Permute(order)))
    }

    fn candidate(&mut self, site: &Site<'_>, kinds: &[Kind], steps: Vec<Step>) -> Result<Candidate, String> {
        let (introductions, parts): (Vec<Introduction>, Vec<Part>) = steps.into_iter().unzip();
        let errors = site.errors(&self.wish.formats, &parts)?;
        Ok(Candidate { kinds: kinds.to_vec(), introductions, errors })
    }
}

/// A group in numbers.
struct Site<'a> {
    group: &'a Group,
    rows: &'a Rows,
    x: &'a Matrix,
    weights: Vec<Matrix>,
}

impl Site<'_> {
    /// The error of each layer after these steps.
    fn errors(&self, formats: &Formats, parts: &[Part]) -> Result<Vec<f64>, String> {
        let x = parts.iter().fold(self.x.clone(), |x, part| part.of_activation(&x));
        let rounded_x = formats.rounded_input(&x)?;
        let mut errors = Vec::new();
        for (layer, w) in self.group.layers.iter().zip(&self.weights) {
            if layer.head && formats.head.is_none() {
                errors.push(0.0);
                continue;
            }
            let w = parts.iter().fold(w.clone(), |w, part| part.of_weight(&w));
            let (x_hat, w_hat) = match layer.head {
                true => (&x, formats.rounded_head(&w)?),
                false => (&rounded_x, formats.rounded_weight(&w)?),
            };
            errors.push(relative(&x.times_transposed(&w), x_hat, &w_hat));
        }
        Ok(errors)
    }
}

/// What takes bias and gain out of a normalisation's result.
fn stripped(gain: &Gain) -> Vec<Part> {
    let bias = gain.bias.iter().map(|(_, bias)| Part::Shift(bias.iter().map(|b| -b).collect()));
    let mut parts: Vec<Part> = bias.collect();
    parts.push(Part::Scale(gain.gain.iter().map(|g| 1.0 / g).collect()));
    parts
}

/// What features are multiplied with: `1 / s` of SmoothQuant, `s = max|x|^α / max|w|^(1 − α)`, within a factor of 10⁴ of their geometric
/// mean; 1 for features that are always 0 or that nothing reads.
fn scales(largest: &[f32], columns: &[f64], alpha: f64) -> Vec<f32> {
    let raw: Vec<f64> = largest
        .iter()
        .zip(columns)
        .map(|(x, w)| match f64::from(*x) > 0.0 && *w > 0.0 {
            true => w.powf(1.0 - alpha) / f64::from(*x).powf(alpha),
            false => 1.0,
        })
        .collect();
    let mean = (raw.iter().map(|s| s.ln()).sum::<f64>() / raw.len().max(1) as f64).exp();
    #[allow(clippy::cast_possible_truncation, reason = "scales are f32")]
    raw.iter().map(|s| (s / mean).clamp(1e-4, 1e4) as f32).collect()
}

/// What features are multiplied with: `1 / s` of AWQ, `s = max(mean|x|^r, 10⁻⁴)` over `√(max s · min s)`.
fn magnitude_scales(mean: &[f64], r: f64) -> Vec<f32> {
    let raw: Vec<f64> = mean.iter().map(|x| x.powf(r).max(1e-4)).collect();
    let (least, most) = raw.iter().fold((f64::INFINITY, 0f64), |(l, m), s| (l.min(*s), m.max(*s)));
    let middle = (least * most).sqrt();
    #[allow(clippy::cast_possible_truncation, reason = "scales are f32")]
    raw.iter().map(|s| (middle / s) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::magnitude_scales;

    #[test]
    fn scales_by_magnitude_lie_around_1() {
        assert_eq!(magnitude_scales(&[0.5, 4.0, 2.0], 0.0), [1.0; 3]);
        let s = magnitude_scales(&[0.01, 4.0, 0.0, 1.0], 0.5);
        let (least, most) = s.iter().fold((f32::INFINITY, 0f32), |(l, m), s| (l.min(*s), m.max(*s)));
        assert!((least * most - 1.0).abs() < 1e-6, "{s:?}");
        assert!(s[1] < s[3] && s[3] < s[0]);
    }
}
