//! Columns back into words, and words into arrays of columns.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::types::Uuid;

use crate::types::{ByteRange, Head, ObjectId, Offset, Segment, Timestamp, TopicId, TopicPartition};

pub(super) type Decoded<T> = Result<T, sqlx::Error>;

pub(super) fn uuid(id: [u8; 16]) -> Uuid {
    Uuid::from_bytes(id)
}

pub(super) fn id(row: &PgRow, column: &'static str) -> Decoded<[u8; 16]> {
    row.try_get(column).map(Uuid::into_bytes)
}

pub(super) fn secret(bytes: &[u8]) -> Decoded<[u8; 32]> {
    bytes.try_into().map_err(|_| wrong("peer_secrets", "a secret is not 32 bytes long"))
}

pub(super) fn object(row: &PgRow) -> Decoded<ObjectId> {
    id(row, "object_id").map(ObjectId)
}

pub(super) fn topic(row: &PgRow, column: &'static str) -> Decoded<TopicId> {
    id(row, column).map(TopicId)
}

pub(super) fn log(row: &PgRow) -> Decoded<TopicPartition> {
    Ok(TopicPartition::new(topic(row, "topic_id")?, row.try_get("partition")?))
}

/// A number that is never negative.
pub(super) fn size<T: TryFrom<i64>>(row: &PgRow, column: &'static str) -> Decoded<T> {
    T::try_from(row.try_get(column)?).map_err(|_| wrong(column, "a number is out of its range"))
}

/// As [`size`], for a column of 32 bits.
pub(super) fn small_size(row: &PgRow, column: &'static str) -> Decoded<u32> {
    u32::try_from(row.try_get::<i32, _>(column)?).map_err(|_| wrong(column, "a number is out of its range"))
}

pub(super) fn timestamp(row: &PgRow, column: &'static str) -> Decoded<Timestamp> {
    row.try_get(column).map(Timestamp)
}

pub(super) fn offset(row: &PgRow, column: &'static str) -> Decoded<Offset> {
    row.try_get(column).map(Offset)
}

pub(super) fn head(row: &PgRow) -> Decoded<Head> {
    Ok(Head {
        log_start: offset(row, "log_start")?,
        high_watermark: offset(row, "high_watermark")?,
        last_stable: offset(row, "last_stable")?,
        max_timestamp: timestamp(row, "head_max_timestamp")?,
        bytes: size(row, "bytes")?,
    })
}

pub(super) fn segment(row: &PgRow, log: TopicPartition) -> Decoded<Segment> {
    let level: i16 = row.try_get("level")?;
    Ok(Segment {
        log,
        base_offset: offset(row, "base_offset")?,
        last_offset: offset(row, "last_offset")?,
        object: object(row)?,
        range: ByteRange { start: size(row, "byte_start")?, len: size(row, "byte_len")? },
        record_count: small_size(row, "record_count")?,
        max_timestamp: timestamp(row, "max_timestamp")?,
        max_timestamp_so_far: timestamp(row, "max_timestamp_so_far")?,
        level: u8::try_from(level).map_err(|_| wrong("level", "a number is out of its range"))?,
    })
}

fn wrong(column: &'static str, what: &'static str) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: what.into() }
}

/// Topic ids and partitions as two arrays.
pub(super) fn log_arrays<'a>(logs: impl IntoIterator<Item = &'a TopicPartition>) -> (Vec<Uuid>, Vec<i32>) {
    logs.into_iter().map(|log| (uuid(log.topic.0), log.partition.0)).unzip()
}

pub(super) fn object_array(objects: &[ObjectId]) -> Vec<Uuid> {
    objects.iter().map(|o| uuid(o.0)).collect()
}

/// A limit as SQL counts.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX - 1)
}
