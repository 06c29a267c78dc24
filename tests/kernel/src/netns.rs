//! Network namespaces, and a bridge that joins them.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::requirements::is_gone;
use crate::workload::enter::{NETNS_FOLDER, enter};

const PREFIX: &str = "kt";

/// A named network namespace with its loopback up; deleted on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// A namespace with nothing but loopback.
    pub fn new() -> Self {
        Self::add(&new_name())
    }

    /// The same, made from inside of another: some settings of a new namespace are its maker's to say.
    pub fn made_in(maker: &Self) -> Self {
        let name = new_name();
        let make = || {
            enter(None, Some(&maker.name)).expect("enter the maker's namespace");
            Self::add(&name)
        };
        std::thread::scope(|scope| scope.spawn(make).join().expect("the namespace is made"))
    }

    fn add(name: &str) -> Self {
        ip(&format!("netns add {name}"));
        let namespace = Self { name: name.to_owned() };
        namespace.ip("link set lo up");
        namespace
    }

    /// As `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `tcpstates.netns.inode` of a line says.
    pub fn inode(&self) -> u64 {
        let path = Path::new(NETNS_FOLDER).join(&self.name);
        fs::metadata(path).expect("the namespace is there").ino()
    }

    /// Runs `ip` commands inside, one a line.
    pub fn ip(&self, commands: &str) {
        run_ip(&["-n", &self.name], commands);
    }

    /// Gives `nft` a script inside: rules of a firewall or of NAT.
    pub fn nft(&self, script: &str) {
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.name, "nft", "--file", "-"]);
        feed(&mut nft, script);
    }

    /// Sets a sysctl of this namespace, such as `net/ipv4/tcp_syn_retries`.
    pub fn set(&self, path: &str, value: &str) {
        let script = format!("echo '{value}' > /proc/sys/{path}");
        let status = Command::new("ip").args(["netns", "exec", &self.name, "sh", "-c", &script]).status();
        assert!(status.is_ok_and(|status| status.success()), "set {path} to {value} in {}", self.name);
    }

    /// Makes room for many connections a second: all ports are local ones.
    pub fn widen_ports(&self) {
        self.set("net/ipv4/ip_local_port_range", "1024 65000");
    }
}

fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Default for Netns {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// A bridge in a namespace of its own, to which others are joined by veth pairs: the network of one node.
#[derive(Debug)]
pub struct Network {
    switch: Netns,
    ports: AtomicU32,
}

/// Addresses of one namespace on a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// 10.77.x.y; x differs between test processes.
    pub v4: Ipv4Addr,
    /// `fd77::x:y`.
    pub v6: Ipv6Addr,
}

impl Addresses {
    /// Of the test process' subnet, by number.
    pub fn numbered(number: u8) -> Self {
        let process = std::process::id();
        let subnet = u8::try_from(process % 251).expect("below 251");
        let part = u16::try_from(process % 65_521).expect("below 65521");
        Self {
            v4: Ipv4Addr::new(10, 77, subnet, number),
            v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, part, number.into()),
        }
    }

    /// The one of that family.
    pub fn of(&self, v6: bool) -> IpAddr {
        if v6 { self.v6.into() } else { self.v4.into() }
    }
}

impl Network {
    /// A bridge with nothing joined.
    pub fn new() -> Self {
        let switch = Netns::new();
        switch.ip("link add br0 type bridge\nlink set br0 up");
        Self { switch, ports: AtomicU32::new(0) }
    }

    /// Joins `namespace`, whose end is called eth0, and gives it its addresses.
    pub fn join(&self, namespace: &Netns) -> Addresses {
        let number = self.ports.fetch_add(1, Ordering::Relaxed) + 1;
        let addresses = Addresses::numbered(u8::try_from(number).expect("no more than 255 namespaces"));
        let name = namespace.name();
        self.switch.ip(&format!(
            "link add p{number} type veth peer name eth0 netns {name}\n\
             link set p{number} master br0\nlink set p{number} up"
        ));
        namespace.ip(&format!(
            "addr add {}/24 dev eth0\naddr add {}/112 dev eth0 nodad\nlink set eth0 up",
            addresses.v4, addresses.v6
        ));
        addresses
    }

    /// From now on the bridge passes nothing; the ends keep their carrier and do not notice.
    pub fn pause(&self) {
        self.switch.ip("link set br0 down");
    }

    /// The bridge passes frames again.
    pub fn resume(&self) {
        self.switch.ip("link set br0 up");
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs one `ip` command in the host's namespace.
fn ip(command: &str) {
    run_ip(&[], command);
}

fn run_ip(options: &[&str], commands: &str) {
    feed(Command::new("ip").args(options).args(["-batch", "-"]), commands);
}

fn feed(program: &mut Command, script: &str) {
    let mut child = program.stdin(Stdio::piped()).spawn().expect("start a program");
    let mut input = child.stdin.take().expect("stdin is a pipe");
    writeln!(input, "{script}").expect("write to the program");
    drop(input);
    let status = child.wait().expect("wait for the program");
    assert!(status.success(), "{program:?}: {status}, of this script:\n{script}");
}

fn delete(name: &str) {
    match Command::new("ip").args(["netns", "del", name]).status() {
        Ok(status) if status.success() => {}
        failure => eprintln!("cannot delete the network namespace {name}: {failure:?}"),
    }
}

/// Deletes what test processes that were killed have left.
pub fn sweep() {
    let Ok(entries) = fs::read_dir(NETNS_FOLDER) else {
        return;
    };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let Some(name) = file_name.to_str() else { continue };
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        if pid.is_some_and(is_gone) {
            delete(name);
        }
    }
}
