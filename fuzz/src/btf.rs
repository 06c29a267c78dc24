//! The kernel's type information.

use kube_tcpstates::kernel::{Btf, resolve_offsets};

/// What is looked for in a kernel that has it not all.
const WANTED: [(&str, &str); 5] = [
    ("sock", "__sk_common.skc_state"),
    ("sock", "sk_err"),
    ("tcp_sock", "repair"),
    ("sk_buff", "cb"),
    ("cgroup", "self.parent"),
];

/// Any file. True: it was type information.
pub fn read(bytes: &[u8]) -> bool {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else { return false };
    for (structure, member) in WANTED {
        let found = (btf.offset(structure, member), btf.bit(structure, member));
        assert_eq!(found.0, found.1.map(|bit| bit / 8));
    }
    let _ =
        (btf.size("sock"), btf.constant("cgroup_subsys_id", "memory_cgrp_id"), btf.parameters("tcp_sock"));
    let _ = resolve_offsets(&btf, Some("memory"));
    // What is left of it is read again.
    let skeleton = btf.skeleton(&["sock", "tcp_sock"]);
    assert!(Btf::parse(skeleton).is_ok());
    true
}

/// A kernel's types, and those of one that has them as far apart as can be said.
pub fn seeds() -> Vec<Vec<u8>> {
    vec![types(32, 3), types(u32::MAX, u32::MAX)]
}

/// `struct sock { struct sock_common __sk_common { u8 skc_state; }; union { int sk_err; }; }` with the union at a bit,
/// `struct css_set { int subsys; }`, `enum cgroup_subsys_id` with a value, and a function.
fn types(union_at: u32, value: u32) -> Vec<u8> {
    let mut text = vec![0];
    let mut name = |name: &str| {
        let at = u32::try_from(text.len()).unwrap_or(0);
        text.extend_from_slice(name.as_bytes());
        text.push(0);
        at
    };
    let (int, sock, common) = (name("int"), name("sock"), name("sock_common"));
    let (in_sock, state, error) = (name("__sk_common"), name("skc_state"), name("sk_err"));
    let (ids, memory, function) = (name("cgroup_subsys_id"), name("memory_cgrp_id"), name("tcp_sock"));
    let (set, subsystems) = (name("css_set"), name("subsys"));
    let words: Vec<u32> = [
        &[int, 1 << 24, 4, 32][..],
        &[common, 4 << 24 | 1, 4, state, 1, 0],
        &[0, 5 << 24 | 1, 4, error, 1, 8],
        &[sock, 4 << 24 | 2, 8, in_sock, 2, 0, 0, 3, union_at],
        &[ids, 6 << 24 | 1, 4, memory, value],
        &[0, 13 << 24 | 1, 1, int, 1],
        &[function, 12 << 24, 6],
        &[sock, 8 << 24, 4],
        &[set, 4 << 24 | 1, 4, subsystems, 1, 0],
    ]
    .concat();
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(0);
    let header = [24, 0, length(words.len() * 4), length(words.len() * 4), length(text.len())];
    let mut bytes = vec![0x9f, 0xeb, 1, 0];
    bytes.extend(header.into_iter().chain(words).flat_map(u32::to_le_bytes));
    bytes.extend(text);
    bytes
}
