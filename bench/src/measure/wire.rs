//! Two network namespaces and a veth pair between them, as between two pods of a node.

use kube_tcpstates_kernel_tests::netns::Netns;

/// Where the servers are: behind a route, so that there are as many addresses as on loopback.
const SERVERS: &str = "10.78.0.0/16";
const FIRST_SERVER: &str = "10.78.0.1";
const SERVER_ADDRESSES: &str = "60000";

/// Both namespaces; gone when this is dropped.
pub(super) struct Wire {
    client: Netns,
    server: Netns,
}

impl Wire {
    /// Lays it.
    pub(super) fn new() -> Self {
        let (client, server) = (Netns::new(), Netns::new());
        client.ip(&format!("link add pod type veth peer name pod netns {}", server.name()));
        client.ip("addr add 10.77.0.2/24 dev pod\nlink set pod up");
        server.ip("addr add 10.77.0.1/24 dev pod\nlink set pod up");
        server.ip(&format!("route add local {SERVERS} dev lo"));
        client.ip(&format!("route add {SERVERS} via 10.77.0.1"));
        Self { client, server }
    }

    /// Options of the load generator.
    pub(super) fn options(&self) -> Vec<&str> {
        let [client, server] = [self.client.name(), self.server.name()];
        let namespaces = ["--client-netns", client, "--server-netns", server];
        [&namespaces[..], &["--address", FIRST_SERVER, "--addresses", SERVER_ADDRESSES]].concat()
    }
}
