//! The rack (zone) a client is in.

use std::net::IpAddr;
use std::sync::Arc;

use crate::protocol::RequestHeader;
use crate::types::RackCidrs;

/// What it said itself comes first: in a Fetch on this connection (`client.rack`), or in its client id; then where its address is.
pub(super) fn of(header: &RequestHeader, by_address: &RackCidrs) -> Option<Arc<str>> {
    let told = header.notes.rack();
    told.or_else(|| in_client_id(header.client_id.as_deref()?).map(Arc::from))
        .or_else(|| by_address.rack_of(address(&header.client_host)?).map(Arc::from))
}

/// The value of the item `zone=` in a client id, as in `client.id=app,zone=eu-1a`: items have commas or semicolons between them.
fn in_client_id(client_id: &str) -> Option<&str> {
    let mut items = client_id.split([',', ';']).map(str::trim);
    items.find_map(|item| item.strip_prefix("zone=")).map(str::trim).filter(|zone| !zone.is_empty())
}

/// As Kafka writes it: `/127.0.0.1`.
fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('/').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::parse_request;

    #[test]
    fn a_zone_in_the_client_id() {
        for (id, zone) in [
            ("zone=a", Some("a")),
            ("app,zone=eu-1a", Some("eu-1a")),
            ("app; zone=b ;x=y", Some("b")),
            ("app", None),
            ("zone=", None),
            ("app,timezone=cet", None),
            ("", None),
        ] {
            assert_eq!(in_client_id(id), zone, "{id}");
        }
    }

    #[test]
    fn what_the_client_says_comes_before_where_it_is() {
        let frame = [&[0, 3, 0, 1, 0, 0, 0, 7, 0, 6][..], b"zone=b", &[0, 0, 0, 0]].concat();
        let mut header = parse_request(frame.into()).expect("a request").header;
        header.client_host = "/10.1.0.7".into();
        let map = RackCidrs::parse("10.1.0.0/16=a").expect("a map");
        assert_eq!(of(&header, &map).as_deref(), Some("b"));
        header.notes.told_rack("");
        header.notes.told_rack("c");
        assert_eq!(of(&header, &map).as_deref(), Some("c"));
        header.notes = crate::protocol::ClientNotes::default();
        header.client_id = Some("app".to_owned());
        assert_eq!(of(&header, &map).as_deref(), Some("a"));
        header.client_host = "/192.168.0.1".into();
        assert_eq!(of(&header, &map), None);
    }
}
