//! Memory of this process, as Linux accounts for it; other systems report nothing.

/// The most memory the process ever had resident, in bytes (`VmHWM`).
pub fn peak_resident() -> Option<u64> {
    field("VmHWM:")
}

/// Memory that no file stands behind, now, in bytes (`RssAnon`): what a model needs beside its mapped weights.
pub fn anonymous() -> Option<u64> {
    field("RssAnon:")
}

fn field(name: &str) -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?, name)
}

fn parse(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_table() {
        let status = "VmPeak:\t   99 kB\nVmHWM:\t     1234 kB\nThreads:\t1\n";
        assert_eq!(parse(status, "VmHWM:"), Some(1234 * 1024));
        assert_eq!(parse(status, "RssAnon:"), None);
        assert_eq!(parse(status, "Threads:"), None);
    }
}
