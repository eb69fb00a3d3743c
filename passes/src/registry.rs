//! The registry: every pass by name, and the rewrite rules that came with some. In-tree passes and [plugins](crate::plugin) use the same
//! one; a name has one meaning, so what a pipeline says does not depend on the order of plugins.

use std::sync::Arc;

use qcc_ir::names::near_match;

use crate::equivalence::passes::{FOLD_BATCH_NORM, REWRITE, applying};
use crate::equivalence::proof::prove;
use crate::equivalence::rules::{Rule, RuleError, parse};
use crate::pass::{Options, Pass, PassError, PassInfo};
use crate::{
    assign, calibrate, canonicalize, channels_last, decompose, equalize, kv_cache, plan_memory, quantize,
    split_projections, state_space, transform,
};

/// All passes this build (and its plugins) knows.
#[derive(Clone)]
pub struct Registry {
    passes: Vec<Registered>,
    rules: Vec<RuleText>,
}

/// A pass of the registry: a [`PassInfo`] whose `make` may hold what the pass is made of.
#[derive(Clone)]
pub struct Registered {
    /// Name in pipelines.
    pub name: &'static str,
    /// One sentence for `qcc passes`.
    pub summary: &'static str,
    /// Options: name and meaning.
    pub options: &'static [(&'static str, &'static str)],
    /// Makes the pass from options.
    pub make: Arc<Make>,
}

/// Makes a pass from options.
pub type Make = dyn Fn(&mut Options) -> Result<Box<dyn Pass>, String> + Send + Sync;

impl From<PassInfo> for Registered {
    fn from(info: PassInfo) -> Registered {
        let PassInfo { name, summary, options, make } = info;
        Registered { name, summary, options, make: Arc::new(make) }
    }
}

/// Rewrite rules that were registered, each proved by example. They are kept as text: a [`Rule`] has names that are interned in the library
/// that parsed it, so whoever uses rules parses them itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleText {
    /// Name of the pass that applies them.
    pub name: &'static str,
    /// The text, as in a rule file.
    pub text: &'static str,
}

impl RuleText {
    /// The rules.
    ///
    /// # Errors
    /// The first thing wrong; never for rules that were registered.
    pub fn parse(&self) -> Result<Vec<Arc<Rule>>, RuleError> {
        parse(self.name, self.text)
    }
}

impl Registry {
    /// The passes of this build.
    pub fn builtin() -> Registry {
        let mut passes = vec![
            canonicalize::INFO,
            FOLD_BATCH_NORM,
            equalize::INFO,
            REWRITE,
            split_projections::INFO,
            kv_cache::INFO,
            kv_cache::rearrange::INFO,
            kv_cache::rotate::INFO,
            transform::TRANSFORM,
        ];
        passes.extend(transform::INFOS);
        passes.extend(state_space::INFOS);
        passes.extend(decompose::INFOS);
        passes.push(calibrate::INFO);
        passes.extend(assign::INFOS);
        passes.extend([quantize::INFO, quantize::LOWER_INFO, channels_last::INFO, plan_memory::INFO]);
        Registry { passes: passes.into_iter().map(Registered::from).collect(), rules: Vec::new() }
    }

    /// Adds a pass.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn register(&mut self, pass: impl Into<Registered>) -> Result<(), PassError> {
        let pass = pass.into();
        if self.find(pass.name).is_some() {
            return Err(PassError::failed(pass.name, "a pass of this name is registered already"));
        }
        self.passes.push(pass);
        Ok(())
    }

    /// Adds rewrite rules, written as in a rule file, and a pass of this name that applies them.
    ///
    /// # Errors
    /// When the text does not parse or has no rule, a rule is not proved by example, or the name is taken.
    pub fn register_rules(
        &mut self,
        name: &'static str,
        summary: &'static str,
        text: &'static str,
    ) -> Result<(), PassError> {
        let rules = RuleText { name, text };
        let parsed = rules.parse().map_err(|e| PassError::failed(name, e))?;
        if parsed.is_empty() {
            return Err(PassError::failed(name, "its text has no `rule NAME LEFT => RIGHT`"));
        }
        for rule in &parsed {
            prove(rule).map_err(|e| PassError::failed(name, e))?;
        }
        let make: Arc<Make> =
            Arc::new(move |_| Ok(applying(name, rules.parse().map_err(|e| e.to_string())?)));
        self.register(Registered { name, summary, options: &[], make })?;
        self.rules.push(rules);
        Ok(())
    }

    /// All passes, in registration order.
    pub fn passes(&self) -> &[Registered] {
        &self.passes
    }

    /// The passes from the `first`-th on, to be changed.
    pub(crate) fn passes_from(&mut self, first: usize) -> &mut [Registered] {
        self.passes.get_mut(first..).unwrap_or_default()
    }

    /// The rules that were registered, in registration order.
    pub fn rules(&self) -> &[RuleText] {
        &self.rules
    }

    /// The pass of this name.
    pub fn find(&self, name: &str) -> Option<&Registered> {
        self.passes.iter().find(|p| p.name == name)
    }

    /// Makes a pass from its name and options.
    ///
    /// # Errors
    /// When the name or an option is unknown or an option has a bad value; near matches are named.
    pub fn make(&self, name: &str, mut options: Options) -> Result<Box<dyn Pass>, PassError> {
        let info = self.find(name).ok_or_else(|| PassError::Unknown {
            name: name.to_string(),
            hint: near_match(name, self.passes.iter().map(|p| p.name)),
        })?;
        let pass = (info.make)(&mut options)
            .map_err(|message| PassError::Option { pass: name.to_string(), message })?;
        if let Some(unknown) = options.remaining().next() {
            let hint = near_match(unknown, info.options.iter().map(|(n, _)| *n));
            let known: Vec<_> = info.options.iter().map(|(n, _)| *n).collect();
            let known =
                if known.is_empty() { "it has none".into() } else { format!("it has {}", known.join(", ")) };
            return Err(PassError::Option {
                pass: name.to_string(),
                message: format!("unknown option `{unknown}`{hint} ({known})"),
            });
        }
        Ok(pass)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn make(name: &str, options: &[(&str, &str)]) -> String {
        let options: BTreeMap<_, _> = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        match Registry::builtin().make(name, Options::new(options)) {
            Ok(_) => String::new(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn unknown_names_come_with_the_nearest() {
        let error = make("canonicalise", &[]);
        assert!(error.contains("unknown pass `canonicalise`; did you mean `canonicalize`?"), "{error}");
        let error = make("calibrate", &[("methd", "minmax")]);
        assert!(error.contains("did you mean `method`?"), "{error}");
        let error = make("calibrate", &[("method", "median")]);
        assert!(error.contains("unknown method `median`"), "{error}");
        let error = make("canonicalize", &[("x", "1")]);
        assert!(error.contains("it has none"), "{error}");
    }

    #[test]
    fn a_name_is_registered_once() {
        let mut registry = Registry::builtin();
        assert!(registry.register(channels_last::INFO).is_err());
    }
    const NEGATIONS: &str = "rule double-negation (neg (neg ?x)) => ?x";

    #[test]
    fn rules_become_a_pass_and_are_kept() {
        let mut registry = Registry::builtin();
        registry.register_rules("negations", "undoes negations", NEGATIONS).expect("a rule that is proved");
        assert_eq!(registry.find("negations").expect("registered").summary, "undoes negations");
        assert!(registry.make("negations", Options::default()).is_ok());
        let [rules] = registry.rules() else { panic!("one text") };
        assert_eq!(rules.parse().expect("it parses")[0].name, "double-negation");
    }

    #[test]
    fn rules_that_cannot_be_used_are_refused() {
        for (name, text, expected) in [
            ("r", "; nothing", "no `rule"),
            ("r", "rule wrong\n  (neg ?x) => ?x", "rule `wrong` is not proved"),
            ("r", "rule odd (negg ?x) => ?x", "r:1: there is no operation `negg`; did you mean `neg`?"),
            ("canonicalize", NEGATIONS, "registered already"),
        ] {
            let mut registry = Registry::builtin();
            let error = registry.register_rules(name, "", text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(registry.rules().is_empty() && registry.find("r").is_none(), "{text}");
        }
    }
}
