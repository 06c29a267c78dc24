//! What a target starts from: text is in `corpus/`, what is binary is made here each time.

use std::path::Path;

/// Names the directory to which the seeds are written that are made.
const DIRECTORY: &str = "KUBE_TCPSTATES_FUZZ_SEEDS";

/// Writes them for libFuzzer, which reads the directory after this.
pub fn write(seeds: fn() -> Vec<Vec<u8>>) {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    for (index, seed) in seeds().iter().enumerate() {
        let path = Path::new(&directory).join(format!("made-{index}"));
        if let Err(error) = std::fs::write(&path, seed) {
            eprintln!("write {}: {error}", path.display());
        }
    }
}

/// There are only those in `corpus/`.
pub fn none() -> Vec<Vec<u8>> {
    Vec::new()
}
