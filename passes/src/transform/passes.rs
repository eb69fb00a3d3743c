//! The passes: one for each kind of transform, applied wherever it is legal, and `transform`, which chooses among all.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use qcc_ir::format::{Format, Role};
use qcc_ir::{Function, Module, Op, Str, ValueId};

use super::choice::{self, Chosen};
use super::error::Formats;
use super::explanation::{AS_IT_IS, Explanation, LayerChoice, Refusal, Saturation, TradeOff};
use super::kind::{Basis, Kind, Kinds};
use super::observe;
use super::propose::{Candidate, Proposals, Wish, propose};
use super::search::{Binding, Plan, Problem, Search};
use super::site::{Group, Refused, groups};
use super::trial::Trial;
use crate::context::Context;
use crate::equivalence::rules::{BUILTIN, Rule, parse};
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};

const FORMAT_OPTIONS: &[(&str, &str)] = &[
    ("weights", "the format that weights will have (default int8:channel)"),
    ("activations", "the format that activations will have (default int8:tensor)"),
    ("head", "the format that the output head's weight will have (default f32)"),
];

const ROTATION_OPTIONS: &[(&str, &str)] = &[
    FORMAT_OPTIONS[0],
    FORMAT_OPTIONS[1],
    FORMAT_OPTIONS[2],
    ("basis", "of rotations: hadamard, random-hadamard, klt-hadamard (default) or givens"),
    SEED,
];

const SEED: (&str, &str) = ("seed", "of the signs of rotations, a whole number (default 0)");

const CHOICE_OPTIONS: &[(&str, &str)] = &[
    FORMAT_OPTIONS[0],
    FORMAT_OPTIONS[1],
    FORMAT_OPTIONS[2],
    ("basis", "of rotations: hadamard, random-hadamard, klt-hadamard or givens (default: the best)"),
    SEED,
    ("kinds", "the transforms to choose among, with + between (default all but awq)"),
    ("method", "how `calibrate` will measure ranges (default minmax)"),
    ("percentile", "its percentile"),
    ("momentum", "its momentum"),
];

macro_rules! info {
    ($kind:ident, $name:literal, $summary:literal, $options:ident) => {
        PassInfo {
            name: $name,
            summary: $summary,
            options: $options,
            make: |options| Ok(Box::new(Transform::forced($name, Kind::$kind, options)?)),
        }
    };
}

/// The registry entries of the kinds.
pub const INFOS: [PassInfo; 7] = [
    info!(
        RotateResidual,
        "rotate-residual", "rotates the residual stream, into the weights around it", ROTATION_OPTIONS
    ),
    info!(
        RotateHeads,
        "rotate-heads", "rotates what passes between two linear layers, into their weights", ROTATION_OPTIONS
    ),
    info!(
        RotateOnline,
        "rotate-online", "applies a fast Hadamard transform to inputs of layers at run time", FORMAT_OPTIONS
    ),
    info!(
        Smooth,
        "smooth", "scales features so that outliers move from activations into weights", FORMAT_OPTIONS
    ),
    info!(
        Awq,
        "awq",
        "scales features by how large they are, so that rounded weights lose less of them",
        FORMAT_OPTIONS
    ),
    info!(Shift, "shift", "shifts features to the middle of their range, into biases", FORMAT_OPTIONS),
    info!(Permute, "permute", "sorts features so that those that share a scale are alike", FORMAT_OPTIONS),
];

/// The registry entry of the choice among all.
pub const TRANSFORM: PassInfo = PassInfo {
    name: "transform",
    summary: "chooses transforms by estimated error and latency, and by the loss on held-out samples",
    options: CHOICE_OPTIONS,
    make: |options| Ok(Box::new(Transform::chosen(options)?)),
};

/// Why a transform that was asked for by name was not taken where it is legal.
const WORK: &str =
    "weights alone do not take it up, so it would be work while the model runs; `transform` weighs that";

/// How transforms are picked.
enum Mode {
    /// Wherever they are legal.
    Forced,
    /// By cost; the options with which `calibrate` will measure.
    Chosen { calibrate: String },
}

struct Transform {
    name: &'static str,
    kinds: Kinds,
    basis: Option<Basis>,
    formats: Formats,
    seed: u64,
    mode: Mode,
}

impl Transform {
    fn new(name: &'static str, kinds: Kinds, mode: Mode, options: &mut Options) -> Result<Transform, String> {
        let mut format = |name: &str, role: Role, default: &str| -> Result<Option<Format>, String> {
            let text: String = options.take(name)?.unwrap_or_else(|| default.to_string());
            let format = Format::parse(&text, role).map_err(|e| e.to_string())?;
            if format.is_float() {
                return Ok(None);
            }
            format.check_executable()?;
            Ok(Some(format))
        };
        let weights = format("weights", Role::Weight, "int8:channel")?;
        let activations = format("activations", Role::Activation, "int8:tensor")?;
        let head = format("head", Role::Weight, "f32")?;
        // Where nothing is rotated by a matrix these would change nothing.
        let (basis, seed) =
            match matches!(mode, Mode::Chosen { .. }) || kinds.0.iter().any(|kind| kind.has_basis()) {
                true => (options.take("basis")?, seed(options)?),
                false => (None, 0),
            };
        let basis = match mode {
            Mode::Forced => basis.or(Some(Basis::KltHadamard)),
            Mode::Chosen { .. } => basis,
        };
        Ok(Transform { name, kinds, basis, formats: Formats { weights, activations, head }, seed, mode })
    }

    fn forced(name: &'static str, kind: Kind, options: &mut Options) -> Result<Transform, String> {
        Transform::new(name, Kinds(vec![kind]), Mode::Forced, options)
    }

    fn chosen(options: &mut Options) -> Result<Transform, String> {
        let kinds = options.take("kinds")?.unwrap_or_else(|| Kinds(Kind::usual()));
        let method: String = options.take("method")?.unwrap_or_else(|| "minmax".into());
        let mut calibrate = format!("method={method}");
        for name in ["percentile", "momentum"] {
            if let Some(value) = options.take::<f64>(name)? {
                calibrate.push_str(&format!(" {name}={value}"));
            }
        }
        Transform::new("transform", kinds, Mode::Chosen { calibrate }, options)
    }
}

fn seed(options: &mut Options) -> Result<u64, String> {
    let Some(text) = options.take::<String>("seed")? else { return Ok(0) };
    text.parse().map_err(|_| format!("option `seed={text}`: use a whole number from 0 to {}", u64::MAX))
}

/// All rules of this build, and those that were added.
fn rules(more: &[Arc<Rule>]) -> Result<Vec<Arc<Rule>>, String> {
    let mut rules = Vec::new();
    for (file, text) in BUILTIN {
        rules.extend(parse(file, text).map_err(|e| e.to_string())?);
    }
    rules.extend(more.iter().cloned());
    Ok(rules)
}

impl Pass for Transform {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let fail = |e: String| PassError::failed(self.name, e);
        let rules = rules(&context.rules).map_err(fail)?;
        let (groups, unfit) =
            groups(module.entry().ok_or_else(|| fail("the module has no function".into()))?);
        let inputs: Vec<_> = groups.iter().map(|g| (g.input, g.width)).collect();
        let rows = observe::rows(self.name, module, &inputs, context)?;
        let before = module.clone();
        let wish =
            Wish { kinds: self.kinds.0.clone(), basis: self.basis, formats: self.formats, seed: self.seed };
        let proposals = propose(&wish, &mut module.functions[0], &groups, &rows, context).map_err(fail)?;
        let candidates: Vec<Vec<_>> = proposals
            .candidates
            .iter()
            .map(|group| group.iter().map(|c| c.introductions.clone()).collect())
            .collect();
        let mut target = context.target.clone();
        target.weight_bits = self.formats.weights.map_or(32.0, |f| f.bits_per_element());
        let problem = Problem {
            function: &module.functions[0],
            groups: &groups,
            candidates: &candidates,
            frames: &proposals.frames,
            centred: proposals.centred,
            properties: &proposals.properties,
            rules: &rules,
            target: &target,
        };
        let start = Instant::now();
        let search = Search::new(&problem).map_err(|e| fail(e.to_string()))?;
        let saturation = start.elapsed();
        let trial = match (context.executor, context.held_out.or(context.samples)) {
            (Some(executor), Some(samples)) if !samples.is_empty() => {
                Some(Trial::new(&before, &context.parameters, executor, samples).map_err(fail)?)
            }
            _ => None,
        };
        let Chosen { plan, trade_offs, time } = match &self.mode {
            Mode::Forced => choice::forced(&search, &proposals, &groups, &self.kinds),
            Mode::Chosen { calibrate } => {
                let passes = self.formats.passes(calibrate);
                choice::by_cost(&search, &proposals, module, context, trial.as_ref(), passes.as_deref())
                    .map_err(fail)?
            }
        };
        let plan = plan.ok_or_else(|| fail("no form of the function can be made".into()))?;
        let mut explanation = Explanation {
            pass: self.name,
            layers: layers(&groups, &proposals, &plan),
            refused: self.refused(&search, &problem, &proposals, &unfit, &plan),
            trade_offs,
            saturations: search.reports.iter().map(Saturation::from).collect(),
            search: saturation + time,
            difference: None,
        };
        let introduced = introduced(&module.functions[0], &proposals, &plan);
        search.apply(&mut module.functions[0], &plan).map_err(fail)?;
        taken_up(&module.functions[0], &groups, &introduced, &mut explanation.layers);
        if let Some(trial) = trial {
            explanation.difference = Some(trial.difference(module, &context.parameters).map_err(fail)?);
        }
        let mut outcome = Outcome::default();
        outcome.statistics.insert("layers", plan.chosen.iter().flatten().filter(|c| **c > 0).count());
        outcome.measures.insert("e_nodes", search.reports.iter().map(|r| r.nodes).sum());
        tell(&explanation);
        context.explanations.push(explanation);
        Ok(outcome)
    }
}

impl Transform {
    /// What was wanted and cannot be.
    fn refused(
        &self,
        search: &Search,
        problem: &Problem<'_>,
        proposals: &Proposals,
        unfit: &[Refused],
        plan: &Plan,
    ) -> Vec<Refusal> {
        let refusal = |layers: Vec<String>, transform: &str, reason: &str| Refusal {
            layers,
            transform: transform.to_string(),
            reason: reason.to_string(),
        };
        // It is no kind in particular that such a layer cannot have.
        let unfit = unfit.iter().map(|r| Refusal::new(&r.layer, "transform", &*r.reason));
        let mut refused: Vec<Refusal> = unfit.collect();
        refused.extend(proposals.refused.iter().map(|r| refusal(r.layers.clone(), r.kind.name(), &r.reason)));
        for (g, (group, candidates)) in problem.groups.iter().zip(&proposals.candidates).enumerate() {
            for (c, candidate) in candidates.iter().enumerate().skip(1) {
                let left =
                    plan.chosen[g].iter().all(|chosen| *chosen == 0) && group.layers.iter().any(|l| !l.head);
                match search.obstacle(problem, g, c) {
                    Some(reason) => refused.push(refusal(group.names(), &candidate.label(), &reason)),
                    None if left && matches!(self.mode, Mode::Forced) => {
                        refused.push(refusal(group.names(), &candidate.label(), WORK));
                    }
                    None => {}
                }
            }
        }
        refused
    }
}

fn layers(groups: &[Group], proposals: &Proposals, plan: &Plan) -> Vec<LayerChoice> {
    let mut all = Vec::new();
    for (g, (group, candidates)) in groups.iter().zip(&proposals.candidates).enumerate() {
        for (l, layer) in group.layers.iter().enumerate() {
            let chosen: &Candidate = &candidates[plan.chosen[g][l]];
            all.push(LayerChoice {
                layer: layer.name.to_string(),
                chosen: chosen.label(),
                taken_up_by: Vec::new(),
                before: Some(candidates[0].errors[l]),
                after: Some(chosen.errors[l]),
                online_seconds: Some(plan.online[g][l]),
            });
        }
    }
    all
}

/// For each group, what its transform multiplies with or adds: values that the weights which take it up are computed from.
fn introduced(function: &Function, proposals: &Proposals, plan: &Plan) -> Vec<BTreeSet<Str>> {
    let of_group = |(candidates, chosen): (&Vec<Candidate>, &Vec<usize>)| {
        let introductions = chosen.iter().flat_map(|c| &candidates[*c].introductions);
        let bindings = introductions.flat_map(|introduction| &introduction.free).map(|(_, binding)| binding);
        let value = |binding: &Binding| match binding {
            Binding::Value(value) => function.parameter_name(*value).cloned(),
            _ => None,
        };
        bindings.filter_map(value).collect()
    };
    proposals.candidates.iter().zip(&plan.chosen).map(of_group).collect()
}

/// Says at each layer what besides its group took its transform up.
fn taken_up(function: &Function, groups: &[Group], introduced: &[BTreeSet<Str>], layers: &mut [LayerChoice]) {
    // What each value that depends on weights alone is computed from, of what was introduced.
    let mut sources: HashMap<ValueId, BTreeSet<Str>> = HashMap::new();
    let all: BTreeSet<&Str> = introduced.iter().flatten().collect();
    let mut users: HashMap<Str, Vec<Str>> = HashMap::new();
    for &id in function.order() {
        let node = function.node(id);
        let operands: Vec<ValueId> = node.operands.iter().copied().flatten().collect();
        let is_weight = operands.iter().all(|x| sources.contains_key(x));
        let mut from: BTreeSet<Str> =
            operands.iter().filter_map(|x| sources.get(x)).flatten().cloned().collect();
        if let Op::Parameter { name } = &node.op {
            from.extend(all.get(name).map(|name| Str::clone(name)));
        }
        if is_weight {
            sources.extend(node.results.iter().map(|y| (*y, from.clone())));
        } else {
            for name in from {
                let place = match &*node.location {
                    "" => format!("a qcc.{}", node.op.name()).into(),
                    _ => node.location.clone(),
                };
                users.entry(name).or_default().push(place);
            }
        }
    }
    let mut layers = layers.iter_mut();
    for (group, introduced) in groups.iter().zip(introduced) {
        let own = |name: &Str| group.layers.iter().any(|l| l.name == *name);
        let mut others: Vec<String> = Vec::new();
        for user in introduced.iter().filter_map(|name| users.get(name)).flatten().filter(|name| !own(name)) {
            if !others.iter().any(|o| **o == **user) {
                others.push(user.to_string());
            }
        }
        for layer in layers.by_ref().take(group.layers.len()).filter(|l| l.chosen != AS_IT_IS) {
            layer.taken_up_by.clone_from(&others);
        }
    }
}

pub(crate) fn tell(explanation: &Explanation) {
    let pass = explanation.pass;
    for l in &explanation.layers {
        tracing::info!(layer = %l.layer, before = ?l.before, after = ?l.after, chosen = %l.chosen, "{pass}");
    }
    for r in &explanation.refused {
        tracing::info!(site = %r.site(), transform = %r.transform, reason = %r.reason, "{pass}: refused");
    }
    for TradeOff { layers, online, seconds, error, loss, chosen, too_slow } in &explanation.trade_offs {
        tracing::info!(layers, online, seconds, error, ?loss, chosen, too_slow, "{pass}: trade-off");
    }
    for s in &explanation.saturations {
        let Saturation { classes, nodes, iterations, time, limits, applied } = s;
        tracing::debug!(classes, nodes, iterations, ?time, ?limits, ?applied, "{pass}: saturated");
    }
    if let Some(difference) = explanation.difference {
        tracing::info!(difference, "{pass}: largest relative error of an output in f32");
    }
}
