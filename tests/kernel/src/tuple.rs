//! Transitions reduced to what two tracers can agree on, and comparing collections of them.

use std::net::IpAddr;

/// One transition: both ends and both states. An end that its tracer printed as 0 agrees with any value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// This socket's end.
    pub local: End,
    /// The other end.
    pub peer: End,
    /// State left, by the kernel's name.
    pub old: String,
    /// State entered.
    pub new: String,
}

/// Address and port; the unspecified address and port 0 stand for "not told".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct End {
    /// IPv4-mapped addresses are IPv4.
    pub address: IpAddr,
    /// In host order.
    pub port: u16,
}

impl End {
    /// Normalises the address.
    pub fn new(address: IpAddr, port: u16) -> Self {
        Self { address: address.to_canonical(), port }
    }

    fn agrees(&self, other: &Self) -> bool {
        let addresses =
            self.address == other.address || self.address.is_unspecified() || other.address.is_unspecified();
        addresses && (self.port == other.port || self.port == 0 || other.port == 0)
    }
}

impl std::fmt::Debug for End {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&std::net::SocketAddr::new(self.address, self.port), out)
    }
}

impl Tuple {
    fn agrees(&self, other: &Self) -> bool {
        self.old == other.old
            && self.new == other.new
            && self.local.agrees(&other.local)
            && self.peer.agrees(&other.peer)
    }
}

/// What two collections do not share.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// In the first only.
    pub only_first: Vec<Tuple>,
    /// In the second only.
    pub only_second: Vec<Tuple>,
}

/// Pairs off the members of two multisets: equal ones first, then those that agree but for what one side does
/// not tell.
pub fn difference(first: &[Tuple], second: &[Tuple]) -> Difference {
    let (first, second) = pair_off(first.to_vec(), second.to_vec(), PartialEq::eq);
    let (only_first, only_second) = pair_off(first, second, Tuple::agrees);
    Difference { only_first, only_second }
}

fn pair_off(
    first: Vec<Tuple>,
    mut second: Vec<Tuple>,
    same: impl Fn(&Tuple, &Tuple) -> bool,
) -> (Vec<Tuple>, Vec<Tuple>) {
    let unpaired = first.into_iter().filter(|tuple| {
        let found = second.iter().position(|other| same(tuple, other));
        found.is_none_or(|index| {
            second.swap_remove(index);
            false
        })
    });
    (unpaired.collect(), second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(local: &str, peer: &str, new: &str) -> Tuple {
        let end = |text: &str| {
            let address: std::net::SocketAddr = text.parse().expect("an address");
            End::new(address.ip(), address.port())
        };
        Tuple { local: end(local), peer: end(peer), old: "CLOSE".to_owned(), new: new.to_owned() }
    }

    #[test]
    fn a_port_that_one_side_does_not_tell_agrees_with_any() {
        let ours = [tuple("10.0.0.1:0", "10.0.0.2:80", "SYN_SENT")];
        let theirs = [tuple("10.0.0.1:4711", "[::ffff:10.0.0.2]:80", "SYN_SENT")];
        assert_eq!(difference(&ours, &theirs), Difference::default());
    }

    #[test]
    fn a_transition_seen_twice_is_not_one_seen_once() {
        let once = [tuple("10.0.0.1:1", "10.0.0.2:80", "SYN_SENT")];
        let twice = [once[0].clone(), once[0].clone()];
        assert_eq!(difference(&once, &twice).only_second, once);
    }

    #[test]
    fn an_exact_pair_is_never_broken_by_a_wildcard() {
        let ours = [tuple("10.0.0.1:0", "10.0.0.2:80", "X"), tuple("10.0.0.1:5", "10.0.0.2:80", "X")];
        let theirs = [tuple("10.0.0.1:5", "10.0.0.2:80", "X"), tuple("10.0.0.1:6", "10.0.0.2:80", "X")];
        assert_eq!(difference(&ours, &theirs), Difference::default());
    }
}
