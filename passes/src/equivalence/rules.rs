//! Rules as data: reads a rule file, checks every name in it, and fires rules on the e-graph.
//!
//! A file holds `define (NAME ?a …) TERM`, an abbreviation, and `rule NAME LEFT => RIGHT and LEFT => RIGHT … if (GUARD …) …`. Terms are
//! those of the [language](super::language); `;` starts a comment. `introduce` instead of `rule` names a transform: its right side has
//! variables that the left side does not bind, and it fires only where a proposal (`transform`) binds them.

use std::collections::HashMap;
use std::sync::Arc;

use egg::{Applier, ENodeOrVar, Id, Language, Pattern, PatternAst, RecExpr, Rewrite, Subst, Symbol, Var};
use qcc_ir::OpSpec;
use smallvec::SmallVec;

use super::facts::{Facts, Graph, Typing, canonical, facts, source};
use super::guard::{GUARDS, Guard};
use super::heads;
use super::language::{Term, has_attributes};
use super::text::{Tree, read};

/// A rewrite rule: what matches `left` equals `right`, where the guards hold.
#[derive(Debug)]
pub struct Rule {
    /// Its name, for reports and errors.
    pub name: String,
    /// The left side.
    pub left: PatternAst<Term>,
    /// The right side.
    pub right: PatternAst<Term>,
    /// Further equations that then hold, of terms that are in the graph: other results of the same operation.
    pub also: Vec<(PatternAst<Term>, PatternAst<Term>)>,
    /// Variables that only the right side has; such a rule fires where they are bound by hand.
    pub free: Vec<Var>,
    guards: Vec<Condition>,
}

struct Condition {
    guard: &'static Guard,
    operands: Vec<PatternAst<Term>>,
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.guard.name)
    }
}

/// The rule files of this build.
pub const BUILTIN: [(&str, &str); 8] = [
    ("activation.rules", include_str!("rules/activation.rules")),
    ("batch_norm.rules", include_str!("rules/batch_norm.rules")),
    ("norm.rules", include_str!("rules/norm.rules")),
    ("rotate.rules", include_str!("rules/rotate.rules")),
    ("scale.rules", include_str!("rules/scale.rules")),
    ("shift.rules", include_str!("rules/shift.rules")),
    ("permute.rules", include_str!("rules/permute.rules")),
    ("state.rules", include_str!("rules/state.rules")),
];

/// Why a rule file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct RuleError {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, and what to write.
    pub message: String,
}

/// The rules of a file.
///
/// # Errors
/// The first thing wrong, with its line.
pub fn parse(file: &str, text: &str) -> Result<Vec<Arc<Rule>>, RuleError> {
    let fail = |(line, message)| RuleError { file: file.to_string(), line, message };
    parse_trees(&read(text).map_err(fail)?).map_err(fail)
}

type Failure = (usize, String);

fn parse_trees(trees: &[Tree]) -> Result<Vec<Arc<Rule>>, Failure> {
    let mut definitions: HashMap<&str, (&[Tree], &Tree)> = HashMap::new();
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    let mut rest = trees.iter().peekable();
    while let Some(tree) = rest.next() {
        let line = tree.line();
        match tree.atom() {
            Some("define") => {
                let (head, body) = match (rest.next(), rest.next()) {
                    (Some(head), Some(body)) => (head, body),
                    _ => return Err((line, "write `define (NAME ?a …) TERM`".into())),
                };
                let name = head.head().ok_or((line, "write `define (NAME ?a …) TERM`".to_string()))?;
                if OpSpec::find(name).is_some()
                    || heads::find(name).is_some()
                    || heads::projection(name).is_some()
                    || definitions.insert(name, (head.operands(), body)).is_some()
                {
                    return Err((line, format!("`{name}` has a meaning already")));
                }
            }
            Some(kind @ ("rule" | "introduce")) => {
                let wanted = || (line, "write `rule NAME LEFT => RIGHT if (GUARD …) …`".to_string());
                let name = rest.next().and_then(Tree::atom).ok_or_else(wanted)?.to_string();
                let mut equations = Vec::new();
                loop {
                    let left = rest.next().ok_or_else(wanted)?;
                    rest.next().filter(|t| t.atom() == Some("=>")).ok_or_else(wanted)?;
                    let right = rest.next().ok_or_else(wanted)?;
                    equations.push((pattern(left, &definitions)?, pattern(right, &definitions)?));
                    if rest.next_if(|t| t.atom() == Some("and")).is_none() {
                        break;
                    }
                }
                let mut guards = Vec::new();
                if rest.next_if(|t| t.atom() == Some("if")).is_some() {
                    while let Some(guard) = rest.next_if(|t| t.atom().is_none()) {
                        guards.push(condition(guard, &definitions)?);
                    }
                }
                if rules.iter().any(|r| r.name == name) {
                    return Err((line, format!("there are two rules `{name}`")));
                }
                let (left, right) = equations.remove(0);
                let mut rule = Rule { name, left, right, also: equations, free: Vec::new(), guards };
                let unbound = unbound(&rule);
                match (kind, unbound.first()) {
                    ("rule", Some(v)) => {
                        return Err((
                            line,
                            format!("rule `{}`: the left side does not bind `{v}`", rule.name),
                        ));
                    }
                    ("introduce", None) => {
                        let message = format!("`{}` introduces nothing: write `rule` for it", rule.name);
                        return Err((line, message));
                    }
                    _ => rule.free = unbound,
                }
                rules.push(Arc::new(rule));
            }
            _ => return Err((line, "expected `define`, `rule` or `introduce`".into())),
        }
    }
    Ok(rules)
}

type Definitions<'a> = HashMap<&'a str, (&'a [Tree], &'a Tree)>;

fn condition(tree: &Tree, definitions: &Definitions<'_>) -> Result<Condition, Failure> {
    let name = tree.head().unwrap_or("");
    let guard = GUARDS.iter().find(|g| g.name == name).ok_or_else(|| {
        let known: Vec<_> = GUARDS.iter().map(|g| g.name).collect();
        (tree.line(), format!("there is no guard `{name}`; there are {}", known.join(", ")))
    })?;
    if guard.arity.is_some_and(|n| n != tree.operands().len()) {
        return Err((tree.line(), format!("the guard is {}", guard.doc)));
    }
    let operands = tree.operands().iter().map(|t| pattern(t, definitions)).collect::<Result<_, _>>()?;
    Ok(Condition { guard, operands })
}

/// How deep definitions may refer to each other.
const MAX_DEPTH: usize = 32;

fn pattern(tree: &Tree, definitions: &Definitions<'_>) -> Result<PatternAst<Term>, Failure> {
    let mut ast = RecExpr::default();
    build(tree, definitions, &HashMap::new(), &mut ast, 0)?;
    Ok(ast)
}

/// Adds a term to `ast`; `bound` are the operands of the definition it stands in.
fn build(
    tree: &Tree,
    definitions: &Definitions<'_>,
    bound: &HashMap<&str, Id>,
    ast: &mut PatternAst<Term>,
    depth: usize,
) -> Result<Id, Failure> {
    let line = tree.line();
    if depth > MAX_DEPTH {
        return Err((line, "terms or definitions nest too deeply".into()));
    }
    if let Some(atom) = tree.atom() {
        if let Some(id) = bound.get(atom) {
            return Ok(*id);
        }
        if atom == "none" {
            return Ok(ast.add(ENodeOrVar::ENode(Term::Absent)));
        }
        let var: Var =
            atom.parse().map_err(|_| (line, format!("`{atom}` is neither a variable `?x` nor `none`")))?;
        if !bound.is_empty() {
            return Err((line, format!("the definition does not bind `{atom}`")));
        }
        return Ok(ast.add(ENodeOrVar::Var(var)));
    }
    let name = tree.head().ok_or((line, "a term starts with its head".to_string()))?;
    let mut children: SmallVec<[Id; 6]> = SmallVec::new();
    for operand in tree.operands() {
        children.push(build(operand, definitions, bound, ast, depth + 1)?);
    }
    if let Some((parameters, body)) = definitions.get(name) {
        if parameters.len() != children.len() {
            return Err((line, format!("`{name}` is defined with {} operands", parameters.len())));
        }
        let bound = parameters.iter().filter_map(Tree::atom).zip(children).collect();
        return build(body, definitions, &bound, ast, depth + 1);
    }
    let head = check_head(name, children.len()).map_err(|message| (line, message))?;
    Ok(ast.add(ENodeOrVar::ENode(Term::Apply(head, children))))
}

/// The name of a head as the table has it, if it takes that many children.
fn check_head(name: &str, children: usize) -> Result<&'static str, String> {
    if let Some(head) = heads::find(name) {
        return if head.arity == children { Ok(head.name) } else { Err(format!("the head is {}", head.doc)) };
    }
    if let Some(result) = heads::projection(name) {
        let head = [heads::FIRST, heads::SECOND][result];
        return if children == 1 { Ok(head) } else { Err(format!("write ({head} OPERATION)")) };
    }
    let spec = OpSpec::find(name).ok_or_else(|| {
        let names = qcc_ir::TABLE.iter().map(|s| s.name).chain(heads::heads().map(|h| h.name));
        format!("there is no operation `{name}`{}", qcc_ir::names::near_match(name, names))
    })?;
    let variadic = spec.operands.last().is_some_and(|(_, a)| *a == qcc_ir::Arity::Variadic);
    let wanted = spec.operands.len() + usize::from(has_attributes(spec));
    if children == wanted || variadic {
        return Ok(spec.name);
    }
    let mut shape: Vec<&str> = if has_attributes(spec) { vec!["attributes"] } else { vec![] };
    shape.extend(spec.operands.iter().map(|(n, _)| *n));
    Err(format!("write ({name} {}), absent operands as `none`", shape.join(" ")))
}

fn variables(ast: &PatternAst<Term>) -> Vec<Var> {
    ast.as_ref().iter().filter_map(|n| if let ENodeOrVar::Var(v) = n { Some(*v) } else { None }).collect()
}

/// Variables that the left side does not bind, each once.
fn unbound(rule: &Rule) -> Vec<Var> {
    let bound = variables(&rule.left);
    let guards = rule.guards.iter().flat_map(|g| &g.operands);
    let also = rule.also.iter().flat_map(|(left, right)| [left, right]);
    let mut unbound: Vec<Var> = Vec::new();
    for v in guards.chain(also).chain([&rule.right]).flat_map(variables) {
        if !bound.contains(&v) && !unbound.contains(&v) {
            unbound.push(v);
        }
    }
    unbound
}

/// The rules for egg, but for those that introduce something.
pub fn rewrites(rules: &[Arc<Rule>]) -> Vec<Rewrite<Term, Typing>> {
    let rewrite = |rule: &Arc<Rule>| {
        Rewrite::new(rule.name.as_str(), Pattern::new(rule.left.clone()), Fire(rule.clone()))
            .expect("invariant: the left side binds every variable")
    };
    rules.iter().filter(|rule| rule.free.is_empty()).map(rewrite).collect()
}

struct Fire(Arc<Rule>);

/// The class of a pattern under a substitution, if the graph has it.
fn find(graph: &Graph, ast: &PatternAst<Term>, subst: &Subst) -> Option<Id> {
    let mut ids: Vec<Id> = Vec::with_capacity(ast.len());
    for node in ast.as_ref() {
        ids.push(match node {
            ENodeOrVar::Var(v) => graph.find(*subst.get(*v)?),
            ENodeOrVar::ENode(term) => graph.lookup(term.clone().map_children(|c| ids[usize::from(c)]))?,
        });
    }
    ids.last().copied()
}

impl Rule {
    /// Whether all guards hold.
    pub fn guards_hold(&self, graph: &Graph, subst: &Subst) -> bool {
        self.guards.iter().all(|condition| {
            let ids: Option<Vec<Id>> = condition.operands.iter().map(|o| find(graph, o, subst)).collect();
            ids.is_some_and(|ids| {
                let facts: Vec<&Facts> = ids.iter().map(|id| &graph[*id].data).collect();
                (condition.guard.holds)(&facts)
            })
        })
    }

    /// The source of the matched operation with this head: what the right side makes of it keeps its name. What the right side makes of
    /// nothing has that of the outermost matched operation with a name.
    fn matched_source(&self, graph: &Graph, subst: &Subst, head: &str) -> Option<qcc_ir::Str> {
        let mut ids: Vec<Id> = Vec::with_capacity(self.left.len());
        let mut outermost = None;
        for node in self.left.as_ref() {
            match node {
                ENodeOrVar::Var(v) => ids.push(graph.find(*subst.get(*v)?)),
                ENodeOrVar::ENode(term) => {
                    let term = term.clone().map_children(|c| ids[usize::from(c)]);
                    let class = graph.lookup(term.clone())?;
                    let term = canonical(graph, &term);
                    if term.head() == Some(head) {
                        return Some(source(graph, class, &term));
                    }
                    outermost = graph.analysis.sources.get(&term).cloned().or(outermost);
                    ids.push(class);
                }
            }
        }
        outermost
    }

    /// Adds the right side and joins it with `class`, likewise of the further equations; says what became equal to something new.
    ///
    /// # Errors
    /// When a right side is ill-typed.
    pub fn fire(&self, graph: &mut Graph, class: Id, subst: &Subst) -> Result<Vec<Id>, String> {
        let mut joined = Vec::new();
        let new = self.add(graph, &self.right, class, subst)?;
        if graph.union(class, new) {
            joined.push(new);
        }
        for (left, right) in &self.also {
            let Some(class) = find(graph, left, subst) else { continue };
            let new = self.add(graph, right, class, subst)?;
            if graph.union(class, new) {
                joined.push(new);
            }
        }
        Ok(joined)
    }

    /// As [`Rule::fire`]; returns the new term that `class` equals, an operation.
    ///
    /// # Errors
    /// When the left side is not in the class or a right side is ill-typed.
    pub fn introduce(&self, graph: &mut Graph, class: Id, subst: &Subst) -> Result<Term, String> {
        if find(graph, &self.left, subst).is_none_or(|left| graph.find(left) != graph.find(class)) {
            return Err(format!("the left side of rule `{}` is not what is there", self.name));
        }
        self.fire(graph, class, subst)?;
        let mut ids: Vec<Id> = Vec::with_capacity(self.right.len());
        let mut last = Term::Absent;
        for node in self.right.as_ref() {
            ids.push(match node {
                ENodeOrVar::Var(v) => *subst.get(*v).ok_or_else(|| format!("`{v}` is not bound"))?,
                ENodeOrVar::ENode(term) => {
                    last = term.clone().map_children(|c| graph.find(ids[usize::from(c)]));
                    graph.lookup(last.clone()).ok_or("a side that was added is gone")?
                }
            });
        }
        Ok(last)
    }

    /// Adds a right side for a class; the error says why it is ill-typed.
    fn add(
        &self,
        graph: &mut Graph,
        right: &PatternAst<Term>,
        class: Id,
        subst: &Subst,
    ) -> Result<Id, String> {
        let mut ids: Vec<Id> = Vec::with_capacity(right.len());
        for node in right.as_ref() {
            let id = match node {
                ENodeOrVar::Var(v) => *subst.get(*v).ok_or_else(|| format!("`{v}` is not bound"))?,
                ENodeOrVar::ENode(term) => {
                    let term = term.clone().map_children(|c| graph.find(ids[usize::from(c)]));
                    let facts = facts(graph, &term)?;
                    if !facts.is_free()
                        && let Some(name) = term.head().and_then(|h| self.matched_source(graph, subst, h))
                    {
                        graph.analysis.sources.entry(term.clone()).or_insert(name);
                    }
                    graph.add(term)
                }
            };
            ids.push(id);
        }
        let new = *ids.last().ok_or("the right side is empty")?;
        match (graph[class].data.tensor(), graph[new].data.tensor()) {
            (Some(a), Some(b)) if a.ty == b.ty => Ok(new),
            (Some(a), Some(b)) => Err(format!("it makes {:?} of {:?}", b.ty, a.ty)),
            (None, None) if graph[class].data == graph[new].data => Ok(new),
            _ => Err("both sides must be of one type".into()),
        }
    }
}

impl Applier<Term, Typing> for Fire {
    fn apply_one(
        &self,
        graph: &mut Graph,
        class: Id,
        subst: &Subst,
        _: Option<&PatternAst<Term>>,
        _: Symbol,
    ) -> Vec<Id> {
        let rule = &self.0;
        if !rule.guards_hold(graph, subst) {
            return Vec::new();
        }
        match rule.fire(graph, class, subst) {
            Ok(joined) => return joined,
            Err(message) => {
                let name = graph[class].data.tensor().map_or_else(|| "".into(), |t| t.name.clone());
                graph.analysis.errors.push(format!("rule `{}` at `{name}`: {message}", rule.name));
            }
        }
        Vec::new()
    }
}
