//! What happens around each pass: timing, dumps, verification of the IR, and `--verify-each`.

use std::time::Instant;

use qcc_ir::Module;
use qcc_ir::verify::{Options, verify};

use crate::context::Context;
use crate::pass::{Outcome, Pass, PassError};
use crate::verify_each::Proof;

/// When to dump the IR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrintAfter {
    /// Never.
    #[default]
    Never,
    /// After each pass.
    All,
    /// After each pass that changed the module.
    Change,
}

/// Wall time of one pass.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The pass.
    pub name: String,
    /// Seconds.
    pub seconds: f64,
}

/// What to do around each pass, and what was measured.
#[derive(Default)]
pub struct Instrumentation<'a> {
    /// When to dump the IR.
    pub print_after: PrintAfter,
    /// Receives dumps: pass name and module.
    #[allow(clippy::type_complexity, reason = "a plain callback")]
    pub dump: Option<Box<dyn FnMut(&str, &Module) + 'a>>,
    /// Check the function-preserving passes with the reference executor.
    pub verify_each: bool,
    /// Wall time of each pass run so far.
    pub timings: Vec<Timing>,
}

impl Instrumentation<'_> {
    pub(crate) fn around(
        &mut self,
        name: &str,
        pass: &dyn Pass,
        module: &mut Module,
        context: &mut Context<'_>,
    ) -> Result<Outcome, PassError> {
        let _span = tracing::info_span!("pass", name).entered();
        let proof =
            if self.verify_each { Proof::before(pass.preservation(), module, context)? } else { None };
        let start = Instant::now();
        let outcome = pass.run(module, context)?;
        self.timings.push(Timing { name: name.to_string(), seconds: start.elapsed().as_secs_f64() });
        match outcome.changed() {
            true => tracing::debug!(?outcome, "done"),
            false => tracing::info!("{name}: nothing matched"),
        }
        if let Err(errors) = verify(module, Options::default()) {
            let error = errors.first().map_or_else(String::new, ToString::to_string);
            return Err(PassError::Invalid { pass: name.to_string(), error });
        }
        if let Some(proof) = proof {
            proof.after(name, module, context)?;
        }
        let wanted = match self.print_after {
            PrintAfter::Never => false,
            PrintAfter::All => true,
            PrintAfter::Change => outcome.changed(),
        };
        if let (true, Some(dump)) = (wanted, &mut self.dump) {
            dump(name, module);
        }
        Ok(outcome)
    }
}
