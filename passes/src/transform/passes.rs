//! The passes: one for each kind of transform, applied wherever it is legal.

use std::sync::Arc;

use qcc_ir::Module;
use qcc_ir::format::{Format, Role};

use super::error::Formats;
use super::kind::{Basis, Kind};
use super::observe;
use super::propose::{Proposals, Wish, propose};
use super::search::{Errors, Introduction, Problem, Search};
use super::site::groups;
use super::target::Target;
use crate::context::Context;
use crate::equivalence::rules::{BUILTIN, Rule, parse};
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};

const FORMAT_OPTIONS: &[(&str, &str)] = &[
    ("weights", "the format that weights will have (default int8:channel)"),
    ("activations", "the format that activations will have (default int8:tensor)"),
    ("head", "the format that the output head's weight will have (default f32)"),
    ("basis", "of rotations: hadamard, random-hadamard, klt-hadamard (default) or givens"),
];

macro_rules! info {
    ($kind:ident, $name:literal, $summary:literal) => {
        PassInfo {
            name: $name,
            summary: $summary,
            options: FORMAT_OPTIONS,
            make: |options| Ok(Box::new(Forced::new($name, vec![Kind::$kind], options)?)),
        }
    };
}

/// The registry entries of the kinds.
pub const INFOS: [PassInfo; 6] = [
    info!(RotateResidual, "rotate-residual", "rotates the residual stream, into the weights around it"),
    info!(RotateHeads, "rotate-heads", "rotates what passes between two linear layers, into their weights"),
    info!(RotateOnline, "rotate-online", "applies a fast Hadamard transform to inputs of layers at run time"),
    info!(Smooth, "smooth", "scales features so that outliers move from activations into weights"),
    info!(Shift, "shift", "shifts features to the middle of their range, into biases"),
    info!(Permute, "permute", "sorts features so that those that share a scale are alike"),
];

/// The registry entry of the choice among all.
pub const TRANSFORM: PassInfo = PassInfo {
    name: "transform",
    summary: "chooses transforms by estimated error and latency",
    options: FORMAT_OPTIONS,
    make: |options| Ok(Box::new(Forced::new("transform", Kind::ALL.to_vec(), options)?)),
};

/// What makes a layer's present form undesirable, where a transform was asked for by name.
const UNWANTED: f64 = 1e3;
/// A latency below what one operation takes: a transform that weights take up costs nothing.
const NO_TIME: f64 = 1e-12;

struct Forced {
    name: &'static str,
    kinds: Vec<Kind>,
    basis: Basis,
    formats: Formats,
}

impl Forced {
    fn new(name: &'static str, kinds: Vec<Kind>, options: &mut Options) -> Result<Forced, String> {
        let mut format = |name: &str, role: Role, default: &str| -> Result<Option<Format>, String> {
            let text: String = options.take(name)?.unwrap_or_else(|| default.to_string());
            let format = Format::parse(&text, role).map_err(|e| e.to_string())?;
            Ok((!format.is_float()).then_some(format))
        };
        let weights = format("weights", Role::Weight, "int8:channel")?;
        let activations = format("activations", Role::Activation, "int8:tensor")?;
        let head = format("head", Role::Weight, "f32")?;
        let basis = options.take("basis")?.unwrap_or(Basis::KltHadamard);
        Ok(Forced { name, kinds, basis, formats: Formats { weights, activations, head } })
    }
}

/// All rules of this build.
pub(super) fn rules() -> Result<Vec<Arc<Rule>>, String> {
    let mut rules = Vec::new();
    for (file, text) in BUILTIN {
        rules.extend(parse(file, text).map_err(|e| e.to_string())?);
    }
    Ok(rules)
}

/// What each candidate of each group introduces.
pub(super) fn introductions(proposals: &Proposals) -> Vec<Vec<Vec<Introduction>>> {
    let of = |c: &super::propose::Candidate| c.introductions.clone();
    proposals.candidates.iter().map(|group| group.iter().map(of).collect()).collect()
}

impl Pass for Forced {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let fail = |e: String| PassError::failed(self.name, e);
        let rules = rules().map_err(fail)?;
        let (groups, _) = groups(module.entry().ok_or_else(|| fail("the module has no function".into()))?);
        let inputs: Vec<_> = groups.iter().map(|g| (g.input, g.width)).collect();
        let rows = observe::rows(self.name, module, &inputs, context)?;
        let wish = Wish { kinds: self.kinds.clone(), basis: self.basis, formats: self.formats, seed: 0 };
        let function = &mut module.functions[0];
        let proposals = propose(&wish, function, &groups, &rows, context).map_err(fail)?;
        let candidates = introductions(&proposals);
        let target = Target::default();
        let problem = Problem {
            function,
            groups: &groups,
            candidates: &candidates,
            frames: &proposals.frames,
            centred: proposals.centred,
            properties: &proposals.properties,
            rules: &rules,
            target: &target,
        };
        let search = Search::new(&problem).map_err(|e| fail(e.to_string()))?;
        let errors: Errors = proposals
            .candidates
            .iter()
            .zip(&groups)
            .map(|(candidates, group)| {
                let of = |c: &super::propose::Candidate| {
                    let unwanted = |head: bool| if c.kinds.is_empty() && !head { UNWANTED } else { 0.0 };
                    c.errors.iter().zip(&group.layers).map(|(e, l)| e + unwanted(l.head)).collect()
                };
                candidates.iter().map(of).collect()
            })
            .collect();
        let unit = if self.kinds.iter().any(|k| k.is_online()) { 1.0 } else { NO_TIME };
        let plan = search
            .plan(&errors, 1.0, unit)
            .ok_or_else(|| fail("no form of the function can be made".into()))?;
        search.apply(function, &plan).map_err(fail)?;
        let mut outcome = Outcome::default();
        let changed = plan.chosen.iter().flatten().filter(|c| **c > 0).count();
        outcome.statistics.insert("layers", changed);
        for (group, (candidates, chosen)) in groups.iter().zip(proposals.candidates.iter().zip(&plan.chosen))
        {
            for (layer, c) in group.layers.iter().zip(chosen) {
                tracing::info!(layer = %layer.name, before = candidates[0].errors[0], chosen = candidates[*c].label, "{}", self.name);
            }
        }
        for report in &search.reports {
            tracing::debug!(
                nodes = report.nodes,
                classes = report.classes,
                iterations = report.iterations,
                "saturated"
            );
        }
        Ok(outcome)
    }
}
