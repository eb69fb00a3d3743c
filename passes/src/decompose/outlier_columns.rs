//! `outlier-columns`: the few features with the largest activations are multiplied by their columns of the weight in floats, and the layer
//! sees zeros in their place, so that the range of its input is that of the other features (LLM.int8(), arXiv 2208.07339):
//! `linear(x, w) = linear(gather(x, features), gather(w, features)) + linear(x · mask, w · mask)`.

use qcc_ir::{Dense, Function, Module, Op, Patch};

use super::branch::Branch;
use super::low_rank::{add_rest, input, weight_name, whole_layers};
use crate::context::Context;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};
use crate::transform::Explanation;
use crate::transform::explanation::{LayerChoice, Refusal};
use crate::transform::observe::rows;
use crate::transform::site::{Layer, groups};
use crate::weights::{computed, constant, value};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "takes the features with the largest activations out of linear layers, into small ones that keep floats",
    options: &[
        ("columns", "how many features of each input; omitted: those that stand out"),
        (
            "share",
            "of the features that may stand out, at most (default 0.01), rounded up to a multiple of 8",
        ),
    ],
    make: |options| Ok(Box::new(OutlierColumns::new(options)?)),
};

const NAME: &str = "outlier-columns";
/// Features are taken in runs that kernels work on whole.
const STEP: usize = 8;
/// A feature stands out when its largest magnitude is so many times the median one.
const OUTLYING: f32 = 4.0;

/// How many features are taken.
enum OutlierColumns {
    Columns(usize),
    Share(f64),
}

impl OutlierColumns {
    fn new(options: &mut Options) -> Result<OutlierColumns, String> {
        let (columns, share) = (options.take::<usize>("columns")?, options.take::<f64>("share")?);
        match (columns, share) {
            (Some(_), Some(_)) => Err("`columns` and `share` exclude each other".into()),
            (Some(0), _) => Err("`columns=0` takes nothing; use at least 1".into()),
            (Some(columns), None) => Ok(OutlierColumns::Columns(columns)),
            (None, Some(share)) if !(share > 0.0 && share < 1.0) => {
                Err(format!("`share={share}` must lie between 0 and 1"))
            }
            (None, share) => Ok(OutlierColumns::Share(share.unwrap_or(0.01))),
        }
    }

    /// The features to take, ascending, given the largest magnitude of each.
    fn features(&self, largest: &[f32]) -> Result<Vec<usize>, &'static str> {
        let width = largest.len();
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|a, b| largest[*b].total_cmp(&largest[*a]).then(a.cmp(b)));
        let count = match self {
            OutlierColumns::Columns(columns) => *columns,
            OutlierColumns::Share(share) => {
                let median = order.get(width / 2).map_or(0.0, |i| largest[*i]);
                let most = (width as f64 * share).ceil() as usize;
                let outlying = order.iter().filter(|i| largest[**i] > OUTLYING * median).count();
                outlying.min(most).next_multiple_of(STEP)
            }
        };
        if count == 0 {
            return Err("none of its features stands out");
        }
        if count >= width {
            return Err("all of its features would be taken out");
        }
        order.truncate(count);
        order.sort_unstable();
        Ok(order)
    }
}

impl Pass for OutlierColumns {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let fail = |e: String| PassError::failed(NAME, e);
        let function = module.entry().ok_or_else(|| fail("the module has no function".into()))?;
        let (mut groups, refused) = groups(function);
        let mut explanation = Explanation { pass: NAME, ..Explanation::default() };
        for refused in refused {
            context.warn(NAME, format!("`{}` stays as it is: {}", refused.layer, refused.reason));
            explanation.refused.push(Refusal::new(&refused.layer, NAME, refused.reason));
        }
        groups.retain(|group| !whole_layers(function, group).is_empty());
        let inputs: Vec<_> = groups.iter().map(|g| (g.input, g.width)).collect();
        let seen = rows(NAME, module, &inputs, context)?;
        let function = &mut module.functions[0];
        let mut columns = 0;
        for (group, rows) in groups.iter().zip(&seen) {
            let layers = whole_layers(function, group);
            let features = match self.features(&rows.largest) {
                Ok(features) => features,
                Err(reason) => {
                    explanation.refused.extend(layers.iter().map(|l| Refusal::new(&l.name, NAME, reason)));
                    continue;
                }
            };
            take_out(function, &layers, &features, group.width, context)
                .map_err(|e| PassError::at(NAME, &group.name(), e))?;
            explanation.layers.extend(layers.iter().map(|l| LayerChoice::done(&l.name, NAME)));
            columns += features.len();
        }
        let mut outcome = Outcome::of([("layers", explanation.layers.len())]);
        outcome.measures.extend([("columns", columns), ("left", explanation.refused.len())]);
        context.explanations.push(explanation);
        Ok(outcome)
    }
}

/// Takes features out of the layers of a group.
fn take_out(
    function: &mut Function,
    layers: &[Layer],
    features: &[usize],
    width: usize,
    context: &mut Context<'_>,
) -> Result<(), String> {
    let fail = |e: qcc_ir::InferError| e.to_string();
    let (x, name) = (input(function, layers)?, &layers[0].name);
    let mut patch = Patch::new();
    let indices: Vec<i64> = features.iter().map(|f| *f as i64).collect();
    let indices = Dense::i64(&[indices.len() as i64], &indices);
    let mut kept = vec![1f32; width];
    features.iter().for_each(|f| kept[*f] = 0.0);
    let kept = Dense::f32(&[kept.len() as i64], &kept);
    let first = weight_name(function, &layers[0])?;
    let mask = constant(&mut context.parameters, &format!("{first}.rest.mask"), kept);
    let m = value(function, &context.parameters, &mask)?;
    let i = function.add_constant(indices.clone(), name);
    let indices = constant(&mut context.parameters, &format!("{first}.outliers.features"), indices);
    let axis = function.ty(x).dims.len() as i64 - 1;
    let outliers = patch.add(function, Op::Gather { axis }, [x, i], name).map_err(fail)?;
    let others = patch.add(function, Op::Mul {}, [x, m], name).map_err(fail)?;
    for layer in layers {
        let weight = weight_name(function, layer)?;
        let parameters = &mut context.parameters;
        let columns = computed(
            parameters,
            &format!("{weight}.outliers"),
            Op::Gather { axis: 1 },
            &[&weight, &indices],
        )?;
        let rest = computed(parameters, &format!("{weight}.rest"), Op::Mul {}, &[&weight, &mask])?;
        let w = value(function, &context.parameters, &columns)?;
        let branch = patch.add(function, Op::Linear {}, [outliers, w], &layer.name).map_err(fail)?;
        Branch::Outliers.mark(function, branch);
        add_rest(function, layer.op, (others, &rest), branch, context, &mut patch)?;
    }
    patch.apply(function).map_err(|e| e.to_string())?;
    Ok(())
}
