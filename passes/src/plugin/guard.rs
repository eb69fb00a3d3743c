//! What stands between this program and the passes of a plugin. All of it is compiled into the plugin, since only there its panics can be
//! caught and its log be redirected: both are kept by the standard library and by `tracing` in statics, of which each library has its own.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use qcc_ir::Module;
use tracing_core::{Dispatch, callsite, dispatcher};

use crate::context::Context;
use crate::pass::{Outcome, Pass, PassError, Preservation};
use crate::registry::{Make, Registry};

/// Gives what the program logs to at the moment.
pub type Logging = fn() -> Dispatch;

/// What this library logs to at the moment.
pub(super) fn logging() -> Dispatch {
    dispatcher::get_default(Clone::clone)
}

/// Registers what a plugin has; the passes that were added log to `logging` and do not panic.
///
/// # Errors
/// When `register` fails or panics.
pub fn register(
    registry: &mut Registry,
    logging: Logging,
    register: fn(&mut Registry) -> Result<(), PassError>,
) -> Result<(), String> {
    let first = registry.passes().len();
    guarded(logging, || register(registry).map_err(|e| e.to_string()))
        .unwrap_or_else(|panic| Err(format!("it panicked while it registered its passes: {panic}")))?;
    for pass in registry.passes_from(first) {
        pass.make = made_guarded(pass.name, logging, pass.make.clone());
    }
    Ok(())
}

/// As `make`, and so are the passes that it makes.
fn made_guarded(name: &'static str, logging: Logging, make: Arc<Make>) -> Arc<Make> {
    Arc::new(move |options| {
        let make = || {
            let pass = make(options)?;
            Ok(Guarded { name, logging, preservation: pass.preservation(), pass })
        };
        let pass = guarded(logging, make).unwrap_or_else(|panic| Err(panicked(&panic)))?;
        Ok(Box::new(pass) as Box<dyn Pass>)
    })
}

/// A pass of a plugin.
struct Guarded {
    name: &'static str,
    logging: Logging,
    preservation: Preservation,
    pass: Box<dyn Pass>,
}

impl Pass for Guarded {
    fn preservation(&self) -> Preservation {
        self.preservation
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        // Names in parsed rules are interned by this program alone.
        let rules = std::mem::take(&mut context.rules);
        let outcome = guarded(self.logging, || self.pass.run(module, context))
            .unwrap_or_else(|panic| Err(PassError::failed(self.name, panicked(&panic))));
        context.rules = rules;
        outcome
    }
}

fn panicked(message: &str) -> String {
    format!("it panicked, which is a bug of the plugin: {message}")
}

/// Does something of a plugin; the error is the message of a panic.
fn guarded<T>(logging: Logging, work: impl FnOnce() -> T) -> Result<T, String> {
    let work = || {
        dispatcher::with_default(&logging(), || {
            // What this library knows of levels and interests is about another log, or about none.
            callsite::rebuild_interest_cache();
            work()
        })
    };
    catch_unwind(AssertUnwindSafe(work)).map_err(message)
}

fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
