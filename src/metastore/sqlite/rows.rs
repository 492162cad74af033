//! Columns back into words.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::types::{ByteRange, Head, ObjectId, Offset, Segment, Timestamp, TopicId, TopicPartition};

type Decoded<T> = Result<T, sqlx::Error>;

pub(super) fn id(row: &SqliteRow, column: &'static str) -> Decoded<[u8; 16]> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| wrong(column, "an id is not 16 bytes long"))
}

pub(super) fn secret(bytes: &[u8]) -> Decoded<[u8; 32]> {
    bytes.try_into().map_err(|_| wrong("peer_secrets", "a secret is not 32 bytes long"))
}

pub(super) fn object(row: &SqliteRow) -> Decoded<ObjectId> {
    id(row, "object_id").map(ObjectId)
}

pub(super) fn topic(row: &SqliteRow, column: &'static str) -> Decoded<TopicId> {
    id(row, column).map(TopicId)
}

pub(super) fn log(row: &SqliteRow) -> Decoded<TopicPartition> {
    Ok(TopicPartition::new(topic(row, "topic_id")?, row.try_get("partition")?))
}

/// A number that is never negative.
pub(super) fn size<T: TryFrom<i64>>(row: &SqliteRow, column: &'static str) -> Decoded<T> {
    T::try_from(row.try_get(column)?).map_err(|_| wrong(column, "a number is out of its range"))
}

pub(super) fn timestamp(row: &SqliteRow, column: &'static str) -> Decoded<Timestamp> {
    row.try_get(column).map(Timestamp)
}

pub(super) fn offset(row: &SqliteRow, column: &'static str) -> Decoded<Offset> {
    row.try_get(column).map(Offset)
}

pub(super) fn head(row: &SqliteRow) -> Decoded<Head> {
    Ok(Head {
        log_start: offset(row, "log_start")?,
        high_watermark: offset(row, "high_watermark")?,
        last_stable: offset(row, "last_stable")?,
        max_timestamp: timestamp(row, "head_max_timestamp")?,
        bytes: size(row, "bytes")?,
    })
}

pub(super) fn segment(row: &SqliteRow, log: TopicPartition) -> Decoded<Segment> {
    Ok(Segment {
        log,
        base_offset: offset(row, "base_offset")?,
        last_offset: offset(row, "last_offset")?,
        object: object(row)?,
        range: ByteRange { start: size(row, "byte_start")?, len: size(row, "byte_len")? },
        record_count: size(row, "record_count")?,
        max_timestamp: timestamp(row, "max_timestamp")?,
        max_timestamp_so_far: timestamp(row, "max_timestamp_so_far")?,
        level: size(row, "level")?,
    })
}

pub(super) fn wrong(column: &'static str, what: &'static str) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: what.into() }
}
