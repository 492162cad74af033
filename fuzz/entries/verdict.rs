//! A stored verdict.

use yaks::partition::ObjectVerdict;

/// True if it can be read.
pub(crate) fn run(data: &[u8]) -> bool {
    let Ok(verdict) = ObjectVerdict::decode(data) else { return false };
    assert_eq!(verdict.encode(), data, "there is one way to write a verdict");
    true
}
