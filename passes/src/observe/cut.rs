//! Parts of functions.

use std::collections::{HashMap, HashSet};

use qcc_ir::{Dim, ElementType, Function, Op, OpId, ValueId};

/// What computes `results`, with `inputs` as its arguments, in order; everything else must come from weights and constants.
///
/// # Errors
/// When the part needs another argument.
pub fn cut(function: &Function, results: &[ValueId], inputs: &[ValueId]) -> Result<Function, String> {
    let mut part = Function::new("part");
    let mut new: HashMap<ValueId, ValueId> = HashMap::new();
    let mut names: HashSet<String> = HashSet::new();
    for (i, &input) in inputs.iter().enumerate() {
        // Values of one operation, or of several at one place, have one name.
        let mut name = function.value(input).name.to_string();
        if !names.insert(name.clone()) {
            name = format!("{name}#{i}");
        }
        new.insert(input, part.add_argument(&name, function.ty(input).clone()));
    }
    let mut open: Vec<ValueId> = results.to_vec();
    while let Some(&value) = open.last() {
        if new.contains_key(&value) {
            open.pop();
            continue;
        }
        let Some((_, node)) = function.defining(value) else {
            return Err(format!("a part of the function needs `{}`", function.value(value).name));
        };
        let missing: Vec<ValueId> =
            node.operands.iter().flatten().copied().filter(|v| !new.contains_key(v)).collect();
        if !missing.is_empty() {
            open.extend(missing);
            continue;
        }
        if let Op::Parameter { name } = &node.op {
            new.insert(value, part.add_parameter(name, function.ty(value).clone()));
            continue;
        }
        let operands: Vec<Option<ValueId>> = node.operands.iter().map(|v| v.map(|v| new[&v])).collect();
        let made = match &node.op {
            Op::Constant { value } => {
                [part.add_constant(value.clone(), &node.location)].into_iter().collect()
            }
            op => part.add(op.clone(), operands, &node.location).map_err(|e| e.to_string())?,
        };
        new.extend(node.results.iter().copied().zip(made));
    }
    for (i, result) in results.iter().enumerate() {
        part.add_result(&format!("result.{i}"), new[result]);
    }
    Ok(part)
}

/// The operations that compute some values from arguments and what is `held`.
pub(super) fn operations(function: &Function, held: &HashSet<ValueId>, values: &[ValueId]) -> HashSet<OpId> {
    let mut all = HashSet::new();
    let mut open = values.to_vec();
    while let Some(value) = open.pop() {
        if let Some((id, node)) = function.defining(value)
            && !held.contains(&value)
            && all.insert(id)
        {
            open.extend(node.operands.iter().flatten());
        }
    }
    all
}

/// What `later` values are computed from of what is held or computed by `done` operations, so that none of these is needed again. Floats of
/// plain sizes alone are kept: other values are computed anew from such.
pub(super) fn live(
    function: &Function,
    held: &HashSet<ValueId>,
    done: &HashSet<OpId>,
    later: &[ValueId],
) -> Vec<ValueId> {
    let computed = computed(function);
    let (mut live, mut seen, mut open) = (Vec::new(), HashSet::new(), later.to_vec());
    while let Some(value) = open.pop() {
        let Some((id, node)) = function.defining(value).filter(|_| computed.contains(&value)) else {
            continue;
        };
        if !seen.insert(value) {
            continue;
        }
        if held.contains(&value) || (done.contains(&id) && is_plain(function, value)) {
            live.push(value);
        } else {
            open.extend(node.operands.iter().flatten());
        }
    }
    live.sort_by_key(|value| value.index());
    live
}

/// The values that depend on an argument; operations need not be in order yet.
fn computed(function: &Function) -> HashSet<ValueId> {
    let uses = function.uses();
    let mut computed: HashSet<ValueId> = function.arguments().iter().copied().collect();
    let mut open: Vec<ValueId> = computed.iter().copied().collect();
    while let Some(value) = open.pop() {
        for (user, _) in uses.get(&value).into_iter().flatten() {
            open.extend(function.node(*user).results.iter().filter(|v| computed.insert(**v)));
        }
    }
    computed
}

/// Whether a value can be the argument of a part: what runs parts binds symbols from sizes that are one symbol.
fn is_plain(function: &Function, value: ValueId) -> bool {
    let ty = function.ty(value);
    let plain = |dim: &Dim| dim.constant().is_some() || dim.as_symbol().is_some();
    matches!(ty.element, ElementType::F32 | ElementType::F16 | ElementType::BF16) && ty.dims.iter().all(plain)
}

/// Bytes of the weights that an operation reads, in f32.
fn weight_bytes(function: &Function, id: OpId, seen: &mut HashSet<ValueId>) -> u64 {
    let Op::Parameter { .. } = function.node(id).op else { return 0 };
    let value = function.node(id).results[0];
    if !seen.insert(value) {
        return 0;
    }
    let elements =
        function.ty(value).elements().and_then(|n| n.constant()).and_then(|n| u64::try_from(n).ok());
    elements.unwrap_or(0).saturating_mul(4)
}

/// Parts for values: which of them are computed together, so that each part holds weights of at most `most` bytes where one value alone does
/// not take more.
pub(super) fn parts(function: &Function, values: &[ValueId], most: u64) -> Vec<Vec<usize>> {
    let place: HashMap<ValueId, usize> = function
        .order()
        .iter()
        .enumerate()
        .flat_map(|(at, id)| function.node(*id).results.iter().map(move |v| (*v, at + 1)))
        .collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|i| place.get(&values[*i]).copied().unwrap_or(0));
    let (mut parts, mut part, mut bytes): (Vec<Vec<usize>>, Vec<usize>, u64) = (Vec::new(), Vec::new(), 0);
    let mut done: HashSet<OpId> = HashSet::new();
    let mut weights = HashSet::new();
    for i in order {
        let mut more: Vec<OpId> = Vec::new();
        let mut open = vec![values[i]];
        while let Some(value) = open.pop() {
            if let Some((id, node)) = function.defining(value)
                && done.insert(id)
            {
                more.push(id);
                open.extend(node.operands.iter().flatten());
            }
        }
        let added: u64 = more.into_iter().map(|id| weight_bytes(function, id, &mut weights)).sum();
        if !part.is_empty() && bytes.saturating_add(added) > most {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        part.push(i);
        bytes = bytes.saturating_add(added);
    }
    parts.extend(Some(part).filter(|part| !part.is_empty()));
    parts
}
