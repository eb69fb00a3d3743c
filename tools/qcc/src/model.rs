//! A model that can run, wherever it came from: an artifact, or a checkpoint or ONNX file compiled for this process in f32.

use std::path::{Path, PathBuf};

use qcc_data::{ChatTemplate, Message, Tokenizer};
use qcc_interpreter::{Interpreter, Precision};
use qcc_mlir::Target;
use qcc_passes::instrument::Instrumentation;
use qcc_passes::{Context, Pipeline, Progress, Registry};
use qcc_runtime::Model;
use serde::Deserialize;
use serde_json::Value;

use crate::input::Remembered;
use crate::source::{self, Kind};
use crate::{Failure, backend, weights};

/// The passes that a model is run with as it is.
const F32_PIPELINE: &str = "canonicalize";

/// The tokenizer of a checkpoint or artifact.
///
/// # Errors
/// When it has none, or the file cannot be read.
pub fn tokenizer(model: &Path) -> Result<Tokenizer, Failure> {
    let Some(path) = source::tokenizer(model) else {
        return Err(Failure::file(
            model,
            "no tokenizer.json, which text needs; put the model's there, or pass token ids instead of text",
        ));
    };
    Ok(Tokenizer::from_file(path)?)
}

/// A model that can run.
pub struct Runnable {
    /// Where it came from.
    path: PathBuf,
    /// The compiled model.
    pub model: Model,
    /// Its manifest, if it is an artifact.
    pub manifest: Option<Value>,
    /// Tokens that end a generated text.
    pub end_tokens: Vec<u32>,
}

impl Runnable {
    /// Opens an artifact, or imports and compiles a model in f32.
    ///
    /// # Errors
    /// When that is not possible, with the reason.
    pub fn open(path: &Path, progress: &dyn Progress) -> Result<Runnable, Failure> {
        if source::kind(path)? == Kind::Artifact {
            let (model, manifest) = backend::open(path)?;
            let end_tokens = source::id_list(manifest.get("end_tokens"));
            return Ok(Runnable { path: path.to_path_buf(), model, manifest: Some(manifest), end_tokens });
        }
        let mut imported = source::import(path)?;
        let cache = weights::cache(None);
        imported.parameters.set_cache(cache.clone());
        for warning in &imported.warnings {
            tracing::warn!("{warning}");
        }
        let evaluator = Interpreter::new(Precision::F32);
        let mut context = Context::new(std::mem::take(&mut imported.parameters), &evaluator);
        context.progress = progress;
        Pipeline::parse(F32_PIPELINE, &Registry::builtin())?.run(
            &mut imported.module,
            &mut context,
            &mut Instrumentation::default(),
        )?;
        let model = backend::load(&imported.module, &context.parameters, progress)?;
        weights::finish(&cache, false);
        Ok(Runnable { path: path.to_path_buf(), model, manifest: None, end_tokens: source::end_tokens(path) })
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// When it has none, or the file cannot be read.
    pub fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        tokenizer(&self.path)
    }

    /// The prompt by which a chat model answers a user.
    ///
    /// # Errors
    /// When the model has no chat template, or it cannot be read or refuses the text.
    pub fn chat_prompt(&self, user: &str) -> Result<String, Failure> {
        let template = match &self.manifest {
            None => source::chat_template(&self.path)?,
            Some(manifest) => manifest.get("chat_template").and_then(|t| ChatTemplate::deserialize(t).ok()),
        };
        let template = template.ok_or_else(|| {
            Failure::file(
                &self.path,
                "no chat template: neither chat_template.jinja nor `chat_template` in tokenizer_config.json; without `--chat` the prompt is continued as it is",
            )
        })?;
        Ok(template.prompt(&[Message { role: "user", content: user }])?)
    }

    /// Whether there is a tokenizer.
    pub fn has_tokenizer(&self) -> bool {
        source::tokenizer(&self.path).is_some()
    }

    /// How images become its inputs.
    pub fn input(&self) -> Remembered {
        Remembered::of(self.manifest.as_ref())
    }

    /// The CPU it was compiled for.
    pub fn target(&self) -> String {
        let of_manifest = self.manifest.as_ref().and_then(|m| m.get("target")?.get("cpu")?.as_str());
        of_manifest.map_or_else(|| Target::host().cpu, ToString::to_string)
    }
}

/// Threads asked for; 0 means one for each core.
pub fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n,
    }
}
