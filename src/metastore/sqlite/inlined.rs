//! Small objects, stored with their events (docs/adr/0003-small-objects-with-their-events.md): in the row of the event, then in that of what was decided.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::Row as _;

use super::SqliteMetastore;
use super::connect::{begin, commit};
use super::errors::reading;
use super::json::Rows;
use crate::metastore::{InlinedObjects, Result};
use crate::types::ObjectId;

/// Larger objects have files of their own: here each byte is written twice, once to the log and once to its place.
pub(super) const MAX: u64 = 32 << 10;

#[async_trait]
impl InlinedObjects for SqliteMetastore {
    async fn inlined_object(&self, object: ObjectId) -> Result<Option<Bytes>> {
        let find = sqlx::query(
            "SELECT inlined FROM objects WHERE object_id = ?1 AND inlined IS NOT NULL \
             UNION ALL SELECT inlined FROM write_events WHERE object_id = ?1 AND inlined IS NOT NULL \
             UNION ALL SELECT inlined FROM set_aside_events WHERE object_id = ?1 AND inlined IS NOT NULL LIMIT 1",
        );
        let found = find.bind(object.0.to_vec()).fetch_optional(self.readers()).await.map_err(reading)?;
        found.map(|row| row.try_get::<Vec<u8>, _>("inlined").map(Bytes::from).map_err(reading)).transpose()
    }

    async fn delete_inlined(&self, objects: &[ObjectId]) -> Result<()> {
        let objects = Rows::of_ids(objects.iter().map(|object| object.0));
        let mut writer = self.writer().await?;
        let mut transaction = begin(&mut writer).await?;
        for table in ["objects", "write_events", "set_aside_events"] {
            let delete = format!(
                "UPDATE {table} SET inlined = NULL WHERE object_id IN (SELECT unhex(value ->> 0) FROM json_each(?1)) AND inlined IS NOT NULL"
            );
            sqlx::query(sqlx::AssertSqlSafe(delete)).bind(&objects).execute(&mut *transaction).await.map_err(reading)?;
        }
        commit(transaction).await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{Connection as _, Executor as _, SqliteConnection};

    use super::*;
    use crate::clock::SystemClock;
    use crate::metastore::Metastore as _;
    use crate::metastore::sqlite::SqliteConfig;
    use crate::metastore::sqlite::connect::migrations;

    /// A database as it was before small objects moved to the rows of what was decided of them.
    async fn with_a_table_of_their_own(file: &Path) {
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("opened");
        migrations().run_to(5, &mut connection).await.expect("migrated");
        let id = |number: u8| format!("x'{}'", format!("{number:02x}").repeat(16));
        for number in 1..=4 {
            let insert = format!("INSERT INTO inlined_objects VALUES (unhex('aa' || hex({})), x'0{number}')", id(number));
            connection.execute(sqlx::AssertSqlSafe(insert)).await.expect("inserted");
        }
        for number in [1, 2, 5] {
            let insert = format!("INSERT INTO objects VALUES ({}, 7, 100 + {number}, 200, 300, x'ab')", id(number));
            connection.execute(sqlx::AssertSqlSafe(insert)).await.expect("inserted");
        }
        let pending = format!("INSERT INTO write_events VALUES (1, {}, 7, 100, x'', 200)", id(3));
        let aside = format!("INSERT INTO set_aside_events VALUES ({}, 7, 100, x'', 200, 'unreadable')", id(4));
        for insert in [pending, aside] {
            connection.execute(sqlx::AssertSqlSafe(insert)).await.expect("inserted");
        }
        connection.close().await.expect("closed");
    }

    #[tokio::test]
    async fn objects_of_a_database_from_before_are_still_there() {
        let directory = tempfile::tempdir().expect("a directory");
        with_a_table_of_their_own(&directory.path().join("metadata.db")).await;
        let opened = SqliteMetastore::open(SqliteConfig::new(directory.path()), Arc::new(SystemClock)).await.expect("opened");
        opened.migrate().await.expect("migrated");
        for number in 1..=4 {
            let found = opened.inlined_object(ObjectId([number; 16])).await.expect("looked");
            assert_eq!(found.as_deref(), Some(&[number][..]), "object {number}");
        }
        assert_eq!(opened.inlined_object(ObjectId([5; 16])).await.expect("looked"), None, "it has a file");
        let rows = sqlx::query("SELECT object_id, bytes FROM objects ORDER BY rowid").fetch_all(opened.readers()).await.expect("read");
        let rows: Vec<(Vec<u8>, i64)> = rows.iter().map(|row| (row.get("object_id"), row.get("bytes"))).collect();
        assert_eq!(rows, [1, 2, 5].map(|number| (vec![number; 16], 100 + i64::from(number))));
    }
}
