//! Racks (zones) by address.

use std::net::IpAddr;

/// Which rack an address is in: the narrowest network that holds it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RackCidrs {
    /// Narrowest first.
    networks: Vec<Network>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Network {
    base: IpAddr,
    /// Leading bits that are given.
    prefix: u32,
    rack: String,
}

impl RackCidrs {
    /// Reads `10.1.0.0/16=eu-1a,2001:db8::/32=eu-1b`; a single address needs no `/`. Nothing is an empty map.
    ///
    /// # Errors
    /// What is wrong with which item, in words.
    pub fn parse(text: &str) -> Result<RackCidrs, String> {
        let mut networks: Vec<Network> = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let network = Network::parse(item)?;
            if let Some(other) = networks.iter().find(|other| (other.base, other.prefix) == (network.base, network.prefix)) {
                return Err(format!("{}/{} is given twice, for {} and {}", other.base, other.prefix, other.rack, network.rack));
            }
            networks.push(network);
        }
        networks.sort_by_key(|network| std::cmp::Reverse(network.prefix));
        Ok(RackCidrs { networks })
    }

    #[must_use]
    pub fn rack_of(&self, address: IpAddr) -> Option<&str> {
        let address = address.to_canonical();
        self.networks.iter().find(|network| network.holds(address)).map(|network| network.rack.as_str())
    }
}

impl Network {
    fn parse(item: &str) -> Result<Network, String> {
        let (network, rack) = item.split_once('=').ok_or_else(|| format!("{item:?} is not of the form NETWORK/BITS=RACK"))?;
        let (base, prefix) = network.trim().split_once('/').map_or((network.trim(), None), |(base, prefix)| (base, Some(prefix)));
        let base: IpAddr = base.parse().map_err(|_| format!("{base:?} is not an IPv4 or IPv6 address"))?;
        let most = width(base);
        let prefix = match prefix {
            None => most,
            Some(bits) => {
                bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(|| format!("{network:?}: 0 to {most} bits are allowed"))?
            }
        };
        let network = Network { base, prefix, rack: rack.trim().to_owned() };
        if bits(base) != network.cut(base) {
            return Err(format!("{item:?}: {base} has bits beyond the first {prefix}"));
        }
        if network.rack.is_empty() { Err(format!("{item:?} names no rack")) } else { Ok(network) }
    }

    fn holds(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.base.is_ipv4() && self.cut(address) == bits(self.base)
    }

    /// The bits of an address of this network's family that the network gives; the others are zero.
    fn cut(&self, address: IpAddr) -> u128 {
        let rest = width(self.base) - self.prefix;
        bits(address).checked_shr(rest).and_then(|given| given.checked_shl(rest)).unwrap_or(0)
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rack<'a>(map: &'a RackCidrs, address: &str) -> Option<&'a str> {
        map.rack_of(address.parse().expect("an address"))
    }

    #[test]
    fn the_narrowest_network_says() {
        let map = RackCidrs::parse(" 10.0.0.0/8=big, 10.1.0.0/16=eu-1a ,10.1.2.3=one,2001:db8::/32=six,::/0=any ").expect("a map");
        for (address, expected) in [
            ("10.2.0.1", Some("big")),
            ("10.1.255.255", Some("eu-1a")),
            ("10.1.2.3", Some("one")),
            ("11.0.0.0", None),
            ("2001:db8:1::9", Some("six")),
            ("2001:db9::", Some("any")),
            ("::ffff:10.1.0.1", Some("eu-1a")),
        ] {
            assert_eq!(rack(&map, address), expected, "{address}");
        }
        let all = RackCidrs::parse("0.0.0.0/0=v4").expect("a map");
        assert_eq!((rack(&all, "255.1.2.3"), rack(&all, "::1")), (Some("v4"), None));
        assert_eq!(RackCidrs::parse(""), Ok(RackCidrs::default()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (bad, says) in [
            ("10.1.0.0/16", "form"),
            ("10.1.0.0/33=a", "0 to 32"),
            ("::/129=a", "0 to 128"),
            ("10.1.0.0/x=a", "0 to 32"),
            ("10.1.0.1/16=a", "beyond"),
            ("10.1.0/16=a", "not an IPv4"),
            ("10.1.0.0/16=", "no rack"),
            ("10.1.0.0/16=a,10.1.0.0/16=b", "twice"),
        ] {
            assert!(RackCidrs::parse(bad).is_err_and(|error| error.contains(says)), "{bad}: {:?}", RackCidrs::parse(bad));
        }
    }
}
