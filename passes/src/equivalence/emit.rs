//! From chosen e-nodes back to operations. An operation whose choice is what it was is left alone; the others are built beside it and
//! redirected to, as one patch.

use std::collections::{HashMap, HashSet};

use egg::{Id, Language};
use qcc_ir::{Function, Patch, Str, ValueId};
use smallvec::SmallVec;

use super::convert::{Converted, Origin};
use super::extract::Choice;
use super::facts::{Facts, Graph, canonical, source};
use super::heads::{Meaning, Operand, meaning};
use super::language::Term;

/// Rebuilds `function` from the choices; returns how many values were replaced.
///
/// # Errors
/// When a choice is missing or ill-typed, which a rule that broke its promises can cause.
pub fn emit(function: &mut Function, converted: &Converted, choice: &Choice) -> Result<usize, String> {
    let mut patch = Patch::new();
    let same = Instance::default();
    let mut emitter = Emitter::new(&converted.graph, &converted.origins, choice, &same, &mut patch)?;
    let mut redirects = Vec::new();
    for &root in &converted.roots {
        let new = emitter.value(function, converted.graph.find(converted.classes[&root]))?;
        let new = new.ok_or("a result has become an absent operand")?;
        if new != root {
            redirects.push((root, new));
        }
    }
    for &(old, new) in &redirects {
        patch.redirect(old, new);
    }
    patch.apply(function).map_err(|e| e.to_string())
}

type Operands = Vec<Option<ValueId>>;
/// The results of an operation; empty for what is none.
type Values = SmallVec<[ValueId; 2]>;

/// What one of several parts of a function with the same e-graph has in the place of the part that the graph was made from.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// Values; those that are not here are the same.
    pub values: HashMap<ValueId, ValueId>,
    /// Values in frames.
    pub framed: HashMap<(ValueId, u8), ValueId>,
    /// Sources.
    pub names: HashMap<Str, Str>,
}

impl Instance {
    /// This instance's value.
    pub fn value(&self, value: ValueId) -> ValueId {
        self.values.get(&value).copied().unwrap_or(value)
    }
}

/// Builds chosen e-nodes in a function.
pub struct Emitter<'a> {
    graph: &'a Graph,
    choice: &'a Choice,
    instance: &'a Instance,
    patch: &'a mut Patch,
    /// The values of each class that has been built; none for attributes and absent operands.
    made: HashMap<Id, Values>,
    origins: HashMap<Id, Vec<(Term, Values, Operands)>>,
}

fn trimmed(mut operands: Operands) -> Operands {
    while operands.last() == Some(&None) {
        operands.pop();
    }
    operands
}

impl<'a> Emitter<'a> {
    /// An emitter; operations go to the function as part of the patch.
    ///
    /// # Errors
    /// When an origin is not of this graph.
    pub fn new(
        graph: &'a Graph,
        origins: &[Origin],
        choice: &'a Choice,
        instance: &'a Instance,
        patch: &'a mut Patch,
    ) -> Result<Emitter<'a>, String> {
        let mut of_class: HashMap<Id, Vec<(Term, Values, Operands)>> = HashMap::new();
        for origin in origins {
            let term = canonical(graph, &origin.term);
            let class =
                graph.lookup(term.clone()).ok_or("an operation of the function is not in the graph")?;
            let results = origin.results.iter().map(|v| instance.value(*v)).collect();
            let operands = origin.operands.iter().map(|o| o.map(|v| instance.value(v))).collect();
            of_class.entry(class).or_default().push((term, results, trimmed(operands)));
        }
        Ok(Emitter { graph, choice, instance, patch, made: HashMap::new(), origins: of_class })
    }

    /// The value of a class; `None` for attributes and absent operands.
    ///
    /// # Errors
    /// When a choice is missing or ill-typed.
    pub fn value(&mut self, function: &mut Function, root: Id) -> Result<Option<ValueId>, String> {
        let mut entered = HashSet::new();
        let mut stack = vec![root];
        while let Some(&class) = stack.last() {
            if self.made.contains_key(&class) {
                stack.pop();
                continue;
            }
            let term = self.choice.get(&class).ok_or("a class has no choice")?;
            let missing: Vec<Id> = term
                .children()
                .iter()
                .map(|c| self.graph.find(*c))
                .filter(|c| !self.made.contains_key(c))
                .collect();
            if missing.is_empty() {
                let value = self.build(function, class, term)?;
                self.made.insert(class, value);
                stack.pop();
            } else if entered.insert(class) {
                stack.extend(missing);
            } else {
                return Err(format!("the choices for `{term}` form a cycle"));
            }
        }
        Ok(self.made[&root].first().copied())
    }

    fn build(&mut self, function: &mut Function, class: Id, term: &Term) -> Result<Values, String> {
        let (head, children) = match term {
            Term::Value(v) => return Ok([self.instance.value(*v)].into_iter().collect()),
            Term::Framed(v, frame) => {
                let value = self.instance.framed.get(&(*v, *frame)).copied();
                let value = value.ok_or_else(|| format!("there is no `{term}`"))?;
                return Ok([value].into_iter().collect());
            }
            Term::Attributes(_) | Term::Absent => return Ok(Values::new()),
            Term::Apply(head, children) => (head, children),
        };
        let made = |c: &Id| &self.made[&self.graph.find(*c)];
        let facts: Vec<&Facts> = children.iter().map(|c| &self.graph[*c].data).collect();
        let location = source(self.graph, class, term);
        let location = self.instance.names.get(&location).unwrap_or(&location);
        match meaning(head, &facts)? {
            Meaning::Op(op, from) => {
                let operands = children[from..].iter().map(|c| made(c).first().copied()).collect();
                let operands = trimmed(operands);
                let origins = self.origins.get(&class).into_iter().flatten();
                let mut same = origins.filter(|(t, _, o)| t == term && *o == operands);
                if let Some((_, values, _)) = same.next() {
                    return Ok(values.clone());
                }
                self.patch.add_all(function, op, operands, location).map_err(|e| e.to_string())
            }
            Meaning::Projection(result) => {
                let value = made(&children[0]).get(result).copied().ok_or("an operation lacks a result")?;
                Ok([value].into_iter().collect())
            }
            Meaning::Steps(steps) => {
                let mut values: Vec<ValueId> = Vec::new();
                for step in steps.0 {
                    let mut operands: Operands = Vec::new();
                    for operand in &step.operands {
                        operands.push(match operand {
                            Operand::Child(i) => made(&children[*i]).first().copied(),
                            Operand::Step(i) => values.get(*i).copied(),
                        });
                    }
                    let added = self.patch.add(function, step.op, operands, location);
                    values.push(added.map_err(|e| e.to_string())?);
                }
                let last = values.pop().ok_or_else(|| format!("`{head}` does nothing"))?;
                Ok([last].into_iter().collect())
            }
        }
    }
}
