//! The folder that compilations share: evaluated weights, what was observed of activations, and object code of kernels.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use qcc_cpu::{KernelCache, KernelCounts};
use qcc_params::WeightCache;
use qcc_passes::calibrate::StatisticsCache;

/// What weights, statistics and kernels may take; what was used longest ago goes first.
const MOST_WEIGHTS: u64 = 8 << 30;
const MOST_STATISTICS: u64 = 1 << 30;
const MOST_KERNELS: u64 = 256 << 20;

/// The cache in `folder`, or where the desktop standard puts it: `$XDG_CACHE_HOME/qcc`, `~/.cache/qcc`. Without any of them weights are
/// kept in the system's temporary folder.
pub fn cache(folder: Option<&Path>) -> Arc<WeightCache> {
    let folder = folder.map_or_else(default_folder, Path::to_path_buf);
    Arc::new(WeightCache::new(&folder.join("weights"), &build()))
}

/// Where what was observed of activations is kept, beside the weights; what is there already is held to its size.
pub fn statistics(folder: Option<&Path>) -> StatisticsCache {
    let folder = folder.map_or_else(default_folder, Path::to_path_buf);
    let cache = StatisticsCache::new(&folder.join("statistics"), &build());
    cache.trim(MOST_STATISTICS);
    cache
}

/// Where object code of kernels is kept, beside the weights.
pub fn kernels(folder: Option<&Path>) -> KernelCache {
    let folder = folder.map_or_else(default_folder, Path::to_path_buf);
    KernelCache::new(&folder.join("kernels"), &build())
}

/// Ends the use of it, as [`finish`] does.
pub fn finish_kernels(cache: &KernelCache, asked: bool) {
    let KernelCounts { found, stored, refused } = cache.counts();
    if stored > 0 {
        cache.trim(MOST_KERNELS);
    }
    tracing::info!(found, stored, "kernel cache");
    if asked && refused > 0 {
        tracing::warn!("object code of {refused} kernels could not be written to the cache folder");
    }
}

fn default_folder() -> PathBuf {
    // The standard wants an absolute path there and ignores any other.
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    base.unwrap_or_else(std::env::temp_dir).join("qcc")
}

/// Which `qcc` this is: another build may evaluate otherwise.
fn build() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let metadata = std::env::current_exe().and_then(std::fs::metadata).ok();
    let written = metadata.as_ref().and_then(|m| m.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    match (metadata, written) {
        (Some(metadata), Some(written)) => format!("{version} {} {}", metadata.len(), written.as_nanos()),
        _ => version.to_string(),
    }
}

/// Ends the use of the cache and says what it did; that it cannot be written is worth a warning only to who asked for it.
pub fn finish(cache: &WeightCache, asked: bool) {
    let counts = cache.counts();
    if counts.stored > 0 {
        cache.trim(MOST_WEIGHTS);
    }
    tracing::info!(found = counts.found, stored = counts.stored, "weight cache");
    if asked && counts.refused > 0 {
        tracing::warn!("{} evaluated weights could not be written to the cache folder", counts.refused);
    }
}
