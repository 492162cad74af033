//! Names of groups and members, from the wire and back.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;

use crate::types::MemberId;

/// `None` for the empty string, by which clients say that they have no id yet.
pub(super) fn member(id: &StrBytes) -> Option<MemberId> {
    (!id.is_empty()).then(|| MemberId(id.as_str().into()))
}

pub(super) fn instance(id: Option<&StrBytes>) -> Option<Arc<str>> {
    id.map(|id| id.as_str().into())
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
