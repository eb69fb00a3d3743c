//! Which plan is taken: the one asked for, or the best trade-off of latency and loss.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use qcc_ir::Module;

use super::explanation::TradeOff;
use super::kind::{Kind, Kinds};
use super::propose::{Candidate, Proposals};
use super::search::{Errors, Plan, Search};
use super::site::Group;
use super::trial::Trial;
use crate::context::Context;

/// What makes a layer's present form undesirable, where a transform was asked for by name.
const UNWANTED: f64 = 1e3;
/// A latency below what one operation takes: a transform that weights take up costs nothing.
const NO_TIME: f64 = 1e-12;
/// A transform may make the model so much slower, by the target description.
const SLOWER: f64 = 1.05;
/// How many of the best plans by estimate are measured.
const MEASURED: usize = 3;
/// Plans that lose hardly more than the best one compete by latency.
const AS_GOOD: f64 = 1.005;

/// What was chosen.
pub struct Chosen {
    /// The plan; none when no form of the function can be made.
    pub plan: Option<Plan>,
    /// What it was chosen among.
    pub trade_offs: Vec<TradeOff>,
    /// Time for finding these.
    pub time: Duration,
}

/// The plan that transforms every layer that can be.
pub fn forced(search: &Search, proposals: &Proposals, groups: &[Group], kinds: &Kinds) -> Chosen {
    let start = Instant::now();
    let of_group = |(candidates, group): (&Vec<Candidate>, &Group)| {
        let of = |c: &Candidate| {
            let unwanted = |head: bool| if c.kinds.is_empty() && !head { UNWANTED } else { 0.0 };
            c.errors.iter().zip(&group.layers).map(|(e, l)| e + unwanted(l.head)).collect()
        };
        candidates.iter().map(of).collect()
    };
    let wanted: Errors = proposals.candidates.iter().zip(groups).map(of_group).collect();
    let unit = if kinds.0.iter().any(|k| k.is_online()) { 1.0 } else { NO_TIME };
    let plan = search.plan(&wanted, 1.0, unit);
    Chosen { plan, trade_offs: Vec::new(), time: start.elapsed() }
}

/// The plan with the least loss on the trial's samples among those with the least estimated error that are hardly slower than the model as
/// it is; `passes` are what quantizes. Without a trial or quantization, the one with the least estimated error.
///
/// # Errors
/// When a plan cannot be applied or run.
pub fn by_cost(
    search: &Search,
    proposals: &Proposals,
    module: &Module,
    context: &Context<'_>,
    trial: Option<&Trial<'_>>,
    passes: Option<&str>,
) -> Result<Chosen, String> {
    let start = Instant::now();
    let errors: Errors =
        proposals.candidates.iter().map(|g| g.iter().map(|c| c.errors.clone()).collect()).collect();
    let Some(unchanged) = search.unchanged(&errors) else {
        return Ok(Chosen { plan: None, trade_offs: Vec::new(), time: start.elapsed() });
    };
    let unit = unchanged.seconds.max(f64::MIN_POSITIVE);
    let mut plans = search.trade_offs(&errors, &weights(), unit);
    // Estimates do not tell everything: plans that have one kind wherever they can are tried too, and the model as it is, so that
    // transforms never lose more than none.
    let mut others = vec![unchanged];
    for kind in Kind::ALL.into_iter().filter(|kind| proposals.has(*kind)) {
        let plan = search.plan(&preferring(proposals, kind), MOST, unit);
        others.extend(plan.map(|p| search.priced(p, &errors)));
    }
    plans.extend(others.iter().cloned());
    let mut seen: Vec<Vec<Vec<usize>>> = Vec::new();
    plans.retain(|p| {
        !seen.contains(&p.chosen) && {
            seen.push(p.chosen.clone());
            true
        }
    });
    plans.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let time = start.elapsed();
    let too_slow = |plan: &Plan| plan.seconds > SLOWER * unit;
    let mut order: Vec<usize> = (0..plans.len()).filter(|i| !too_slow(&plans[*i])).collect();
    order.sort_by(|a, b| plans[*a].error.total_cmp(&plans[*b].error));
    let mut losses: Vec<Option<f64>> = vec![None; plans.len()];
    let mut taken = order.first().copied();
    if let (Some(trial), Some(passes)) = (trial, passes) {
        let rest = order.split_off(order.len().min(MEASURED));
        order.extend(rest.into_iter().filter(|i| others.iter().any(|p| p.chosen == plans[*i].chosen)));
        for (done, &i) in order.iter().enumerate() {
            context.progress.report("measuring plans", done, order.len());
            let mut transformed = module.clone();
            search.apply(&mut transformed.functions[0], &plans[i])?;
            losses[i] = Some(trial.loss(transformed, context, passes)?);
        }
        context.progress.report("measuring plans", order.len(), order.len());
        let loss = |i: usize| losses[i].unwrap_or(f64::INFINITY);
        let least = order.iter().map(|i| loss(*i)).fold(f64::INFINITY, f64::min);
        let good = order.iter().copied().filter(|i| loss(*i) <= AS_GOOD * least);
        taken = good.min_by(|a, b| plans[*a].seconds.total_cmp(&plans[*b].seconds)).or(taken);
    }
    let dominated = |plan: &Plan| {
        let better = |p: &Plan| {
            p.seconds <= plan.seconds
                && p.error <= plan.error
                && (p.seconds < plan.seconds || p.error < plan.error)
        };
        plans.iter().any(better)
    };
    let told = |i: usize, plan: &Plan| losses[i].is_some() || taken == Some(i) || !dominated(plan);
    let rows = plans.iter().enumerate().filter(|(i, plan)| told(*i, plan)).map(|(i, plan)| TradeOff {
        layers: plan.chosen.iter().flatten().filter(|c| **c > 0).count(),
        online: transforms(plan),
        seconds: plan.seconds,
        error: plan.error,
        loss: losses[i],
        chosen: taken == Some(i),
        too_slow: too_slow(plan),
    });
    let trade_offs = rows.collect();
    Ok(Chosen { plan: taken.map(|i| plans.swap_remove(i)), trade_offs, time })
}

/// The transforms of a plan while the model runs: layers of a group that have the same candidate share theirs.
fn transforms(plan: &Plan) -> usize {
    let of_group = |(chosen, seconds): (&Vec<usize>, &Vec<f64>)| {
        let online = chosen.iter().zip(seconds).filter(|(_, s)| **s > 0.0).map(|(c, _)| c);
        online.collect::<BTreeSet<_>>().len()
    };
    plan.chosen.iter().zip(&plan.online).map(of_group).sum()
}

/// The errors, with a layer undesirable that lacks a kind it could have.
fn preferring(proposals: &Proposals, kind: Kind) -> Errors {
    let of_group = |candidates: &Vec<Candidate>| {
        let possible = candidates.iter().any(|c| c.kinds.contains(&kind));
        let of = |c: &Candidate| {
            let extra = if possible && !c.kinds.contains(&kind) { UNWANTED } else { 0.0 };
            c.errors.iter().map(|e| e + extra).collect()
        };
        candidates.iter().map(of).collect()
    };
    proposals.candidates.iter().map(of_group).collect()
}

/// The most weight that an error has against the time of the model as it is.
const MOST: f64 = 1e6;

/// The weights of the error against the time of the model as it is: a grid from where no error matters to where no time does.
fn weights() -> Vec<f64> {
    (-4..=12).map(|half| 10f64.powf(f64::from(half) / 2.0)).collect()
}
