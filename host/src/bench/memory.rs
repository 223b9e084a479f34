//! What this process takes of the machine.

/// Its private memory in bytes, page tables included where the kernel tells.
pub(super) fn private_bytes() -> u64 {
    let kib = |text: &str, key: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0)
    };
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let private = kib(&rollup, "Private_Clean:") + kib(&rollup, "Private_Dirty:");
    (private + kib(&status, "VmPTE:")) * 1024
}

/// Its kernel mappings, of which `vm.max_map_count` bounds the number.
pub(super) fn mappings() -> usize {
    let maps = std::fs::read("/proc/self/maps").unwrap_or_default();
    maps.iter().filter(|&&byte| byte == b'\n').count()
}
