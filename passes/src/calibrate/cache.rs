//! What was observed, on disk, by the content of all it depends on: the model as it is then, its weights, and the samples. It only saves time:
//! a file that is missing or damaged counts as absent, and one that cannot be written is no error.

use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};
use qcc_ir::print::{self, print_module};
use qcc_ir::{Module, Op};
use qcc_params::Parameters;
use qcc_params::trim::{trim, used};

use super::observation::Observation;
use crate::context::Samples;

const EXTENSION: &str = "statistics";

/// A folder of observations.
#[derive(Clone, Debug)]
pub struct StatisticsCache {
    folder: PathBuf,
    build: String,
}

impl StatisticsCache {
    /// A cache in `folder`, which is made when first needed. `build` names the program that computes: another one, which may round
    /// otherwise, does not take its results.
    pub fn new(folder: &Path, build: &str) -> StatisticsCache {
        StatisticsCache { folder: folder.to_path_buf(), build: build.to_string() }
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
        trim(&self.folder, EXTENSION, most);
    }

    fn path(&self, key: &Hash) -> PathBuf {
        self.folder.join(format!("{key}.{EXTENSION}"))
    }

    /// What is known by a key, of so many sites.
    pub(super) fn load(&self, key: &Hash, sites: usize) -> Option<Vec<Observation>> {
        let bytes = std::fs::read(self.path(key)).ok()?;
        used(&self.path(key));
        let (hash, payload) = bytes.split_at_checked(blake3::OUT_LEN)?;
        if blake3::hash(payload).as_bytes().as_slice() != hash {
            return None;
        }
        let sound = |all: &Vec<Observation>| all.len() == sites && all.iter().all(Observation::is_finite);
        serde_json::from_slice(payload).ok().filter(sound)
    }

    /// Keeps it: written beside and renamed, so that readers see whole files.
    pub(super) fn store(&self, key: &Hash, all: &[Observation]) {
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&self.folder)?;
            let payload = serde_json::to_vec(all)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            std::io::Write::write_all(&mut file, blake3::hash(&payload).as_bytes())?;
            std::io::Write::write_all(&mut file, &payload)?;
            file.persist(self.path(key))?;
            Ok(())
        };
        if let Err(e) = write() {
            tracing::debug!("statistics are not kept: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = StatisticsCache::new(folder.path(), "test");
        let keys = [1u8, 2, 3].map(|i| Hash::from_bytes([i; 32]));
        let mut all = vec![Observation::new(false)];
        all[0].widen(&qcc_params::Tensor::f32(&[2], vec![0.0, 1.0]).expect("counts agree"));
        let hour = std::time::Duration::from_secs(3600);
        for (key, age) in keys.iter().zip([3u32, 2, 1]) {
            cache.store(key, &all);
            let file = std::fs::File::open(cache.path(key)).expect("a file");
            file.set_modified(std::time::SystemTime::now() - age * hour).expect("its own file");
        }
        // The oldest is used again.
        assert!(cache.load(&keys[0], 1).is_some());
        let one = std::fs::metadata(cache.path(&keys[0])).expect("a file").len();
        cache.trim(2 * one);
        let there = keys.map(|key| cache.load(&key, 1).is_some());
        assert_eq!(there, [true, false, true]);
    }
}
