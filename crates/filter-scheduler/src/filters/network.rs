//! SimpleCIDRAffinityFilter: hosts near an address.

use std::fmt;
use std::net::IpAddr;

use serde_json::Value;

use crate::filters::tally::Passes;
use crate::nova::json::Json;
use crate::nova::python;

/// An address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    prefix: u32,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Network {
    /// Joins the hints `build_near_host_ip` and `cidr` into one text, as Nova does, and reads it. `None` without the
    /// first. An error where Nova raises an exception at every host.
    pub(super) fn of_hints(near: Option<&Value>, cidr: Option<&Value>) -> Option<Result<Self, String>> {
        let text = |hint: Option<&Value>| match hint {
            Some(Value::Array(items)) if items.len() == 1 => items.first().cloned(),
            other => other.cloned(),
        };
        let (near, cidr) = match (text(near), text(cidr)) {
            (None | Some(Value::Null), _) => return None,
            (Some(Value::String(near)), _) if near.is_empty() => return None,
            (Some(Value::Array(items)), _) if items.is_empty() => return None,
            (Some(Value::String(near)), None) => (near, "/24".to_owned()),
            (Some(Value::String(near)), Some(Value::String(cidr))) => (near, cidr),
            _ => return Some(Err("build_near_host_ip and cidr must be strings".to_owned())),
        };
        let text = near + &cidr;
        Some(Self::parse(&text).ok_or_else(|| format!("{text:?} is not a network")))
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, suffix) = match text.split_once('/') {
            Some((address, suffix)) => (address, Some(suffix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match suffix {
            None => width,
            Some(suffix) => match python::int(suffix) {
                Some(prefix) => u32::try_from(prefix).ok().filter(|prefix| *prefix <= width)?,
                None => mask(suffix.parse().ok()?, address.is_ipv4())?,
            },
        };
        Some(Self { address, prefix })
    }

    /// Whether a reported `host_ip` is in the network. An error if it is not an address.
    pub(super) fn holds(self, host_ip: &Json) -> Passes {
        let Json::Text(text) = host_ip else { return Err(format!("host_ip is {}", host_ip.text())) };
        let host: IpAddr = text.parse().map_err(|_| format!("host_ip {text:?} is not an IP address"))?;
        if host.is_ipv4() != self.address.is_ipv4() {
            return Ok(false);
        }
        let unused = if host.is_ipv4() { 32 } else { 128 } - self.prefix;
        Ok((number(host) ^ number(self.address)).checked_shr(unused).unwrap_or(0) == 0)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The prefix length that a netmask, or else a wildcard mask, stands for.
fn mask(mask: IpAddr, v4: bool) -> Option<u32> {
    if mask.is_ipv4() != v4 {
        return None;
    }
    let width = if v4 { 32 } else { 128 };
    let all = if v4 { u128::from(u32::MAX) } else { u128::MAX };
    let wild = |number: u128| (number & number.wrapping_add(1) == 0).then(|| width - number.count_ones());
    wild(number(mask) ^ all).or_else(|| wild(number(mask)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn networks_are_read_as_nova_reads_them() {
        for (near, cidr, host, holds) in [
            ("10.0.0.33", "/30", "10.0.0.34", true),
            ("10.0.0.33", "/30", "10.0.0.36", false),
            ("192.168.1.1", "24", "192.168.1.124", true),
            ("192.168.1.1", "24", "192.168.1.1", false),
            ("10.0.0.1", "/255.255.255.0", "10.0.0.200", true),
            ("10.0.0.1", "/0.0.0.255", "10.0.1.1", false),
            ("10.0.0.1", "/0", "200.0.0.1", true),
            ("10.0.0.1", "/0", "::1", false),
            ("fe80::1", "/64", "fe80::2", true),
            ("fe80::1", "/128", "fe80::2", false),
        ] {
            let network = Network::of_hints(Some(&json!([near])), Some(&json!(cidr))).unwrap().unwrap();
            assert_eq!(network.holds(&Json::Text(host.into())), Ok(holds), "{near}{cidr} {host}");
        }
        for (near, cidr) in
            [("10.0.1", "/24"), ("10.0.0.01", "/24"), ("10.0.0.1", "/33"), ("10.0.0.1", "/"), ("x", "")]
        {
            let network = Network::of_hints(Some(&json!(near)), Some(&json!(cidr))).unwrap();
            assert!(network.is_err(), "{near}{cidr}");
        }
        assert_eq!(Network::of_hints(None, Some(&json!("/24"))), None);
        let default = Network::of_hints(Some(&json!("10.0.0.1")), None).unwrap().unwrap();
        assert_eq!(default.prefix, 24);
        assert!(default.holds(&Json::Text("".into())).is_err() && default.holds(&Json::Null).is_err());
    }
}
