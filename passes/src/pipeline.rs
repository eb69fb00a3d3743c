//! Textual pipelines: `canonicalize,fold-batch-norm,quantize{weights=int8:channel activations=int8:tensor}`. Options stand in braces,
//! separated by blanks, as in `mlir-opt`; a value in double quotes may hold blanks, braces and commas.

use std::collections::BTreeMap;

use qcc_ir::Module;

use crate::context::Context;
use crate::instrument::Instrumentation;
use crate::pass::{Options, Outcome, Pass, PassError, Preservation};
use crate::registry::Registry;

/// Passes in order.
pub struct Pipeline {
    passes: Vec<(String, Box<dyn Pass>)>,
}

/// One pass of a pipeline's text: name and options.
type Step = (String, BTreeMap<String, String>);

impl Pipeline {
    /// Parses a pipeline and makes its passes.
    ///
    /// # Errors
    /// When the text does not parse, or a pass or option is unknown.
    pub fn parse(text: &str, registry: &Registry) -> Result<Pipeline, PassError> {
        let passes = split(text)?
            .into_iter()
            .map(|(name, options)| {
                let pass = registry.make(&name, Options::new(options))?;
                Ok((name, pass))
            })
            .collect::<Result<_, PassError>>()?;
        Ok(Pipeline { passes })
    }

    /// The options of the first pass of this name.
    ///
    /// # Errors
    /// When the text does not parse or there is no such pass.
    pub fn options_of(text: &str, name: &str) -> Result<Options, PassError> {
        let found = split(text)?.into_iter().find(|(n, _)| n == name);
        found.map(|(_, options)| Options::new(options)).ok_or_else(|| PassError::Syntax {
            text: text.into(),
            column: 1,
            message: format!("`{name}` must be among the passes"),
        })
    }

    /// The options of the one pass of a pipeline's text.
    ///
    /// # Errors
    /// When the text does not parse or is of several passes.
    pub fn options(text: &str) -> Result<Options, PassError> {
        match split(text)?.as_mut_slice() {
            [(_, options)] => Ok(Options::new(std::mem::take(options))),
            _ => {
                Err(PassError::Syntax { text: text.into(), column: 1, message: "one pass is wanted".into() })
            }
        }
    }

    /// The passes up to this one, it included, and those behind it; all, and none, where it is not among them.
    pub fn split_behind(self, name: &str) -> (Pipeline, Pipeline) {
        let mut first = self.passes;
        let at = first.iter().position(|(n, _)| n == name).map_or(first.len(), |at| at + 1);
        let rest = first.split_off(at);
        (Pipeline { passes: first }, Pipeline { passes: rest })
    }

    /// The passes that keep the function, up to the first that approximates it, and those from there on.
    pub fn split_at_rounding(self) -> (Pipeline, Pipeline) {
        let mut exact = self.passes;
        let exactly = |(_, pass): &(String, Box<dyn Pass>)| pass.preservation() != Preservation::Approximate;
        let at = exact.iter().take_while(|pass| exactly(pass)).count();
        let rest = exact.split_off(at);
        (Pipeline { passes: exact }, Pipeline { passes: rest })
    }

    /// Names of the passes, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.passes.iter().map(|(name, _)| name.as_str())
    }

    /// Runs the passes in order.
    ///
    /// # Errors
    /// When a pass fails, or breaks what it promises under `verify_each`.
    pub fn run(
        &self,
        module: &mut Module,
        context: &mut Context<'_>,
        instrumentation: &mut Instrumentation<'_>,
    ) -> Result<Vec<(String, Outcome)>, PassError> {
        let mut outcomes = Vec::new();
        for (name, pass) in &self.passes {
            let outcome = instrumentation.around(name, pass.as_ref(), module, context)?;
            outcomes.push((name.clone(), outcome));
        }
        Ok(outcomes)
    }
}

fn split(text: &str) -> Result<Vec<Step>, PassError> {
    let syntax = |column: usize, message: &str| PassError::Syntax {
        text: text.to_string(),
        column: column + 1,
        message: message.to_string(),
    };
    let mut steps = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let end = rest.find([',', '{']).unwrap_or(rest.len());
        let name = rest[..end].trim();
        if name.is_empty() {
            return Err(syntax(at, "a pass name is missing"));
        }
        let mut options = BTreeMap::new();
        at += end;
        if text[at..].starts_with('{') {
            let open = at;
            at += 1;
            loop {
                at += text[at..].len() - text[at..].trim_start().len();
                let rest = &text[at..];
                if rest.starts_with('}') {
                    at += 1;
                    break;
                }
                let end = rest.find(|c: char| c == '=' || c == '}' || c.is_whitespace());
                let (key, value) = match end {
                    None => return Err(syntax(open, "`{` is not closed")),
                    Some(end) if rest[end..].starts_with('=') => (&rest[..end], &rest[end + 1..]),
                    Some(_) => return Err(syntax(open, "an option is `name=value`")),
                };
                let start = at + key.len() + 1;
                let value = match value.strip_prefix('"') {
                    Some(quoted) => {
                        let close = quoted.find('"').ok_or_else(|| syntax(start, "`\"` is not closed"))?;
                        at = start + close + 2;
                        &quoted[..close]
                    }
                    None => {
                        let end = value.find(|c: char| c == '}' || c.is_whitespace());
                        let end = end.ok_or_else(|| syntax(open, "`{` is not closed"))?;
                        at = start + end;
                        &value[..end]
                    }
                };
                if options.insert(key.to_string(), value.to_string()).is_some() {
                    return Err(syntax(open, &format!("the option `{key}` stands twice")));
                }
            }
        }
        steps.push((name.to_string(), options));
        let blank = text[at..].len() - text[at..].trim_start().len();
        at += blank;
        if at < text.len() {
            if !text[at..].starts_with(',') {
                return Err(syntax(at, "expected `,` between passes"));
            }
            at += 1;
            if text[at..].trim().is_empty() {
                return Err(syntax(at, "a pass name is missing"));
            }
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_passes_and_options() {
        let steps =
            split("canonicalize, quantize{weights=int4:block=32 activations=int8:token} ,x").expect("valid");
        assert_eq!(steps.iter().map(|s| s.0.as_str()).collect::<Vec<_>>(), ["canonicalize", "quantize", "x"]);
        assert_eq!(steps[1].1["weights"], "int4:block=32");
        let steps = split("a{x=\"b{c=d e=f},g\" y=1},h").expect("valid");
        assert_eq!((&*steps[0].1["x"], &*steps[0].1["y"], &*steps[1].0), ("b{c=d e=f},g", "1", "h"));
    }

    #[test]
    fn refuses_bad_text_with_the_column() {
        for (text, column) in
            [("a,,b", 3), ("a{x=1", 2), ("a b{x}", 4), ("a,", 3), ("a{x=1 x=2}", 2), ("a{}b", 4)]
        {
            match split(text) {
                Err(PassError::Syntax { column: c, .. }) => assert_eq!(c, column, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
