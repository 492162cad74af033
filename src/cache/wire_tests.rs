use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const CHUNK: u64 = 4 << 20;

fn secrets() -> Secrets {
    Secrets { current: Secret::new(b"new"), previous: Some(Secret::new(b"old")) }
}

fn ask(start: u64, len: u64) -> Ask {
    Ask { object: ObjectId(*b"0123456789abcdef"), range: ByteRange { start, len }, held_only: false }
}

/// What the other side reads.
fn travelled(request: &Request) -> Result<Request, Refusal> {
    let headers = request.headers();
    Request::read("GET", &request.path, |name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()))
}

proptest! {
    #[test]
    fn a_signed_request_is_read_as_it_was_meant(object: [u8; 16], start in 0..u64::MAX / 2, len in 1..CHUNK, held_only: bool, old: bool) {
        let ask = Ask { object: ObjectId(object), range: ByteRange { start, len }, held_only };
        let secret = Secret::new(if old { b"old" } else { b"new" });
        let read = travelled(&Request::new(ask, NOW, &secret)).expect("readable");
        prop_assert_eq!(read.verify(&secrets(), NOW).cloned(), Ok(secret));
        prop_assert_eq!(read.ask(CHUNK), Ok(ask));
    }

    #[test]
    fn whatever_comes_is_refused_and_never_a_panic(path in ".{0,80}", range in ".{0,40}", signature in ".{0,90}", time in ".{0,20}") {
        let header = |name: &str| match name {
            RANGE_HEADER => Some(range.as_str()),
            SIGNATURE_HEADER => Some(signature.as_str()),
            TIME_HEADER => Some(time.as_str()),
            _ => None,
        };
        prop_assert!(Request::read("GET", &path, header).is_err());
        let request = Request { path, range, held_only: false, time: NOW.0, signature: [0; 32] };
        prop_assert_eq!(request.verify(&secrets(), NOW).cloned(), Err(Refusal::Signature));
        prop_assert!(request.ask(CHUNK).is_err());
    }

    #[test]
    fn a_seal_is_read_back_and_not_when_a_bit_is_changed(len: u64, crc: u32, verdict in 0usize..5, bit in 0usize..Seal::LEN * 8, other: [u8; 32]) {
        let (seal, secret, request) = (Seal { verdict: VERDICTS[verdict], len, crc }, Secret::new(b"s"), [9; 32]);
        let mut bytes: [u8; Seal::LEN] = seal.encode(&secret, &request).as_ref().try_into().expect("its length");
        prop_assert_eq!(Seal::decode(&bytes, &secret, &request), Some(seal));
        prop_assert_eq!(Seal::decode(&bytes, &Secret::new(b"t"), &request), None);
        prop_assert_eq!(Seal::decode(&bytes, &secret, &other), None);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Seal::decode(&bytes, &secret, &request), None);
    }
}

#[test]
fn every_part_of_a_request_is_signed() {
    let good = Request::new(ask(0, 10), NOW, &Secret::new(b"new"));
    let other = Request::new(ask(0, 11), NOW, &Secret::new(b"new"));
    let changed = [
        Request { path: "/data/00/other".to_owned(), ..good.clone() },
        Request { range: other.range, ..good.clone() },
        Request { held_only: true, ..good.clone() },
        Request { time: NOW.0 + 1, ..good.clone() },
        Request::new(ask(0, 10), NOW, &Secret::new(b"wrong")),
    ];
    for request in changed {
        assert_eq!(request.verify(&secrets(), NOW), Err(Refusal::Signature), "{request:?}");
    }
    assert_eq!(good.verify(&secrets(), NOW), Ok(&Secret::new(b"new")));
}

#[test]
fn a_request_is_good_for_minutes() {
    let request = Request::new(ask(0, 10), NOW, &Secret::new(b"new"));
    for minutes in [-6, 6] {
        assert_eq!(request.verify(&secrets(), Timestamp(NOW.0 + minutes * 60_000)), Err(Refusal::Time));
    }
    for minutes in [-4, 4] {
        assert!(request.verify(&secrets(), Timestamp(NOW.0 + minutes * 60_000)).is_ok());
    }
}

#[test]
fn only_ranges_of_objects_up_to_a_chunk_are_served() {
    let good = Request::new(ask(0, CHUNK), NOW, &Secret::new(b"new"));
    assert!(good.ask(CHUNK).is_ok());
    assert_eq!(good.ask(CHUNK - 1), Err(Refusal::Range));
    let key = ask(0, 1).object.key();
    for path in ["/", "/other/file", "/data/../secret", "/data/00/x", &key, &format!("//{key}"), &format!("/{key}/"), &format!("/x/{key}")]
    {
        assert_eq!(Request { path: path.to_owned(), ..good.clone() }.ask(CHUNK), Err(Refusal::Key), "{path}");
    }
    let most = u64::MAX;
    for range in [
        "",
        "bytes=",
        "bytes=5-4",
        "bytes=-5",
        "bytes=5-",
        "bytes=0-1,5-6",
        "0-5",
        &format!("bytes=0-{most}"),
        &format!("bytes={most}-{most}"),
    ] {
        assert_eq!(Request { range: range.to_owned(), ..good.clone() }.ask(CHUNK), Err(Refusal::Range), "{range}");
    }
}

#[test]
fn no_secret_is_ever_printed() {
    assert!(!format!("{:?}", Secrets { current: Secret::new(b"hush"), previous: None }).contains("hush"));
}
