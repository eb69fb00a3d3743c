//! How images become inputs: from a flag, else a recipe or artifact, else ImageNet's way. An artifact remembers it in its manifest.

use qcc_data::Preprocess;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Failure;

/// The `input` of a manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// Normalisation of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// Added to labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_offset: Option<u32>,
}

impl Remembered {
    /// What a manifest remembers; nothing if it says nothing usable.
    pub fn of(manifest: Option<&Value>) -> Remembered {
        let input = manifest.and_then(|m| m.get("input")).cloned();
        input.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
    }

    /// The normalisation: the flag's, else what is remembered, else ImageNet's.
    ///
    /// # Errors
    /// When the flag names nothing known or its file cannot be read.
    pub fn preprocess(&self, flag: Option<&str>) -> Result<Preprocess, Failure> {
        match flag {
            Some(text) => Ok(Preprocess::from_name_or_file(text)?),
            None => Ok(self.preprocess.unwrap_or(Preprocess::IMAGENET)),
        }
    }

    /// What is added to labels.
    pub fn label_offset(&self, flag: Option<u32>) -> u32 {
        flag.or(self.label_offset).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_remembers_and_a_flag_overrides() {
        let remembered = Remembered { preprocess: Some(Preprocess::TF), label_offset: Some(1) };
        let manifest = serde_json::json!({ "input": remembered });
        let read = Remembered::of(Some(&manifest));
        assert_eq!(read, remembered);
        assert_eq!(read.preprocess(None).ok(), Some(Preprocess::TF));
        assert_eq!(read.preprocess(Some("unit")).ok(), Some(Preprocess::UNIT));
        assert_eq!(read.label_offset(Some(0)), 0);
        assert_eq!(Remembered::of(None).preprocess(None).ok(), Some(Preprocess::IMAGENET));
    }
}
