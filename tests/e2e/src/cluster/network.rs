//! How the nodes and their pods reach each other: a bridge on the first node, and routes.
//!
//! The address of the API server's Service stands on the first node's loopback, so that no kube-proxy is needed.
//! Other Services have no address that works.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::node::Node;

/// The first address of the Services' network, 10.96.0.0/16.
pub const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// What every node has: loopback, a default route that leads nowhere for those who look one up, and a quick
/// refusal for those who look for a cloud.
const EVERY_NODE: &str =
    "route add default via 10.89.0.254 dev node0\nroute add unreachable 169.254.0.0/16\n";

/// The first node's part.
pub fn make(first: &Node) -> Result<()> {
    let address = first.identity().address;
    first.ip(&format!(
        "link set lo up\naddr add {API_SERVICE}/32 dev lo\nlink add node0 type bridge\naddr add {address}/24 dev node0\n\
         link set node0 up\n{EVERY_NODE}"
    ))
}

/// Joins another node to the first.
pub fn join(first: &Node, other: &Node) -> Result<()> {
    let (ours, theirs) = (first.identity(), other.identity());
    other.ip(&format!(
        "link set lo up\nlink add node0 type veth peer name {name} netns {switch}\naddr add {address}/24 dev node0\n\
         link set node0 up\nroute add 10.96.0.0/16 via {gateway}\nroute add 10.244.{pods}.0/24 via {gateway}\n{EVERY_NODE}",
        name = theirs.name,
        switch = first.pid(),
        address = theirs.address,
        gateway = ours.address,
        pods = ours.pods,
    ))?;
    first.ip(&format!(
        "link set {name} master node0\nlink set {name} up\nroute add 10.244.{pods}.0/24 via {address}\n",
        name = theirs.name,
        pods = theirs.pods,
        address = theirs.address,
    ))
}
