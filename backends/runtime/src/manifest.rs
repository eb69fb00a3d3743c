//! What `manifest.json` promises about the files beside it, as far as running a model is concerned: version, sizes and hashes of files,
//! CPU features. The compiler writes more into it, which is not looked at here.
//!
//! ```json
//! { "schema": 1, "features": ["avx2", "fma"], "files": { "parameters.safetensors": { "bytes": 4160, "blake3": "…64 hex digits…" } } }
//! ```

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::digest::digest;
use crate::{Parameters, RuntimeError, features};

/// Version of the artifact's layout. An artifact of another version is refused.
pub const MANIFEST_SCHEMA: u32 = 1;

/// Name of the file of weights.
pub const PARAMETER_FILE: &str = "parameters.safetensors";

const MANIFEST_FILE: &str = "manifest.json";

/// The part of the manifest that the runtime checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA`].
    pub schema: u32,
    /// CPU features the code needs; see [`features`].
    pub features: Vec<String>,
    /// The files of the artifact, by name.
    pub files: BTreeMap<String, FileRecord>,
}

/// What a file must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its length.
    pub bytes: u64,
    /// Its BLAKE3 hash, in hexadecimal.
    pub blake3: String,
}

impl Manifest {
    /// Reads an artifact's manifest and checks its version, the features of this machine, and that every listed file is there and has
    /// its size. Hashes are left to [`Manifest::check_hash`], as they take time.
    ///
    /// # Errors
    /// When any of this does not hold.
    pub fn open(directory: &Path) -> Result<Manifest, RuntimeError> {
        let path = directory.join(MANIFEST_FILE);
        let fail = |message: String| RuntimeError::File { path: path.display().to_string(), message };
        let bytes = std::fs::read(&path).map_err(|e| fail(format!("{e}: this is not a compiled model")))?;
        // The version first: another version may have other fields.
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let damaged =
            |e: serde_json::Error| fail(format!("{e}: the file is damaged, compile the model again"));
        let version: Version = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version.schema != MANIFEST_SCHEMA {
            return Err(fail(format!(
                "the artifact's version is {}, this runtime reads {MANIFEST_SCHEMA}: compile the model again",
                version.schema
            )));
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(damaged)?;
        features::check(manifest.features.iter().map(String::as_str))?;
        for (name, record) in &manifest.files {
            let mut components = Path::new(name).components();
            if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
                return Err(fail(format!("`{name}` is not the name of a file of the artifact")));
            }
            let path = directory.join(name);
            let fail = |message: String| RuntimeError::File { path: path.display().to_string(), message };
            let metadata = std::fs::metadata(&path).map_err(|e| fail(e.to_string()))?;
            if !metadata.is_file() || metadata.len() != record.bytes {
                return Err(fail(format!(
                    "it has {} bytes where the manifest says {}: the artifact is damaged, copy or compile it again",
                    metadata.len(),
                    record.bytes
                )));
            }
        }
        Ok(manifest)
    }

    /// Checks a file's contents against its hash.
    ///
    /// # Errors
    /// When the manifest does not list the file, or the hash differs.
    pub fn check_hash(&self, directory: &Path, name: &str, contents: &[u8]) -> Result<(), RuntimeError> {
        let fail = |message: &str| RuntimeError::File {
            path: directory.join(name).display().to_string(),
            message: message.into(),
        };
        let record = self.files.get(name).ok_or_else(|| fail("the manifest does not list it"))?;
        // `Hash` compares with hexadecimal text of either case only after parsing it.
        let expected = blake3::Hash::from_hex(&record.blake3)
            .map_err(|_| fail("its hash in the manifest is malformed"))?;
        if digest(contents) != expected {
            return Err(fail(
                "its hash differs from the manifest's: the artifact is damaged, copy or compile it again",
            ));
        }
        Ok(())
    }

    /// Maps the artifact's parameters, their size and hash checked.
    ///
    /// # Errors
    /// When the manifest does not list the file, or it is not what the manifest says.
    pub fn open_parameters(&self, directory: &Path) -> Result<Parameters, RuntimeError> {
        let parameters = Parameters::open(&directory.join(PARAMETER_FILE))?;
        self.check_hash(directory, PARAMETER_FILE, parameters.file_bytes().unwrap_or_default())?;
        Ok(parameters)
    }
}
