//! Who may shake hands now: so many in all, and so many of one address, so that no stranger keeps
//! the others out. Does not know what a handshake is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Handshakes that go on at the same time. One more connection is closed at once.
pub(super) const MAX_HANDSHAKES: usize = 256;

/// The same of one address, which for IPv6 is its network of 64 bits. This machine's own addresses
/// are not counted apart: whole clusters live there.
pub(super) const MAX_HANDSHAKES_PER_ADDRESS: usize = 32;

/// Lets connections in.
#[derive(Clone, Default)]
pub(super) struct Doors(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One that was let in, until this is dropped.
pub(super) struct Guest {
    doors: Doors,
    /// None: of this machine.
    address: Option<IpAddr>,
}

/// Why one is not let in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("{MAX_HANDSHAKES} are shaking hands")]
    Full,
    #[error("{MAX_HANDSHAKES_PER_ADDRESS} of that address are shaking hands")]
    FullOfIt,
}

impl Doors {
    pub(super) fn enter(&self, from: IpAddr) -> Result<Guest, Refused> {
        let address = counted(from);
        let mut inside = self.0.lock();
        if inside.all >= MAX_HANDSHAKES {
            return Err(Refused::Full);
        }
        if let Some(address) = address {
            let of_it = inside.by_address.entry(address).or_default();
            if *of_it >= MAX_HANDSHAKES_PER_ADDRESS {
                return Err(Refused::FullOfIt);
            }
            *of_it += 1;
        }
        inside.all += 1;
        let doors = self.clone();
        Ok(Guest { doors, address })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut inside = self.doors.0.lock();
        inside.all -= 1;
        if let Some(address) = self.address
            && let Some(of_it) = inside.by_address.get_mut(&address)
        {
            *of_it -= 1;
            if *of_it == 0 {
                inside.by_address.remove(&address);
            }
        }
    }
}

/// What is counted as one.
fn counted(from: IpAddr) -> Option<IpAddr> {
    match from.to_canonical() {
        from if from.is_loopback() => None,
        from @ IpAddr::V4(_) => Some(from),
        IpAddr::V6(from) => {
            let network = from.to_bits() >> 64 << 64;
            Some(Ipv6Addr::from_bits(network).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_does_not_keep_the_others_out() {
        let doors = Doors::default();
        let enter = |text: &str| doors.enter(from(text));
        let mut guests = Vec::new();
        for _ in 0..MAX_HANDSHAKES_PER_ADDRESS {
            guests.push(enter("10.0.0.1").unwrap());
        }
        for same in ["10.0.0.1", "::ffff:10.0.0.1"] {
            assert_eq!(enter(same).err(), Some(Refused::FullOfIt));
        }
        guests.push(enter("10.0.0.2").unwrap());
        // One that is done makes room.
        guests.remove(0);
        guests.push(enter("10.0.0.1").unwrap());
        assert_eq!(enter("10.0.0.1").err(), Some(Refused::FullOfIt));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let doors = Doors::default();
        let guests: Vec<_> = (0..MAX_HANDSHAKES_PER_ADDRESS)
            .map(|host| doors.enter(from(&format!("2001:db8:0:1::{host:x}"))))
            .collect();
        assert!(guests.iter().all(Result::is_ok));
        let other = doors.enter(from("2001:db8:0:1:ffff::1"));
        assert_eq!(other.err(), Some(Refused::FullOfIt));
        assert!(doors.enter(from("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn this_machine_is_bounded_by_all_there_may_be() {
        let doors = Doors::default();
        let guests: Vec<_> = (0..MAX_HANDSHAKES)
            .map(|_| doors.enter(from("127.0.0.1")))
            .collect();
        assert!(guests.iter().all(Result::is_ok));
        for any in ["127.0.0.1", "10.0.0.1"] {
            assert_eq!(doors.enter(from(any)).err(), Some(Refused::Full));
        }
        drop(guests);
        assert!(doors.enter(from("10.0.0.1")).is_ok());
        assert!(doors.0.lock().by_address.is_empty());
    }
}
