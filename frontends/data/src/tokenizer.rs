//! Text to token ids and back with a Hugging Face `tokenizer.json`, through the `tokenizers` crate.
//!
//! Encoding adds no special tokens unless asked to, never truncates, never pads and never drops merges at random,
//! whatever the file says: a text is measured whole, and the same text always gives the same ids. (For tokenizers
//! without a post-processor this equals Python's `Tokenizer.encode(text).ids`.)
//! Text that spells a special token (`<|endoftext|>`) becomes that token, as in Python.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::contain::contain;
use crate::error::{DataError, Result};
use crate::read;

/// The largest `tokenizer.json` that is read, in bytes (the largest published ones have about 35 MB).
pub const TOKENIZER_LIMIT: u64 = 256 << 20;

/// A loaded `tokenizer.json`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
}

impl Tokenizer {
    /// Loads a `tokenizer.json`.
    ///
    /// Errors: the file cannot be read, is not JSON (with line and column), or does not describe a tokenizer.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes(&read::bytes(path, TOKENIZER_LIMIT, "a tokenizer")?, path)
    }

    /// Loads the content of a `tokenizer.json`; `path` is where it came from, for errors.
    pub fn from_bytes(bytes: &[u8], path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut json: Value = serde_json::from_slice(bytes)
            .map_err(|error| DataError::malformed(path, format!("not a tokenizer: invalid JSON: {error}")))?;
        let Some(fields) = json.as_object_mut() else {
            return Err(DataError::malformed(path, "not a tokenizer: the file is not a JSON object"));
        };
        if !fields.get("model").is_some_and(Value::is_object) {
            return Err(DataError::malformed(
                path,
                "not a tokenizer: `model` is missing; is this the checkpoint's tokenizer.json?",
            ));
        }
        // Truncation would cut an evaluation text, padding would lengthen it, dropout would make it random.
        fields.insert("truncation".into(), Value::Null);
        fields.insert("padding".into(), Value::Null);
        if let Some(dropout) = fields["model"].get_mut("dropout") {
            *dropout = Value::Null;
        }
        let bytes = serde_json::to_vec(&json).expect("a JSON value can always be written");
        let inner = guarded(path, "load", || tokenizers::Tokenizer::from_bytes(&bytes))?;
        Ok(Tokenizer { inner, path: path.to_path_buf() })
    }

    /// The ids of `text`; no special tokens (BOS, EOS) are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, false)
    }

    /// The ids of `text` with the special tokens that the file's post-processor adds (such as Llama's BOS), for
    /// prompts of models that were trained with them.
    pub fn encode_with_special_tokens(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, true)
    }

    fn encode_as(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = guarded(&self.path, "encode text with", || self.inner.encode_fast(text, special))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`. Special tokens and ids outside the vocabulary give no text; bytes that are not UTF-8 give
    /// U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded(&self.path, "decode ids with", || self.inner.decode(ids, true))
    }

    /// A decoder for ids that arrive one at a time.
    pub fn decode_stream(&self) -> DecodeStream<'_> {
        DecodeStream { tokenizer: self, ids: Vec::new(), emitted: String::new() }
    }

    /// Number of tokens, added tokens included.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of exactly this token (such as `<|endoftext|>`), if there is one.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id as it stands in the vocabulary (byte-level tokens keep their `Ġ`), if there is one.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }
}

/// Runs the library; its errors, and its panics on files it was not written for, name the file.
fn guarded<T>(path: &Path, action: &str, call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    let outcome = contain(call).and_then(|outcome| outcome.map_err(|error| error.to_string()));
    outcome.map_err(|reason| {
        DataError::malformed(path, format!("cannot {action} this tokenizer: {reason}; fetch the file again"))
    })
}

/// Decodes ids as they arrive and hands out text only in whole characters.
///
/// The concatenation of all [`push`](Self::push) results and [`finish`](Self::finish) is the text of all ids.
pub struct DecodeStream<'t> {
    tokenizer: &'t Tokenizer,
    /// Ids since the last-but-one clean point (a place where the text ended in a whole character). The ids before
    /// the last clean point are context: decoders treat the first token of a sequence specially.
    ids: Vec<u32>,
    /// The part of the text of `ids` that was handed out.
    emitted: String,
}

/// Ids without a whole character after which the stream gives up waiting for one. A character has at most four bytes
/// and a token at least one, so only a model that produces garbage gets here; the bound keeps that from costing
/// quadratic time.
const LONGEST_WAIT: usize = 64;

/// Ids of context kept after a clean point.
const CONTEXT: usize = 4;

impl DecodeStream<'_> {
    /// Takes the next id; returns the text that it completes (often empty within a multi-byte character).
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        // A trailing U+FFFD may be the first bytes of a character whose rest is yet to come.
        let whole = text.trim_end_matches('\u{FFFD}');
        let clean = whole.len() == text.len();
        if !clean && self.ids.len() >= LONGEST_WAIT {
            let fresh = self.fresh(&text);
            self.ids.clear();
            self.emitted.clear();
            return Ok(fresh);
        }
        let fresh = self.fresh(whole);
        if !fresh.is_empty() {
            self.emitted.push_str(&fresh);
        }
        if clean && self.ids.len() > 2 * CONTEXT {
            self.ids.drain(..self.ids.len() - CONTEXT);
            self.emitted = self.tokenizer.decode(&self.ids)?;
        }
        Ok(fresh)
    }

    /// Ends the stream: returns what was held back, with U+FFFD for an incomplete character.
    pub fn finish(self) -> Result<String> {
        let text = self.tokenizer.decode(&self.ids)?;
        Ok(self.fresh(&text))
    }

    /// What `text` adds to the emitted part. A byte-fallback decoder turns a whole run of byte tokens into U+FFFD
    /// while its last character is incomplete, so that `text` may for a moment not continue what was emitted: then
    /// nothing is fresh until it does again.
    fn fresh(&self, text: &str) -> String {
        text.strip_prefix(self.emitted.as_str()).unwrap_or_default().to_string()
    }
}

#[cfg(test)]
mod tests;
