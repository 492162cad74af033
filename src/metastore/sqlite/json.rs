//! Many rows as one parameter: a JSON array of arrays for `json_each`.
//!
//! Only numbers and hexadecimal digits are ever written, so nothing needs escaping.

use std::fmt::Write as _;

use crate::types::TopicPartition;

/// Rows of numbers and blobs.
#[derive(Debug)]
pub(super) struct Rows(String);

impl Rows {
    pub(super) fn new() -> Self {
        Rows("[".to_owned())
    }

    /// Begins a row.
    pub(super) fn row(&mut self) -> Row<'_> {
        self.0.push_str(if self.0.len() == 1 { "[" } else { ",[" });
        Row { text: &mut self.0, empty: true }
    }

    /// The parameter.
    pub(super) fn finish(mut self) -> String {
        self.0.push(']');
        self.0
    }

    /// One row of topic id and partition for each log.
    pub(super) fn of_logs<'a>(logs: impl IntoIterator<Item = &'a TopicPartition>) -> String {
        let mut rows = Rows::new();
        for log in logs {
            rows.row().log(log);
        }
        rows.finish()
    }

    /// One row of one id each.
    pub(super) fn of_ids(ids: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
        let mut rows = Rows::new();
        for id in ids {
            rows.row().blob(id.as_ref());
        }
        rows.finish()
    }
}

/// A row being written; it ends where it is dropped.
#[derive(Debug)]
pub(super) struct Row<'a> {
    text: &'a mut String,
    empty: bool,
}

impl Row<'_> {
    fn separate(&mut self) {
        if !std::mem::replace(&mut self.empty, false) {
            self.text.push(',');
        }
    }

    pub(super) fn int(mut self, value: impl Into<i64>) -> Self {
        self.separate();
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{}", value.into());
        self
    }

    pub(super) fn blob(mut self, bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.separate();
        self.text.push('"');
        self.text.reserve(2 * bytes.len() + 1);
        for byte in bytes {
            self.text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            self.text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        self.text.push('"');
        self
    }

    pub(super) fn log(self, log: &TopicPartition) -> Self {
        self.blob(&log.topic.0).int(log.partition.0)
    }
}

impl Drop for Row<'_> {
    fn drop(&mut self) {
        self.text.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_json() {
        let mut rows = Rows::new();
        rows.row().int(-1).blob(&[0, 0xab]);
        rows.row().int(7);
        assert_eq!(rows.finish(), r#"[[-1,"00ab"],[7]]"#);
        assert_eq!(Rows::new().finish(), "[]");
    }
}
