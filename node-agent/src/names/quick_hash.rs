//! A hasher for keys that the kernel numbers, as cgroup ids and namespace inodes, or that are numbered here. One
//! multiplication; no defence against chosen keys, because nobody can choose them.

use std::hash::{BuildHasherDefault, Hasher};

pub(crate) type QuickMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<QuickHasher>>;

pub(crate) type QuickSet<K> = std::collections::HashSet<K, BuildHasherDefault<QuickHasher>>;

#[derive(Clone, Copy, Default)]
pub(crate) struct QuickHasher(u64);

impl QuickHasher {
    fn mix(&mut self, value: u64) {
        // 2^64 divided by the golden ratio. The map takes buckets from the low bits and tags from the high ones, so the
        // well-mixed high bits are folded down.
        let product = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.mix(u64::from(byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.mix(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::Hasher;

    use super::QuickHasher;

    fn hash(key: u64) -> u64 {
        let mut hasher = QuickHasher::default();
        hasher.write_u64(key);
        hasher.finish()
    }

    #[test]
    fn neighbouring_ids_and_ids_that_differ_in_the_generation_spread() {
        for step in [1, 1 << 12, 1 << 32] {
            let buckets: HashSet<u64> = (0..1024_u64).map(|n| hash(n * step) & 1023).collect();
            assert!(buckets.len() > 500, "step {step}: {} of 1024 buckets", buckets.len());
        }
    }
}
