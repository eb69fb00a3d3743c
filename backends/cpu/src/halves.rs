//! `keep-halves`: weights that a model has in f16 or bf16, and that nothing but widening is done to, stay in 16 bits; the kernels that read
//! them widen them. The function stays the same, bit for bit. Of models whose weights fit in a cache they do not: there reading is cheap
//! and widening is not.

use qcc_ir::{ElementType, Function, Module, Op, OpId, Patch, Str, ValueId};
use qcc_params::{Expression, Parameters, Source};
use qcc_passes::{Context, Outcome, Pass, PassError, PassInfo, Preservation};

/// How pipelines call it.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "keeps weights of linear layers and embeddings in the 16 bits that the model has them in",
    options: &[],
    make: |_| Ok(Box::new(KeepHalves)),
};

const NAME: &str = "keep-halves";

/// Bytes of weights in f32 that a cache may hold from one run to the next.
const CACHE: u64 = 32 << 20;

struct KeepHalves;

impl Pass for KeepHalves {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(0.0)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut kept = 0;
        for function in &mut module.functions {
            let halves = halves(function, &context.parameters);
            let bytes = halves.iter().filter_map(|(id, _)| bytes(function, *id)).fold(0, u64::saturating_add);
            if bytes <= CACHE {
                continue;
            }
            for (id, half) in &halves {
                keep(function, *id, half, &context.parameters)?;
            }
            kept += halves.len();
            function.sort();
            function.remove_dead();
        }
        Ok(Outcome::of([("kept", kept)]))
    }
}

/// The weights that can stay in 16 bits, and what they are widened from.
fn halves(function: &Function, parameters: &Parameters) -> Vec<(OpId, Str)> {
    let uses = function.uses();
    let reads = |(user, slot): &(OpId, usize)| match function.node(*user).op {
        Op::Linear {} => *slot == 1,
        Op::Embedding {} => *slot == 0,
        _ => false,
    };
    let half = |id: &OpId| {
        let node = function.node(*id);
        let Op::Parameter { name } = &node.op else { return None };
        let users = uses.get(&node.results[0])?;
        let fits = users.iter().all(reads) && !function.results.contains(&node.results[0]);
        Some((*id, half(name, parameters).filter(|_| fits)?))
    };
    function.order().iter().filter_map(half).collect()
}

/// Bytes of a weight.
fn bytes(function: &Function, id: OpId) -> Option<u64> {
    let ty = function.ty(function.node(id).results[0]);
    let count = ty.constant_dims()?.into_iter().try_fold(1, |n: i64, dim| n.checked_mul(dim))?;
    u64::try_from(count).ok()?.checked_mul(u64::from(ty.element.bits()) / 8)
}

/// Reads a weight as the model has it, and widens it in front of its readers.
fn keep(function: &mut Function, id: OpId, half: &Str, parameters: &Parameters) -> Result<(), PassError> {
    let node = function.node(id);
    let (y, location): (ValueId, _) = (node.results[0], node.location.clone());
    let at = |e: &dyn std::fmt::Display| PassError::at(NAME, &location, e);
    let ty = parameters.ty(half).ok_or_else(|| at(&"a weight is missing"))?.clone();
    let narrow = function.add_parameter(half, ty);
    let wide =
        function.add_one(Op::Cast { to: ElementType::F32 }, [narrow], &location).map_err(|e| at(&e))?;
    let mut patch = Patch::new();
    patch.redirect(y, wide);
    patch.apply(function).map_err(|e| at(&e))?;
    Ok(())
}

/// The weight in f16 or bf16 that this one is, widened.
fn half(name: &str, parameters: &Parameters) -> Option<Str> {
    let Source::Expression(Expression { op: Op::Cast { to: ElementType::F32 }, operands, .. }) =
        parameters.source(name)?
    else {
        return None;
    };
    let half = operands.first()?.clone()?;
    matches!(parameters.ty(&half)?.element, ElementType::F16 | ElementType::BF16).then_some(half)
}
