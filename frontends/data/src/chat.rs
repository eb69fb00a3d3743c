//! Chat templates: how a conversation becomes a prompt, by the Jinja template that a checkpoint has in `tokenizer_config.json` (`chat_template`) or
//! `chat_template.jinja`, as `transformers` renders it.

use std::path::Path;

use minijinja::value::Value as Jinja;
use minijinja::{Environment, Error, ErrorKind, context};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{DataError, Result};
use crate::read;

/// The largest template file that is read, in bytes (published ones have a few thousand).
const LIMIT: u64 = 16 << 20;

/// Steps that rendering may take, so that it ends.
const FUEL: u64 = 1_000_000;

/// A template, and the special tokens it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatTemplate {
    template: String,
    bos_token: String,
    eos_token: String,
}

/// What someone says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// The text.
    pub content: &'a str,
}

impl ChatTemplate {
    /// The template of a checkpoint folder; none where it has none.
    ///
    /// # Errors
    /// When a file cannot be read or is malformed.
    pub fn from_folder(folder: &Path) -> Result<Option<ChatTemplate>> {
        let path = folder.join("tokenizer_config.json");
        let config = match path.exists() {
            false => Value::Null,
            true => serde_json::from_slice(&read::bytes(&path, LIMIT, "a tokenizer configuration")?)
                .map_err(|e| DataError::malformed(&path, format!("not valid JSON: {e}")))?,
        };
        let file = folder.join("chat_template.jinja");
        let template = match file.exists() {
            true => Some(read::text(&file)?),
            false => template_of(&config),
        };
        // A token is its text, or an object with it.
        let token = |name: &str| {
            let token = config.get(name)?;
            token.as_str().or_else(|| token.get("content")?.as_str()).map(ToString::to_string)
        };
        Ok(template.map(|template| ChatTemplate {
            template,
            bos_token: token("bos_token").unwrap_or_default(),
            eos_token: token("eos_token").unwrap_or_default(),
        }))
    }

    /// The prompt after which the assistant is to speak.
    ///
    /// # Errors
    /// When the template is malformed, refuses these messages, or takes too long.
    pub fn prompt(&self, messages: &[Message<'_>]) -> Result<String> {
        let mut jinja = Environment::new();
        jinja.set_trim_blocks(true);
        jinja.set_lstrip_blocks(true);
        jinja.set_fuel(Some(FUEL));
        // Templates call methods of Python's strings and lists.
        jinja.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        jinja.add_function("raise_exception", |message: String| -> std::result::Result<Jinja, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        let (bos_token, eos_token) = (&self.bos_token, &self.eos_token);
        let values = context! { messages, bos_token, eos_token, add_generation_prompt => true };
        jinja.render_str(&without_generation(&self.template), values).map_err(|e| {
            let at = e.line().map(|line| format!(", line {line}")).unwrap_or_default();
            let what = e.detail().map_or_else(|| e.kind().to_string(), ToString::to_string);
            DataError::Request(format!("the model's chat template{at}: {what}"))
        })
    }
}

/// The template without the tags that mark what an assistant says, for training.
fn without_generation(template: &str) -> String {
    let mut rest = template;
    let mut kept = String::new();
    while let Some((before, tag)) = rest.split_once("{%") {
        let (inside, after) = tag.split_once("%}").unwrap_or((tag, ""));
        kept.push_str(before);
        if !["generation", "endgeneration"].contains(&inside.trim_matches(['-', ' '])) {
            kept.push_str(&rest[before.len()..rest.len() - after.len()]);
        }
        rest = after;
    }
    kept + rest
}

/// The text of `chat_template`: a string, or the one named `default` of several.
fn template_of(config: &Value) -> Option<String> {
    match config.get("chat_template")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(templates) => {
            let named = |t: &&Value| t.get("name").and_then(Value::as_str) == Some("default");
            let template = templates.iter().find(named).or_else(|| templates.first())?;
            template.get("template")?.as_str().map(ToString::to_string)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Message<'_> = Message { role: "user", content: " Hello " };

    fn of(files: &[(&str, &str)]) -> Result<Option<ChatTemplate>> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        ChatTemplate::from_folder(folder.path())
    }

    fn render(template: &str) -> Result<String> {
        let config = serde_json::json!({ "chat_template": template, "bos_token": "<s>", "eos_token": { "content": "</s>" } });
        of(&[("tokenizer_config.json", &config.to_string())]).unwrap().unwrap().prompt(&[USER])
    }

    /// Expected texts by `transformers`' `apply_chat_template(…, add_generation_prompt=True)`.
    #[test]
    fn templates_of_well_known_models() {
        // ChatML, as Qwen2 has it.
        let chatml = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
        assert_eq!(
            render(chatml).unwrap(),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n Hello <|im_end|>\n<|im_start|>assistant\n"
        );
        // Zephyr's, as TinyLlama's chat model has it.
        let zephyr = "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";
        assert_eq!(render(zephyr).unwrap(), "<|user|>\n Hello </s>\n<|assistant|>\n");
        // Tags of training, loops that end early, and values as JSON.
        let others = "{% for m in messages %}{%- generation -%}{{ m | tojson }}{%- endgeneration -%}{% break %}{% endfor %}";
        assert_eq!(render(others).unwrap(), r#"{"role":"user","content":" Hello "}"#);
        // Methods of Python's strings.
        let mistral = "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'].strip() + ' [/INST]' }}{% else %}{{ raise_exception('Roles must alternate!') }}{% endif %}{% endfor %}";
        assert_eq!(render(mistral).unwrap(), "<s>[INST] Hello [/INST]");
    }

    #[test]
    fn templates_come_from_several_places() {
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&[("tokenizer_config.json", "{}")]).unwrap(), None);
        let several = r#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
        assert_eq!(of(&[("tokenizer_config.json", several)]).unwrap().unwrap().prompt(&[USER]).unwrap(), "D");
        let file = [("tokenizer_config.json", several), ("chat_template.jinja", "F{{ messages | length }}")];
        assert_eq!(of(&file).unwrap().unwrap().prompt(&[USER]).unwrap(), "F1");
        let error = of(&[("tokenizer_config.json", "{")]).unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json: not valid JSON"), "{error}");
    }

    #[test]
    fn bad_templates_are_errors() {
        let error = |template: &str| render(template).unwrap_err().to_string();
        assert!(
            error("a\n{% if %}").contains("the model's chat template, line 2"),
            "{}",
            error("a\n{% if %}")
        );
        assert!(error("{{ raise_exception('no system prompt') }}").contains("no system prompt"));
        let endless = "{% for i in range(10000) %}{% for j in range(10000) %}x{% endfor %}{% endfor %}";
        assert!(error(endless).contains("fuel"), "{}", error(endless));
    }
}
