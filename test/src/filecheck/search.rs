//! The search: directives in order over a text, as LLVM's FileCheck goes about it (`llvm/lib/FileCheck`): labels first, then what stands
//! between two labels only there.

use super::Mismatch;
use super::directive::{Directive, Kind};
use super::pattern::Variables;

type Outcome<T> = Result<T, Mismatch>;

/// A directive that is neither `-NOT` nor `-DAG` (none: the end of the text), and those that stand before it.
struct Step<'d> {
    around: Vec<&'d Directive>,
    target: Option<&'d Directive>,
}

/// A text being searched.
pub(super) struct Search<'t> {
    text: &'t str,
    variables: Variables,
}

/// A run of bytes of the text.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

impl Search<'_> {
    pub fn new(text: &str) -> Search<'_> {
        Search { text, variables: Variables::new() }
    }

    pub fn run(&mut self, directives: &[Directive]) -> Outcome<()> {
        let mut rest: &[Step<'_>] = &steps(directives);
        let mut whole = Span { start: 0, end: self.text.len() };
        while !rest.is_empty() {
            let is_label = |s: &Step<'_>| s.target.is_some_and(|d| d.kind == Kind::Label);
            let (group, mut region) = match rest.iter().position(is_label) {
                None => (rest, whole),
                Some(label) => {
                    let directive = rest[label].target.expect("invariant: a label was found");
                    let end = self.first(directive, whole)?.end;
                    let region = Span { start: whole.start, end };
                    whole.start = end;
                    (&rest[..=label], region)
                }
            };
            for step in group {
                region.start = self.step(step, region)?;
            }
            rest = &rest[group.len()..];
        }
        Ok(())
    }

    /// Where the next step starts to search.
    fn step(&mut self, step: &Step<'_>, region: Span) -> Outcome<usize> {
        let (start, nots) = self.unordered(&step.around, region)?;
        let rest = Span { start, ..region };
        let (found, kind) = match step.target {
            None => (Span { start: region.end, end: region.end }, Kind::Plain(1)),
            Some(directive) => {
                let mut found = self.first(directive, rest)?;
                if let Kind::Plain(count) = directive.kind {
                    for _ in 1..count {
                        found.end = self.first(directive, Span { start: found.end, ..region })?.end;
                    }
                }
                (found, directive.kind)
            }
        };
        let skipped = Span { start, end: found.start };
        let breaks = self.text[skipped.start..skipped.end].matches('\n').count();
        let misplaced = match kind {
            Kind::Next | Kind::Empty if breaks == 0 => "is on the same line as the match before",
            Kind::Next | Kind::Empty if breaks > 1 => "is not on the line after the match before",
            Kind::Same if breaks > 0 => "is not on the line of the match before",
            _ => "",
        };
        if let (Some(directive), false) = (step.target, misplaced.is_empty()) {
            return Err(self.mismatch(directive, misplaced, start));
        }
        self.none_of(&nots, skipped)?;
        Ok(found.end)
    }

    /// Finds each group of `-DAG`s in any order, and nothing of the `-NOT`s between two groups; gives the end of the last group and the
    /// `-NOT`s after it.
    fn unordered<'d>(
        &mut self,
        around: &[&'d Directive],
        region: Span,
    ) -> Outcome<(usize, Vec<&'d Directive>)> {
        let (mut start, mut nots, mut taken) = (region.start, Vec::new(), Vec::<Span>::new());
        for (index, directive) in around.iter().enumerate() {
            if directive.kind == Kind::Not {
                nots.push(*directive);
                continue;
            }
            let mut from = start;
            let found = loop {
                let found = self.first(directive, Span { start: from, ..region })?;
                match taken.iter().find(|t| found.start < t.end && t.start < found.end) {
                    Some(overlap) => from = overlap.end,
                    None => break found,
                }
            };
            taken.push(found);
            if around.get(index + 1).is_none_or(|next| next.kind == Kind::Not) {
                let first = taken.iter().map(|t| t.start).min().expect("invariant: one was just added");
                self.none_of(&nots, Span { start, end: first })?;
                nots.clear();
                start = taken.iter().map(|t| t.end).max().expect("invariant: one was just added");
                taken.clear();
            }
        }
        Ok((start, nots))
    }

    fn none_of(&mut self, nots: &[&Directive], span: Span) -> Outcome<()> {
        for directive in nots {
            if let Some(found) = self.find(directive, span)? {
                return Err(self.mismatch(directive, "was found", found.start));
            }
        }
        Ok(())
    }

    fn first(&mut self, directive: &Directive, span: Span) -> Outcome<Span> {
        match self.find(directive, span)? {
            Some(found) => Ok(found),
            None => Err(self.mismatch(directive, "was not found", span.start)),
        }
    }

    fn find(&mut self, directive: &Directive, span: Span) -> Outcome<Option<Span>> {
        let text = &self.text[span.start..span.end];
        match directive.pattern.find(text, &mut self.variables, directive.line) {
            Ok(found) => {
                Ok(found.map(|(start, end)| Span { start: span.start + start, end: span.start + end }))
            }
            Err(message) => Err(self.mismatch(directive, &message, span.start)),
        }
    }

    fn mismatch(&self, directive: &Directive, message: &str, at: usize) -> Mismatch {
        let line = self.text[..at].matches('\n').count() + 1;
        Mismatch { line: directive.line, message: message.to_string(), input_line: Some(line) }
    }
}

fn steps(directives: &[Directive]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut around = Vec::new();
    for directive in directives {
        match directive.kind {
            Kind::Not | Kind::Dag => around.push(directive),
            _ => steps.push(Step { around: std::mem::take(&mut around), target: Some(directive) }),
        }
    }
    if !around.is_empty() {
        steps.push(Step { around, target: None });
    }
    steps
}
