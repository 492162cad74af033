//! What each request looks like on the wire, so that it can be checked before it is decoded.
//!
//! The decoder allocates an array as long as its count says before it has seen one element: a count of 2^31 in a request of 30 bytes would
//! end the process. So every request is walked once over its raw bytes; what passes holds as many elements as it says.

use super::wire::{Reader, WireError};

/// How many elements of arrays one request may hold, all arrays together: far above what clients send, and a bound on what decoding allocates.
pub const MAX_ELEMENTS: usize = 250_000;

/// The form of one value.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// So many bytes.
    Fixed(usize),
    /// A string, perhaps null.
    Str,
    /// Bytes with a length of 32 bits, perhaps null.
    Blob,
    /// An array, perhaps null.
    List(&'static Shape),
    Struct(&'static Struct),
    /// A byte that says whether it is there, then the structure.
    Optional(&'static Struct),
}

/// A value that is there in some versions.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    from: i16,
    to: i16,
    shape: Shape,
}

/// Fields in order; in flexible versions tagged fields follow.
#[derive(Debug, Clone, Copy)]
pub struct Struct {
    fields: &'static [Field],
    /// Tags the decoder knows, with their lengths. It reads them by their type and not by the length the client gave, so the two must
    /// agree, or everything behind would be read from another place than was checked. (Not needed where nothing follows.)
    tags: &'static [(u32, usize)],
}

impl Field {
    /// True if the field is there in `version`.
    #[must_use]
    pub fn is_in(&self, version: i16) -> bool {
        (self.from..=self.to).contains(&version)
    }

    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
}

impl Struct {
    #[must_use]
    pub fn fields(&self) -> &'static [Field] {
        self.fields
    }
}

const fn all(shape: Shape) -> Field {
    between(0, i16::MAX, shape)
}

const fn since(from: i16, shape: Shape) -> Field {
    between(from, i16::MAX, shape)
}

const fn between(from: i16, to: i16, shape: Shape) -> Field {
    Field { from, to, shape }
}

const fn plain(fields: &'static [Field]) -> Struct {
    Struct { fields, tags: &[] }
}

const BOOL: Shape = Shape::Fixed(1);
const I8: Shape = Shape::Fixed(1);
const I16: Shape = Shape::Fixed(2);
const I32: Shape = Shape::Fixed(4);
const I64: Shape = Shape::Fixed(8);
const UUID: Shape = Shape::Fixed(16);
const STR: Shape = Shape::Str;
const STRINGS: Shape = Shape::List(&STR);
const INTS: Shape = Shape::List(&I32);

/// Versions 3 and up; see [`super::old_produce`] for those below.
pub const PRODUCE: Struct = plain(&[all(STR), all(I16), all(I32), all(Shape::List(&Shape::Struct(&PRODUCE_TOPIC)))]);
const PRODUCE_TOPIC: Struct =
    plain(&[between(0, 12, STR), since(13, UUID), all(Shape::List(&Shape::Struct(&plain(&[all(I32), all(Shape::Blob)]))))]);

pub const FETCH: Struct = plain(&[
    between(0, 14, I32),
    all(I32),
    all(I32),
    all(I32),
    all(I8),
    since(7, I32),
    since(7, I32),
    all(Shape::List(&Shape::Struct(&FETCH_TOPIC))),
    since(7, Shape::List(&Shape::Struct(&plain(&[between(0, 12, STR), since(13, UUID), all(INTS)])))),
    since(11, STR),
]);
const FETCH_TOPIC: Struct = plain(&[between(0, 12, STR), since(13, UUID), all(Shape::List(&Shape::Struct(&FETCH_PARTITION)))]);
const FETCH_PARTITION: Struct = Struct {
    fields: &[all(I32), since(9, I32), all(I64), since(12, I32), since(5, I64), all(I32)],
    // The replica's directory id and high watermark.
    tags: &[(0, 16), (1, 8)],
};

pub const LIST_OFFSETS: Struct = plain(&[all(I32), since(2, I8), all(Shape::List(&Shape::Struct(&LIST_OFFSETS_TOPIC))), since(10, I32)]);
const LIST_OFFSETS_TOPIC: Struct = plain(&[all(STR), all(Shape::List(&Shape::Struct(&plain(&[all(I32), since(4, I32), all(I64)]))))]);

pub const METADATA: Struct =
    plain(&[all(Shape::List(&Shape::Struct(&plain(&[since(10, UUID), all(STR)])))), since(4, BOOL), between(8, 10, BOOL), since(8, BOOL)]);

pub const OFFSET_COMMIT: Struct =
    plain(&[all(STR), all(I32), all(STR), since(7, STR), between(2, 4, I64), all(Shape::List(&Shape::Struct(&OFFSET_COMMIT_TOPIC)))]);
const OFFSET_COMMIT_TOPIC: Struct =
    plain(&[between(0, 9, STR), since(10, UUID), all(Shape::List(&Shape::Struct(&plain(&[all(I32), all(I64), since(6, I32), all(STR)]))))]);

pub const OFFSET_FETCH: Struct = plain(&[
    between(1, 7, STR),
    between(1, 7, Shape::List(&Shape::Struct(&plain(&[all(STR), all(INTS)])))),
    since(8, Shape::List(&Shape::Struct(&OFFSET_FETCH_GROUP))),
    since(7, BOOL),
]);
const OFFSET_FETCH_GROUP: Struct = plain(&[
    all(STR),
    since(9, STR),
    since(9, I32),
    all(Shape::List(&Shape::Struct(&plain(&[between(0, 9, STR), since(10, UUID), all(INTS)])))),
]);

pub const FIND_COORDINATOR: Struct = plain(&[between(0, 3, STR), since(1, I8), since(4, STRINGS)]);

pub const JOIN_GROUP: Struct = plain(&[
    all(STR),
    all(I32),
    since(1, I32),
    all(STR),
    since(5, STR),
    all(STR),
    all(Shape::List(&Shape::Struct(&plain(&[all(STR), all(Shape::Blob)])))),
    since(8, STR),
]);

pub const HEARTBEAT: Struct = plain(&[all(STR), all(I32), all(STR), since(3, STR)]);

pub const LEAVE_GROUP: Struct =
    plain(&[all(STR), between(0, 2, STR), since(3, Shape::List(&Shape::Struct(&plain(&[all(STR), all(STR), since(5, STR)]))))]);

pub const SYNC_GROUP: Struct = plain(&[
    all(STR),
    all(I32),
    all(STR),
    since(3, STR),
    since(5, STR),
    since(5, STR),
    all(Shape::List(&Shape::Struct(&plain(&[all(STR), all(Shape::Blob)])))),
]);

pub const DESCRIBE_GROUPS: Struct = plain(&[all(STRINGS), since(3, BOOL)]);

pub const LIST_GROUPS: Struct = plain(&[since(4, STRINGS), since(5, STRINGS)]);

pub const DELETE_GROUPS: Struct = plain(&[all(STRINGS)]);

pub const OFFSET_DELETE: Struct =
    plain(&[all(STR), all(Shape::List(&Shape::Struct(&plain(&[all(STR), all(Shape::List(&Shape::Struct(&plain(&[all(I32)]))))]))))]);

pub const CONSUMER_GROUP_HEARTBEAT: Struct = plain(&[
    all(STR),
    all(STR),
    all(I32),
    all(STR),
    all(STR),
    all(I32),
    all(STRINGS),
    since(1, STR),
    all(STR),
    all(Shape::List(&Shape::Struct(&plain(&[all(UUID), all(INTS)])))),
]);

pub const CONSUMER_GROUP_DESCRIBE: Struct = plain(&[all(STRINGS), all(BOOL)]);

pub const API_VERSIONS: Struct = plain(&[since(3, STR), since(3, STR)]);

pub const CREATE_TOPICS: Struct = plain(&[all(Shape::List(&Shape::Struct(&CREATABLE_TOPIC))), all(I32), all(BOOL)]);
const CREATABLE_TOPIC: Struct = plain(&[
    all(STR),
    all(I32),
    all(I16),
    all(Shape::List(&Shape::Struct(&plain(&[all(I32), all(INTS)])))),
    all(Shape::List(&Shape::Struct(&plain(&[all(STR), all(STR)])))),
]);

pub const DELETE_TOPICS: Struct =
    plain(&[since(6, Shape::List(&Shape::Struct(&plain(&[all(STR), all(UUID)])))), between(0, 5, STRINGS), all(I32)]);

pub const INIT_PRODUCER_ID: Struct = plain(&[all(STR), all(I32), since(3, I64), since(3, I16)]);

pub const OFFSET_FOR_LEADER_EPOCH: Struct = plain(&[since(3, I32), all(Shape::List(&Shape::Struct(&OFFSET_FOR_LEADER_TOPIC)))]);
const OFFSET_FOR_LEADER_TOPIC: Struct = plain(&[all(STR), all(Shape::List(&Shape::Struct(&plain(&[all(I32), all(I32), all(I32)]))))]);

pub const DESCRIBE_CONFIGS: Struct =
    plain(&[all(Shape::List(&Shape::Struct(&plain(&[all(I8), all(STR), all(STRINGS)])))), all(BOOL), since(3, BOOL)]);

pub const DESCRIBE_CLUSTER: Struct = plain(&[all(BOOL), since(1, I8), since(2, BOOL)]);

pub const DELETE_RECORDS: Struct = plain(&[all(Shape::List(&Shape::Struct(&DELETE_RECORDS_TOPIC))), all(I32)]);
const DELETE_RECORDS_TOPIC: Struct = plain(&[all(STR), all(Shape::List(&Shape::Struct(&plain(&[all(I32), all(I64)]))))]);

/// Resource type, name, pattern type, principal, host, operation, permission.
const ACL: Struct = plain(&[all(I8), all(STR), all(I8), all(STR), all(STR), all(I8), all(I8)]);
pub const DESCRIBE_ACLS: Struct = ACL;
pub const CREATE_ACLS: Struct = plain(&[all(Shape::List(&Shape::Struct(&ACL)))]);
pub const DELETE_ACLS: Struct = CREATE_ACLS;

pub const ALTER_CONFIGS: Struct = plain(&[all(Shape::List(&Shape::Struct(&ALTER_CONFIGS_RESOURCE))), all(BOOL)]);
const ALTER_CONFIGS_RESOURCE: Struct = plain(&[all(I8), all(STR), all(Shape::List(&Shape::Struct(&plain(&[all(STR), all(STR)]))))]);

pub const INCREMENTAL_ALTER_CONFIGS: Struct = plain(&[all(Shape::List(&Shape::Struct(&INCREMENTAL_RESOURCE))), all(BOOL)]);
const INCREMENTAL_RESOURCE: Struct = plain(&[all(I8), all(STR), all(Shape::List(&Shape::Struct(&plain(&[all(STR), all(I8), all(STR)]))))]);

/// A topic's name and indexes of partitions.
const NAMED_PARTITIONS: Struct = plain(&[all(STR), all(INTS)]);
const LOGS: Shape = Shape::List(&Shape::Struct(&NAMED_PARTITIONS));

pub const DESCRIBE_LOG_DIRS: Struct = plain(&[all(LOGS)]);

pub const CREATE_PARTITIONS: Struct = plain(&[all(Shape::List(&Shape::Struct(&CREATE_PARTITIONS_TOPIC))), all(I32), all(BOOL)]);
const CREATE_PARTITIONS_TOPIC: Struct = plain(&[all(STR), all(I32), all(Shape::List(&Shape::Struct(&plain(&[all(INTS)]))))]);

pub const ELECT_LEADERS: Struct = plain(&[since(1, I8), all(LOGS), all(I32)]);

pub const ALTER_PARTITION_REASSIGNMENTS: Struct = plain(&[all(I32), since(1, BOOL), all(Shape::List(&Shape::Struct(&REASSIGNABLE_TOPIC)))]);
const REASSIGNABLE_TOPIC: Struct = plain(&[all(STR), all(Shape::List(&Shape::Struct(&plain(&[all(I32), all(INTS)]))))]);

pub const LIST_PARTITION_REASSIGNMENTS: Struct = plain(&[all(I32), all(LOGS)]);

pub const DESCRIBE_CLIENT_QUOTAS: Struct = plain(&[all(Shape::List(&Shape::Struct(&plain(&[all(STR), all(I8), all(STR)])))), all(BOOL)]);

pub const DESCRIBE_USER_SCRAM_CREDENTIALS: Struct = plain(&[all(Shape::List(&Shape::Struct(&plain(&[all(STR)]))))]);

pub const UPDATE_FEATURES: Struct = plain(&[all(I32), all(Shape::List(&Shape::Struct(&FEATURE_UPDATE))), since(1, BOOL)]);
const FEATURE_UPDATE: Struct = plain(&[all(STR), all(I16), between(0, 0, BOOL), since(1, I8)]);

pub const DESCRIBE_PRODUCERS: Struct = plain(&[all(LOGS)]);

pub const LIST_CONFIG_RESOURCES: Struct = plain(&[since(1, Shape::List(&I8))]);

pub const DESCRIBE_TOPIC_PARTITIONS: Struct =
    plain(&[all(Shape::List(&Shape::Struct(&plain(&[all(STR)])))), all(I32), all(Shape::Optional(&plain(&[all(STR), all(I32)])))]);

/// Walks the body of a request of `version`; bytes after its end are allowed, as Kafka allows them.
///
/// # Errors
/// What is wrong with the bytes. A body that passes can be decoded without allocating more than a fixed multiple of its own length.
pub fn check(body: &[u8], shape: &Struct, version: i16, flexible: bool) -> Result<(), WireError> {
    let mut walk = Walk { reader: Reader::new(body), version, flexible, elements: 0 };
    walk.structure(shape)
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn structure(&mut self, shape: &Struct) -> Result<(), WireError> {
        let version = self.version;
        for field in shape.fields.iter().filter(|f| f.is_in(version)) {
            self.value(&field.shape)?;
        }
        if self.flexible { self.tags(shape.tags) } else { Ok(()) }
    }

    fn value(&mut self, shape: &Shape) -> Result<(), WireError> {
        match shape {
            Shape::Fixed(len) => self.reader.take(*len).map(drop),
            Shape::Str => {
                let len = self.reader.string_len(self.flexible)?;
                self.reader.take(len.unwrap_or(0)).map(drop)
            }
            Shape::Blob => {
                let len = self.reader.long_len(self.flexible)?;
                self.reader.take(len.unwrap_or(0)).map(drop)
            }
            Shape::List(item) => self.list(item),
            Shape::Struct(inner) => self.structure(inner),
            Shape::Optional(inner) => {
                if self.reader.is_there()? {
                    self.structure(inner)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn list(&mut self, item: &Shape) -> Result<(), WireError> {
        let count = self.reader.count(self.flexible)?.unwrap_or(0);
        self.elements += count;
        if self.elements > MAX_ELEMENTS {
            return Err(WireError::TooManyElements);
        }
        (0..count).try_for_each(|_| self.value(item))
    }

    fn tags(&mut self, known: &[(u32, usize)]) -> Result<(), WireError> {
        for _ in 0..self.reader.uvarint()? {
            let tag = self.reader.uvarint()?;
            let len = self.reader.uvarint()? as usize;
            if known.iter().any(|(known, known_len)| *known == tag && *known_len != len) {
                return Err(WireError::TagLength);
            }
            self.reader.take(len)?;
        }
        Ok(())
    }
}
