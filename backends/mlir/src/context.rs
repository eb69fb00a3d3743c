//! An MLIR context with the dialects kernels use, and its diagnostics caught as text.

use std::sync::{Arc, Mutex, Once};

use melior::Context;
use melior::dialect::DialectRegistry;
use melior::ir::Module;
use melior::ir::operation::OperationLike;

use crate::MlirError;

/// Messages that MLIR reported, oldest first.
#[derive(Clone, Default)]
pub(crate) struct Messages(Arc<Mutex<Vec<String>>>);

impl Messages {
    /// All messages so far, one a line; `otherwise` when there are none.
    pub(crate) fn text(&self, otherwise: &str) -> String {
        let messages = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if messages.is_empty() { otherwise.to_string() } else { messages.join("\n") }
    }
}

/// A single-threaded context; `all_dialects` loads what lowering needs, else every unregistered dialect is admitted.
pub(crate) fn context(all_dialects: bool) -> (Context, Messages) {
    static PASSES: Once = Once::new();
    let registry = DialectRegistry::new();
    melior::utility::register_all_dialects(&registry);
    let context = Context::new();
    context.enable_multi_threading(false);
    context.append_dialect_registry(&registry);
    if all_dialects {
        PASSES.call_once(melior::utility::register_all_passes);
        melior::utility::register_all_llvm_translations(&context);
        for dialect in ["builtin", "llvm", "arith", "scf", "vector", "cf", "func", "index", "ub"] {
            context.get_or_load_dialect(dialect);
        }
    } else {
        context.set_allow_unregistered_dialects(true);
    }
    let messages = Messages::default();
    let sink = messages.clone();
    context.attach_diagnostic_handler(move |diagnostic| {
        let mut sink = sink.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sink.push(format!("{}: {diagnostic}", diagnostic.location()));
        true
    });
    (context, messages)
}

/// Parses a module; MLIR's messages become the error.
pub(crate) fn parse<'c>(
    context: &'c Context,
    messages: &Messages,
    text: &str,
) -> Result<Module<'c>, MlirError> {
    let fail = |why: &str| MlirError::Parse(messages.text(why));
    if text.contains('\0') {
        return Err(MlirError::Parse("the text holds a NUL byte".into()));
    }
    let module = Module::parse(context, text).ok_or_else(|| fail("the text does not parse"))?;
    if module.as_operation().verify() { Ok(module) } else { Err(fail("the module does not verify")) }
}
