//! What must hold of a program before anything is done with it: every index in range, every symbol bound by an input, sizes well formed,
//! and states that entry points share declared alike. Later stages index without checks of their own.

use std::collections::HashSet;

use crate::program::{Arg, Blocks, Entry, Expr, Port, Program, SCHEMA, Slot, Step};
use crate::{Element, RuntimeError};

/// Highest rank of a tensor at the border of an entry point.
const MAX_RANK: usize = 16;

impl Program {
    /// Checks the program; see the module's description.
    ///
    /// # Errors
    /// [`RuntimeError::Program`], naming the place.
    pub fn validate(&self) -> Result<(), RuntimeError> {
        let fail = |message: String| Err(RuntimeError::Program(message));
        if self.schema != SCHEMA {
            return fail(format!("its version is {}, this runtime reads {SCHEMA}", self.schema));
        }
        unique("symbol", self.symbols.iter())?;
        unique("parameter", self.parameters.iter().map(|p| &p.name))?;
        unique("entry point", self.entries.iter().map(|e| &e.name))?;
        let mut states: Vec<&Port> = Vec::new();
        for entry in &self.entries {
            self.validate_entry(entry).map_err(|message| {
                RuntimeError::Program(format!("entry point `{}`: {message}", entry.name))
            })?;
            for state in &entry.states {
                match states.iter().find(|s| s.name == state.name) {
                    None => states.push(state),
                    Some(other) if *other == state && grows_alike(&self.entries, entry, state) => {}
                    Some(_) => {
                        return fail(format!("entry points declare the state `{}` differently", state.name));
                    }
                }
            }
        }
        Ok(())
    }

    fn validate_entry(&self, entry: &Entry) -> Result<(), String> {
        if entry.name.contains('\0') {
            return Err("its name holds a zero byte".into());
        }
        let mut bound: HashSet<u32> = HashSet::new();
        for port in &entry.inputs {
            for dim in &port.dims {
                match dim {
                    Expr::Const(_) => {}
                    Expr::Symbol(s) if (*s as usize) < self.symbols.len() => {
                        bound.insert(*s);
                    }
                    _ => {
                        return Err(format!(
                            "input `{}`: a dimension is neither constant nor a known symbol",
                            port.name
                        ));
                    }
                }
            }
        }
        // What is held changes with each call: buffers and work do not depend on it.
        let held = self.validate_growth(entry, &mut bound)?;
        let with_held: HashSet<u32> = bound.iter().copied().chain(held).collect();
        for (what, ports, bound) in [
            ("input", &entry.inputs, &bound),
            ("output", &entry.outputs, &bound),
            ("state", &entry.states, &with_held),
        ] {
            let mut names = HashSet::new();
            for port in ports {
                let fail = |message: String| Err(format!("{what} `{}`: {message}", port.name));
                if !names.insert(&port.name) {
                    return fail("declared twice".into());
                }
                if port.name.contains('\0') {
                    return fail("its name holds a zero byte".into());
                }
                if Element::named(&port.element).is_none() {
                    return fail(format!("unknown element type `{}`", port.element));
                }
                if port.dims.len() > MAX_RANK {
                    return fail(format!("rank {} is above {MAX_RANK}", port.dims.len()));
                }
                for dim in &port.dims {
                    self.validate_size(dim, bound).or_else(fail)?;
                }
            }
        }
        for limit in &entry.limits {
            for size in [&limit.size, &limit.most] {
                self.validate_size(size, &bound)
                    .map_err(|message| format!("limit of `{}`: {message}", limit.name))?;
            }
        }
        for (i, slot) in entry.slots.iter().enumerate() {
            self.validate_size(&slot.bytes, &bound).map_err(|message| format!("slot {i}: {message}"))?;
            if slot.first > slot.last || slot.last as usize >= entry.steps.len().max(1) {
                let (first, last, steps) = (slot.first, slot.last, entry.steps.len());
                return Err(format!("slot {i}: in use from step {first} to step {last} of {steps}"));
            }
        }
        // The first and the last of those that a step may run together with.
        let mut group = (0, 0);
        for (i, step) in entry.steps.iter().enumerate() {
            if i == 0 || !step.beside {
                let more = entry.steps[i + 1..].iter().take_while(|step| step.beside).count();
                group = (i, i + more);
            }
            self.validate_step(entry, (group, step), &bound, &with_held)
                .map_err(|message| format!("step {i} (`{}`): {message}", step.name))?;
        }
        Ok(())
    }

    /// Checks how states grow, and binds the room they have; the symbol of what they hold.
    fn validate_growth(&self, entry: &Entry, bound: &mut HashSet<u32>) -> Result<Option<u32>, String> {
        let Some(growth) = &entry.growth else { return Ok(None) };
        let (held, capacity) = (growth.held, growth.capacity);
        let known = |symbol: u32| (symbol as usize) < self.symbols.len();
        if !known(held) || !known(capacity) || held == capacity {
            return Err("its states grow by unknown symbols".into());
        }
        if bound.contains(&held) || bound.contains(&capacity) {
            return Err("an input binds how its states grow".into());
        }
        self.validate_size(&growth.added, bound)?;
        if growth.step == 0 {
            return Err("its states have room for multiples of 0 tokens".into());
        }
        let mut seen = HashSet::new();
        for blocks in &growth.states {
            let Some(port) = entry.states.get(blocks.state as usize).filter(|_| seen.insert(blocks.state))
            else {
                return Err(format!("state {} of {} grows", blocks.state, entry.states.len()));
            };
            if port.dims.len() != 4 || port.dims[1] != Expr::Symbol(held) {
                return Err(format!("state `{}` grows along no axis of it", port.name));
            }
            if blocks.tokens == 0 || !growth.step.is_multiple_of(blocks.tokens) {
                return Err(format!("state `{}` grows by parts of blocks", port.name));
            }
            let (Expr::Const(features), Some(element)) = (&port.dims[3], Element::named(&port.element))
            else {
                return Err(format!("state `{}` has no constant number of features", port.name));
            };
            let bytes = features.checked_mul(element.bytes()).and_then(|n| n.checked_mul(blocks.tokens));
            if !blocks.packed && bytes != Some(blocks.bytes) {
                return Err(format!("state `{}` has blocks of {} bytes", port.name, blocks.bytes));
            }
            for axis in [0, 2] {
                self.validate_size(&port.dims[axis], bound)?;
            }
            self.validate_size(&blocks.rows, bound)?;
        }
        for (i, port) in entry.states.iter().enumerate() {
            let mut grows = false;
            for dim in &port.dims {
                dim.visit(&mut |inner| grows |= *inner == Expr::Symbol(held));
            }
            if grows && !seen.contains(&(i as u32)) {
                return Err(format!("state `{}` holds tokens, and does not grow", port.name));
            }
        }
        bound.insert(capacity);
        Ok(Some(held))
    }

    fn validate_step(
        &self,
        entry: &Entry,
        (group, step): ((usize, usize), &Step),
        bound: &HashSet<u32>,
        with_held: &HashSet<u32>,
    ) -> Result<(), String> {
        let within = |what: &str, index: u32, count: usize| match (index as usize) < count {
            true => Ok(()),
            false => Err(format!("{what} {index} of {count}")),
        };
        within("kernel", step.kernel, self.kernels.len())?;
        if step.grain == 0 {
            return Err("its grain is 0".into());
        }
        self.validate_size(&step.items, bound)?;
        self.validate_size(&step.scratch, bound)?;
        for arg in &step.args {
            match arg {
                Arg::Slot { index, offset } => {
                    within("slot", *index, entry.slots.len())?;
                    let Slot { first, last, .. } = entry.slots[*index as usize];
                    if first as usize > group.0 || (last as usize) < group.1 {
                        return Err(format!(
                            "slot {index}, which is in use from step {first} to step {last} only"
                        ));
                    }
                    self.validate_size(offset, bound)?;
                }
                Arg::Parameter { index, offset } => {
                    within("parameter", *index, self.parameters.len())?;
                    let parameter = &self.parameters[*index as usize];
                    if *offset > parameter.bytes {
                        return Err(format!(
                            "byte {offset} of parameter `{}`, which has {}",
                            parameter.name, parameter.bytes
                        ));
                    }
                }
                Arg::Input(index) => within("input", *index, entry.inputs.len())?,
                Arg::Output(index) => within("output", *index, entry.outputs.len())?,
                Arg::State(index) => within("state", *index, entry.states.len())?,
                Arg::Value(value) => self.validate_size(value, with_held)?,
                Arg::Fault => {}
            }
        }
        Ok(())
    }

    fn validate_size(&self, expr: &Expr, bound: &HashSet<u32>) -> Result<(), String> {
        let mut problem = None;
        let shallow = expr.visit(&mut |inner| match inner {
            Expr::Symbol(s) if !bound.contains(s) => {
                let name = self.symbols.get(*s as usize).map_or("?", String::as_str);
                problem = Some(format!("no input binds symbol {s} (`{name}`)"));
            }
            Expr::CeilDiv(_, 0) | Expr::FloorDiv(_, 0) => problem = Some("a size is divided by 0".into()),
            _ => {}
        });
        match problem {
            Some(problem) => Err(problem),
            None if !shallow => Err("a size expression is nested too deeply".into()),
            None => Ok(()),
        }
    }
}

/// Whether a state grows as the first entry point that has it says.
fn grows_alike(entries: &[Entry], entry: &Entry, state: &Port) -> bool {
    let first = entries.iter().find(|e| e.states.iter().any(|s| s.name == state.name));
    match (first.and_then(|e| e.blocks(state)), entry.blocks(state)) {
        (None, None) => true,
        (Some(a), Some(b)) => Blocks::agrees(a, b),
        _ => false,
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<(), RuntimeError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(RuntimeError::Program(format!("two {what}s are named `{name}`")));
        }
    }
    Ok(())
}
