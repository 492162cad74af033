//! Small objects, stored with their events (docs/adr/0003-small-objects-with-their-events.md).

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row as _, Sqlite};

use super::errors::{committing, reading};
use super::json::Rows;
use super::{SqliteMetastore, rows};
use crate::metastore::{InlinedObjects, Result};
use crate::types::ObjectId;

/// Larger objects have files of their own: here each byte is written twice, once to the log and once to its place.
pub(super) const MAX: u64 = 32 << 10;

/// An object whose event waits for a round.
pub(super) fn insert(object: ObjectId, body: &[u8]) -> Query<'_, Sqlite, SqliteArguments> {
    let insert = sqlx::query("INSERT INTO inlined_objects (place, body) VALUES (?1, ?2) ON CONFLICT (place) DO NOTHING");
    insert.bind(object.place().to_vec()).bind(body)
}

#[async_trait]
impl InlinedObjects for SqliteMetastore {
    async fn inlined_object(&self, object: ObjectId) -> Result<Option<Bytes>> {
        let find = sqlx::query("SELECT body FROM inlined_objects WHERE place = ?1").bind(object.place().to_vec());
        let found = find.fetch_optional(self.readers()).await.map_err(reading)?;
        found.map(|row| row.try_get::<Vec<u8>, _>("body").map(Bytes::from).map_err(reading)).transpose()
    }

    async fn list_inlined(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<(ObjectId, u64)>> {
        let list = sqlx::query(
            "SELECT substr(place, 2) AS object_id, length(body) AS bytes FROM inlined_objects WHERE place > ?1 ORDER BY place LIMIT ?2",
        );
        let list = list.bind(after.map_or_else(Vec::new, |object| object.place().to_vec())).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let listed = list.fetch_all(self.readers()).await.map_err(reading)?;
        listed.iter().map(|row| Ok((rows::object(row)?, rows::size(row, "bytes")?))).collect::<std::result::Result<_, _>>().map_err(reading)
    }

    async fn delete_inlined(&self, objects: &[ObjectId]) -> Result<()> {
        let delete = sqlx::query("DELETE FROM inlined_objects WHERE place IN (SELECT unhex(value ->> 0) FROM json_each(?1))");
        let delete = delete.bind(Rows::of_ids(objects.iter().map(ObjectId::place)));
        delete.execute(&mut *self.writer().await?).await.map(drop).map_err(committing)
    }
}
