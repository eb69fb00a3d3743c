//! What was observed, on disk, by the content of all it depends on: the model as it is then, its weights, and the samples. It only saves time:
//! a file that is missing or damaged counts as absent, and one that cannot be written is no error.

use std::path::Path;

use blake3::{Hash, Hasher};
use qcc_ir::print::{self, print_module};
use qcc_ir::{Module, Op};
use qcc_params::Parameters;

use super::observation::Observation;
use crate::context::Samples;
use crate::kept_files::KeptFiles;

/// A folder of observations.
#[derive(Clone, Debug)]
pub struct StatisticsCache {
    files: KeptFiles,
    build: String,
}

impl StatisticsCache {
    /// A cache in `folder`, which is made when first needed. `build` names the program that computes: another one, which may round
    /// otherwise, does not take its results.
    pub fn new(folder: &Path, build: &str) -> StatisticsCache {
        StatisticsCache { files: KeptFiles::new(folder, "statistics"), build: build.to_string() }
    }

    /// The key of what is observed of a module; none where something it depends on cannot be read.
    pub(super) fn key(
        &self,
        module: &Module,
        parameters: &Parameters,
        samples: &dyn Samples,
        what: &str,
    ) -> Option<Hash> {
        let mut hasher = Hasher::new_derive_key("qcc statistics");
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(self.build.as_bytes());
        field(what.as_bytes());
        // What formats layers shall have does not change what they read.
        let mut plain = module.clone();
        for function in &mut plain.functions {
            for id in function.order().to_vec() {
                function.node_mut(id).annotations.clear();
            }
        }
        field(print_module(&plain, print::Options::default()).as_bytes());
        let function = module.entry()?;
        for &id in function.order() {
            if let Op::Parameter { name } = &function.node(id).op {
                field(parameters.content_hash(name).ok()?.as_bytes());
            }
        }
        for i in 0..samples.len() {
            for input in samples.inputs(i, function).ok()? {
                field(format!("{:?}", input.ty()).as_bytes());
                field(&input.to_le_bytes());
            }
        }
        Some(hasher.finalize())
    }

    /// Removes what was used longest ago until the files together hold at most so many bytes.
    pub fn trim(&self, most: u64) {
        self.files.trim(most);
    }

    /// What is known by a key, of so many sites.
    pub(super) fn load(&self, key: &Hash, sites: usize) -> Option<Vec<Observation>> {
        let sound = |all: &Vec<Observation>| all.len() == sites && all.iter().all(Observation::is_finite);
        serde_json::from_slice(&self.files.load(key)?).ok().filter(sound)
    }

    /// Keeps it.
    pub(super) fn store(&self, key: &Hash, all: &[Observation]) {
        match serde_json::to_vec(all) {
            Ok(payload) => {
                self.files.store(key, &payload);
            }
            Err(e) => tracing::debug!("statistics are not kept: {e}"),
        }
    }
}
