//! What peers say to each other: a signed request for a range, an answer that proves where it comes from.
//!
//! A request is an HTTP GET of an object's key with a `range`; `cache-control: only-if-cached` wants the bytes only if they are in memory. `x-yaks-time` and
//! `authorization` carry a signature (HMAC-SHA256 with the shared secret, which itself never travels) over all of that. The answer's body begins with a
//! *seal*: verdict, length and CRC-32C of what follows, signed together with the request's signature. Something else that listens on a
//! peer's address cannot make one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::types::{ByteRange, ObjectId, Timestamp};

pub const TIME_HEADER: &str = "x-yaks-time";
pub const RANGE_HEADER: &str = "range";
pub const SIGNATURE_HEADER: &str = "authorization";
pub const HELD_HEADER: &str = "cache-control";
const HELD_ONLY: &str = "only-if-cached";
const SCHEME: &str = "Yaks-HMAC-SHA256 ";
/// How far the clocks of two agents may lie apart; a request is not accepted longer than this after it was made.
const TIME_TOLERANCE: Duration = Duration::from_mins(5);

/// HMAC-SHA256.
pub type Signature = [u8; 32];

/// What all agents of a cluster know and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    #[must_use]
    pub fn new(bytes: &[u8]) -> Secret {
        Secret(bytes.into())
    }

    /// A key of any length, by way of its hash.
    fn mac(&self) -> Hmac<Sha256> {
        let mut key = [0; 64];
        key[..32].copy_from_slice(&Sha256::digest(&self.0));
        Hmac::new(&key.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The secret in use, and the one before it, which agents accept until all have the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    pub current: Secret,
    pub previous: Option<Secret>,
}

impl Secrets {
    pub(super) fn all(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

/// What is wanted of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub object: ObjectId,
    pub range: ByteRange,
    /// Only if it is in memory.
    pub held_only: bool,
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a GET.
    Method,
    /// No signature at all.
    Unsigned,
    /// Signed with another secret.
    Signature,
    /// Made too long ago, or by a clock too far off.
    Time,
    /// Not the key of an object below the data prefix.
    Key,
    /// No range, or one larger than a chunk.
    Range,
    /// Too many requests at once.
    Busy,
}

impl Refusal {
    /// One word, for the metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::Method => "method",
            Refusal::Unsigned => "unsigned",
            Refusal::Signature => "signature",
            Refusal::Time => "time",
            Refusal::Key => "key",
            Refusal::Range => "range",
            Refusal::Busy => "busy",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Refusal::Method => 405,
            Refusal::Unsigned | Refusal::Signature | Refusal::Time => 401,
            Refusal::Key => 403,
            Refusal::Range => 416,
            Refusal::Busy => 503,
        }
    }
}

/// A request as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    pub range: String,
    pub held_only: bool,
    /// Milliseconds since 1970, by the asker's clock.
    pub time: i64,
    pub signature: Signature,
}

impl Request {
    /// `ask`, signed.
    #[must_use]
    pub fn new(ask: Ask, now: Timestamp, secret: &Secret) -> Request {
        let path = format!("/{}", ask.object.key());
        let last = ask.range.end().saturating_sub(1);
        let range = format!("bytes={}-{last}", ask.range.start);
        Request { path, range, held_only: ask.held_only, time: now.0, signature: [0; 32] }.signed(secret)
    }

    /// The same with the signature it should have.
    #[must_use]
    pub fn signed(self, secret: &Secret) -> Request {
        let signature = self.mac(secret).finalize().into_bytes().into();
        Request { signature, ..self }
    }

    fn mac(&self, secret: &Secret) -> Hmac<Sha256> {
        let Request { path, range, held_only, time, signature: _ } = self;
        let mut mac = secret.mac();
        mac.update(format!("yaks-peer-1\nGET\n{path}\n{range}\n{held_only}\n{time}\n").as_bytes());
        mac
    }

    /// All headers it travels with.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            (RANGE_HEADER, self.range.clone()),
            (TIME_HEADER, self.time.to_string()),
            (SIGNATURE_HEADER, format!("{SCHEME}{}", hex(&self.signature))),
        ];
        if self.held_only {
            headers.push((HELD_HEADER, HELD_ONLY.to_owned()));
        }
        headers
    }

    /// Reads one that came. Nothing in it can be trusted before [`Request::verify`].
    pub fn read<'a>(method: &str, path: &str, header: impl Fn(&str) -> Option<&'a str>) -> Result<Request, Refusal> {
        if method != "GET" {
            return Err(Refusal::Method);
        }
        let signature = header(SIGNATURE_HEADER).and_then(|value| unhex(value.strip_prefix(SCHEME)?)).ok_or(Refusal::Unsigned)?;
        let time = header(TIME_HEADER).and_then(|value| value.parse().ok()).ok_or(Refusal::Unsigned)?;
        let range = header(RANGE_HEADER).unwrap_or_default().to_owned();
        Ok(Request { path: path.to_owned(), range, held_only: header(HELD_HEADER) == Some(HELD_ONLY), time, signature })
    }

    /// The secret it was signed with.
    pub fn verify<'a>(&self, secrets: &'a Secrets, now: Timestamp) -> Result<&'a Secret, Refusal> {
        // Compares in constant time.
        let signed_with = |secret: &&Secret| self.mac(secret).verify_slice(&self.signature).is_ok();
        let secret = secrets.all().find(signed_with).ok_or(Refusal::Signature)?;
        let apart = Duration::from_millis(self.time.abs_diff(now.0));
        if apart <= TIME_TOLERANCE { Ok(secret) } else { Err(Refusal::Time) }
    }

    /// What is wanted: up to `most` bytes of an object.
    pub fn ask(&self, most: u64) -> Result<Ask, Refusal> {
        let object = self.path.strip_prefix('/').and_then(ObjectId::from_key).ok_or(Refusal::Key)?;
        let ends = self.range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or(Refusal::Range)?;
        let (Ok(start), Ok(last)) = (ends.0.parse::<u64>(), ends.1.parse::<u64>()) else { return Err(Refusal::Range) };
        let len = last.checked_sub(start).and_then(|len| len.checked_add(1)).ok_or(Refusal::Range)?;
        if len > most || last == u64::MAX {
            return Err(Refusal::Range);
        }
        Ok(Ask { object, range: ByteRange { start, len }, held_only: self.held_only })
    }
}

/// What became of a request that was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes follow, fewer than asked for if the object ends before.
    Found,
    /// They are not in memory, and only then were they wanted.
    NotHeld,
    /// The object ends before the range begins.
    Beyond,
    /// There is no such object.
    Gone,
    /// The store did not give them.
    Failed,
}

const VERDICTS: [Verdict; 5] = [Verdict::Found, Verdict::NotHeld, Verdict::Beyond, Verdict::Gone, Verdict::Failed];

/// What an answer's body begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    pub verdict: Verdict,
    /// Bytes that follow.
    pub len: u64,
    /// Their CRC-32C.
    pub crc: u32,
}

/// Verdict, length and checksum.
const UNSIGNED_SEAL: usize = 1 + 8 + 4;

impl Seal {
    /// Bytes of a seal.
    pub const LEN: usize = UNSIGNED_SEAL + 32;

    #[must_use]
    pub fn of(verdict: Verdict, pieces: &[Bytes]) -> Seal {
        Seal { verdict, len: pieces.iter().map(|piece| piece.len() as u64).sum(), crc: checksum(pieces) }
    }

    fn mac(unsigned: &[u8], secret: &Secret, request: &Signature) -> Hmac<Sha256> {
        let mut mac = secret.mac();
        mac.update(b"yaks-peer-1 answer\n");
        mac.update(request);
        mac.update(unsigned);
        mac
    }

    /// For the answer to the request with this signature.
    #[must_use]
    pub fn encode(&self, secret: &Secret, request: &Signature) -> Bytes {
        let mut bytes = BytesMut::with_capacity(Seal::LEN);
        let verdict = VERDICTS.iter().position(|verdict| *verdict == self.verdict).unwrap_or(VERDICTS.len());
        bytes.put_u8(verdict as u8);
        bytes.put_u64(self.len);
        bytes.put_u32(self.crc);
        let signature = Seal::mac(&bytes, secret, request).finalize().into_bytes();
        bytes.put_slice(&signature);
        bytes.freeze()
    }

    /// `None` if it is none, or not for this request.
    #[must_use]
    pub fn decode(bytes: &[u8; Seal::LEN], secret: &Secret, request: &Signature) -> Option<Seal> {
        let (unsigned, signature) = bytes.split_at(UNSIGNED_SEAL);
        Seal::mac(unsigned, secret, request).verify_slice(signature).ok()?;
        let verdict = *VERDICTS.get(usize::from(*unsigned.first()?))?;
        let len = u64::from_be_bytes(unsigned.get(1..9)?.try_into().ok()?);
        let crc = u32::from_be_bytes(unsigned.get(9..)?.try_into().ok()?);
        Some(Seal { verdict, len, crc })
    }
}

/// CRC-32C of all pieces.
#[must_use]
pub fn checksum(pieces: &[Bytes]) -> u32 {
    pieces.iter().fold(0, |crc, piece| crc32c::crc32c_append(crc, piece))
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

fn unhex(text: &str) -> Option<Signature> {
    let digits: Option<Vec<u8>> = text.bytes().map(|byte| char::from(byte).to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
