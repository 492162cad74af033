//! The end of an object, and its index alone as write events carry it.

use yaks::records::object::{decode_index, encode_index, index_len, read_footer};

/// True if `data` ends an object, or is an index itself.
pub(crate) fn run(data: &[u8]) -> bool {
    let footer = read_footer(data);
    assert!(footer.is_err() || index_len(data).is_ok());
    // Without the checksum in its way the fuzzer gets further.
    let index = decode_index(data);
    let mut good = false;
    for runs in [footer, index].into_iter().flatten() {
        good = true;
        assert_eq!(decode_index(&encode_index(&runs)).as_ref(), Ok(&runs), "what was read can be written and read again");
        for run in &runs {
            assert!(!run.is_empty() && run.start.checked_add(run.len()).is_some());
        }
    }
    good
}
