//! The registry: every pass by name. In-tree passes and plugins use the same one.

use crate::pass::{Options, Pass, PassError, PassInfo};
use crate::{calibrate, canonicalize, channels_last};

/// All passes this build (and its plugins) knows.
#[derive(Clone)]
pub struct Registry {
    passes: Vec<PassInfo>,
}

impl Registry {
    /// The passes of this build.
    pub fn builtin() -> Registry {
        Registry { passes: vec![canonicalize::INFO, calibrate::INFO, channels_last::INFO] }
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
            hint: near(name, self.passes.iter().map(|p| p.name)),
        })?;
        let pass = (info.make)(&mut options)
            .map_err(|message| PassError::Option { pass: name.to_string(), message })?;
        if let Some(unknown) = options.remaining().next() {
            let hint = near(unknown, info.options.iter().map(|(n, _)| *n));
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

/// "; did you mean `x`?" for the nearest of `names`, or nothing.
pub fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|n| (strsim::jaro_winkler(name, n), n))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, n)| format!("; did you mean `{n}`?"))
}
