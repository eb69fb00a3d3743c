//! The registry: every pass by name. In-tree passes and plugins use the same one.

use qcc_ir::names::near_match;

use crate::equivalence::passes::{FOLD_BATCH_NORM, REWRITE};
use crate::pass::{Options, Pass, PassError, PassInfo};
use crate::{calibrate, canonicalize, channels_last, plan_memory, quantize, transform};

/// All passes this build (and its plugins) knows.
#[derive(Clone)]
pub struct Registry {
    passes: Vec<PassInfo>,
}

impl Registry {
    /// The passes of this build.
    pub fn builtin() -> Registry {
        let mut passes = vec![canonicalize::INFO, FOLD_BATCH_NORM, REWRITE, transform::TRANSFORM];
        passes.extend(transform::INFOS);
        passes.extend([
            calibrate::INFO,
            quantize::INFO,
            quantize::LOWER_INFO,
            channels_last::INFO,
            plan_memory::INFO,
        ]);
        Registry { passes }
    }

    /// Adds a pass (plugins).
    ///
    /// # Errors
    /// When the name is taken.
    pub fn register(&mut self, info: PassInfo) -> Result<(), PassError> {
        if self.find(info.name).is_some() {
            return Err(PassError::failed(info.name, "a pass of this name is registered already"));
        }
        self.passes.push(info);
        Ok(())
    }

    /// All passes, in registration order.
    pub fn passes(&self) -> &[PassInfo] {
        &self.passes
    }

    /// The pass of this name.
    pub fn find(&self, name: &str) -> Option<&PassInfo> {
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
}
