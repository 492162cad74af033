//! Record batches made and read by hand, so that the broker's code is not checked with itself.

use bytes::Bytes;
use yaks::oracle::history::{Content, Fingerprint, Observed, RecordId};
use yaks::types::{BatchSummary, Offset, ProducerEpoch, ProducerId, ProducerStamp, Sequence, Timestamp};

const HEADER: usize = 61;

/// One record to be sent: its value names it.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: RecordId,
    pub(crate) value: Vec<u8>,
    pub(crate) timestamp: i64,
}

impl Record {
    pub(crate) fn new(id: RecordId, padding: usize, timestamp: i64) -> Record {
        let mut value = format!("{}:{}:", id.producer, id.sequence).into_bytes();
        value.extend(std::iter::repeat_n(b'a' + (id.sequence % 26) as u8, padding));
        Record { id, value, timestamp }
    }

    fn key(&self) -> Vec<u8> {
        format!("k{}", self.id.producer).into_bytes()
    }

    pub(crate) fn content(&self) -> Content {
        content(Some(&self.key()), Some(&self.value), self.timestamp)
    }

    fn encode(&self, delta: i64, base_timestamp: i64, out: &mut Vec<u8>) {
        let mut body = vec![0];
        put_varint(self.timestamp - base_timestamp, &mut body);
        put_varint(delta, &mut body);
        for field in [&self.key(), &self.value] {
            put_varint(field.len() as i64, &mut body);
            body.extend(field);
        }
        put_varint(0, &mut body);
        put_varint(body.len() as i64, out);
        out.extend(body);
    }
}

fn content(key: Option<&[u8]>, value: Option<&[u8]>, timestamp: i64) -> Content {
    Content {
        key: Fingerprint::of(key),
        value: Fingerprint::of(value),
        headers: Fingerprint::of_headers([]),
        timestamp: Timestamp(timestamp),
    }
}

/// A batch as a producer sends it, and what a broker's check would say of it.
pub(crate) fn batch(records: &[Record], producer: Option<(i64, i16, Sequence)>) -> (BatchSummary, Bytes) {
    let base_timestamp = records.first().map_or(0, |r| r.timestamp);
    let max_timestamp = records.iter().map(|r| r.timestamp).max().unwrap_or(0);
    let stamp =
        |(id, epoch, base_sequence)| ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence, transactional: false };
    let mut summary = BatchSummary {
        len: 0,
        record_count: records.len() as u32,
        base_timestamp: Timestamp(base_timestamp),
        max_timestamp: Timestamp(max_timestamp),
        producer: producer.map(stamp),
    };
    let bytes = framed(&body(records, &summary));
    summary.len = bytes.len() as u32;
    (summary, bytes)
}

/// What the CRC covers: from the attributes on.
fn body(records: &[Record], summary: &BatchSummary) -> Vec<u8> {
    let (id, epoch, sequence) = summary.producer.map_or((-1, -1, -1), |p| (p.id.0, p.epoch.0, p.base_sequence.0));
    let (count, base) = (records.len() as i32, summary.base_timestamp.0);
    let mut body = Vec::new();
    body.extend(0u16.to_be_bytes());
    body.extend((count - 1).to_be_bytes());
    body.extend(base.to_be_bytes());
    body.extend(summary.max_timestamp.0.to_be_bytes());
    body.extend(id.to_be_bytes());
    body.extend(epoch.to_be_bytes());
    body.extend(sequence.to_be_bytes());
    body.extend(count.to_be_bytes());
    for (delta, record) in (0..).zip(records) {
        record.encode(delta, base, &mut body);
    }
    body
}

fn framed(body: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(21 + body.len());
    bytes.extend(0i64.to_be_bytes());
    bytes.extend((body.len() as i32 + 9).to_be_bytes());
    bytes.extend((-1i32).to_be_bytes());
    bytes.push(2);
    bytes.extend(crc32c::crc32c(body).to_be_bytes());
    bytes.extend(body);
    Bytes::from(bytes)
}

/// The records of one answer, and how many batches they came in.
#[derive(Debug, Default)]
pub(crate) struct RecordSet {
    pub(crate) records: Vec<Observed>,
    pub(crate) batches: usize,
}

/// Reads a record set as a consumer does: every batch checked, every record with its offset.
pub(crate) fn read(pieces: &[Bytes]) -> Result<RecordSet, String> {
    let joined = pieces.concat();
    let (mut rest, mut set) = (&joined[..], RecordSet::default());
    while !rest.is_empty() {
        let len = 12 + int(rest, 8).ok_or("a batch ends within its head")? as usize;
        let batch = rest.get(..len).filter(|b| b.len() > HEADER).ok_or("a batch is cut")?;
        read_batch(batch, &mut set.records)?;
        set.batches += 1;
        rest = &rest[len..];
    }
    Ok(set)
}

fn read_batch(batch: &[u8], out: &mut Vec<Observed>) -> Result<(), String> {
    let short = || "a batch is too short".to_owned();
    let base_offset = long(batch, 0).ok_or_else(short)?;
    if batch[16] != 2 || batch[12..16] != [0; 4] {
        return Err(format!("the batch at {base_offset} has magic {} and leader epoch {:?}", batch[16], &batch[12..16]));
    }
    if crc32c::crc32c(&batch[21..]) as i32 != int(batch, 17).ok_or_else(short)? {
        return Err(format!("the batch at {base_offset} has a wrong CRC"));
    }
    let base_timestamp = long(batch, 27).ok_or_else(short)?;
    let mut rest = &batch[HEADER..];
    for _ in 0..int(batch, 57).ok_or_else(short)? {
        out.push(read_record(&mut rest, base_offset, base_timestamp).ok_or_else(|| format!("a record at {base_offset} is cut"))?);
    }
    if rest.is_empty() { Ok(()) } else { Err(format!("bytes follow the records of the batch at {base_offset}")) }
}

fn read_record(rest: &mut &[u8], base_offset: i64, base_timestamp: i64) -> Option<Observed> {
    let len = usize::try_from(varint(rest)?).ok()?;
    let mut body = rest.get(..len)?;
    *rest = &rest[len..];
    body = &body[1..];
    let timestamp = base_timestamp + varint(&mut body)?;
    let offset = Offset(base_offset + varint(&mut body)?);
    let (key, value) = (field(&mut body)?, field(&mut body)?);
    Some(Observed { offset, id: identity(&value), content: content(Some(&key), Some(&value), timestamp) })
}

fn identity(value: &[u8]) -> Option<RecordId> {
    let mut parts = std::str::from_utf8(value).ok()?.splitn(3, ':');
    Some(RecordId { producer: parts.next()?.parse().ok()?, sequence: parts.next()?.parse().ok()? })
}

fn field(body: &mut &[u8]) -> Option<Vec<u8>> {
    let len = usize::try_from(varint(body)?).ok()?;
    let bytes = body.get(..len)?.to_vec();
    *body = &body[len..];
    Some(bytes)
}

fn int(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..at + 4)?.try_into().ok().map(i32::from_be_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<i64> {
    bytes.get(at..at + 8)?.try_into().ok().map(i64::from_be_bytes)
}

fn put_varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[test]
fn what_is_made_by_hand_passes_the_check_and_is_read_back() {
    use yaks::records::batch::{BatchLimits, check};
    let records: Vec<Record> = (0..3).map(|i| Record::new(RecordId { producer: 7, sequence: i }, 20, 1_000 + i as i64)).collect();
    let (summary, bytes) = batch(&records, Some((5, 1, Sequence(i32::MAX))));
    assert_eq!(check(&bytes, &BatchLimits { max_bytes: 1 << 20, zstd: true }), Ok(summary));
    let mut served = bytes.to_vec();
    served[12..16].fill(0);
    let set = read(&[Bytes::from(served)]).expect("readable");
    assert_eq!(set.records.iter().map(|r| r.id).collect::<Vec<_>>(), records.iter().map(|r| Some(r.id)).collect::<Vec<_>>());
    assert_eq!(set.records[1].content, records[1].content());
}
