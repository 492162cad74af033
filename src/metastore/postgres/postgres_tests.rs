//! What only Postgres can get wrong. What every metastore promises is in `contract`.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use super::*;
use crate::metastore::contract::Postgres;
use crate::metastore::contract::scene::{WRITER, append, at, object, plain, round, single, stamped, topic, verdicts, whole_log};
use crate::metastore::{Log as _, MetaError, Round};
use crate::types::TopicPartition;

/// A connection beside those of the metastore.
async fn beside(postgres: &Postgres) -> PgConnection {
    postgres.database.options().connect().await.expect("connected")
}

async fn execute(connection: &mut PgConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(connection).await.expect("executed");
}

#[tokio::test]
async fn an_event_that_commits_late_with_a_lower_id_is_not_skipped() {
    let postgres = Postgres::fresh().await;
    let metastore = Arc::clone(&postgres.metastore);
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let late = single(1, log, plain(1));
    let mut slow = beside(&postgres).await;
    let mut transaction = slow.begin().await.expect("begun");
    let insert = sqlx::query("INSERT INTO write_events (object_id, node, object_bytes, body) VALUES ($1, 1, 1, $2) RETURNING id");
    let insert = insert.bind(rows::uuid(late.object.0)).bind(&*late.index);
    let lower: i64 = sqlx::Row::get(&insert.fetch_one(&mut *transaction).await.expect("inserted"), 0);
    append(&metastore, &[single(2, log, plain(1))]).await;
    assert_eq!(round(&metastore).await.events, 1);
    transaction.commit().await.expect("committed, late");
    assert_eq!(round(&metastore).await.events, 1);
    assert_eq!((verdicts(&metastore, 2).await, verdicts(&metastore, 1).await), (Some(vec![at(0)]), Some(vec![at(1)])));
    let higher = sqlx::query("SELECT last_value FROM write_events_id_seq").fetch_one(&mut slow).await.expect("read");
    assert!(sqlx::Row::get::<i64, _>(&higher, 0) > lower);
}

#[tokio::test]
async fn a_repeated_event_that_slipped_in_is_dropped_by_the_round() {
    let postgres = Postgres::fresh().await;
    let metastore = Arc::clone(&postgres.metastore);
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let event = single(1, log, plain(1));
    append(&metastore, std::slice::from_ref(&event)).await;
    round(&metastore).await;
    // As when its look into `objects` came before the round and its insert after.
    let insert = sqlx::query("INSERT INTO write_events (object_id, node, object_bytes, body) VALUES ($1, 1, 1, $2)");
    let insert = insert.bind(rows::uuid(event.object.0)).bind(&*event.index);
    insert.execute(&mut beside(&postgres).await).await.expect("inserted");
    append(&metastore, &[single(2, log, plain(1))]).await;
    assert_eq!(round(&metastore).await.events, 1);
    assert_eq!(metastore.pending_events().await.expect("counted").count, 0);
    assert_eq!(verdicts(&metastore, 2).await, Some(vec![at(1)]));
    assert_eq!(whole_log(&metastore, log).await.len(), 2);
}

/// Its object is settled in the round that finds the repeated event: that must not be taken for a new one.
#[tokio::test]
async fn a_repeated_event_of_a_parked_batch_stops_no_round() {
    let postgres = Postgres::fresh().await;
    let metastore = Arc::clone(&postgres.metastore);
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let early = single(1, log, stamped(7, 5, 1));
    append(&metastore, std::slice::from_ref(&early)).await;
    round(&metastore).await;
    let insert = sqlx::query("INSERT INTO write_events (object_id, node, object_bytes, body) VALUES ($1, 1, 1, $2)");
    let insert = insert.bind(rows::uuid(early.object.0)).bind(&*early.index);
    insert.execute(&mut beside(&postgres).await).await.expect("inserted");
    append(&metastore, &[single(2, log, stamped(7, 0, 5))]).await;
    assert_eq!(round(&metastore).await.events, 1);
    assert_eq!(metastore.pending_events().await.expect("counted").count, 0);
    assert_eq!((verdicts(&metastore, 2).await, verdicts(&metastore, 1).await), (Some(vec![at(0)]), Some(vec![at(5)])));
}

#[tokio::test]
async fn a_lock_whose_holder_hangs_is_given_back() {
    let postgres = Postgres::fresh().await;
    let metastore = Arc::clone(&postgres.metastore);
    let mut cut_off = beside(&postgres).await;
    execute(&mut cut_off, "BEGIN; SELECT only_row FROM materializer FOR UPDATE").await;
    let busy = metastore.run_round(crate::metastore::contract::scene::LIMITS, &crate::metastore::contract::scene::rules()).await;
    assert!(matches!(busy, Ok(Round::Busy)));
    // The setting of every session of ours, in short.
    execute(&mut cut_off, "SET idle_in_transaction_session_timeout = 300").await;
    let mut rounds = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..500 {
        rounds.tick().await;
        let done = metastore.run_round(crate::metastore::contract::scene::LIMITS, &crate::metastore::contract::scene::rules()).await;
        if matches!(done, Ok(Round::Done(_))) {
            return;
        }
    }
    panic!("the lock was never given back");
}

#[tokio::test]
async fn every_session_has_its_limits() {
    let postgres = Postgres::fresh().await;
    let handle = PostgresMetastore::new(postgres.config.clone(), &Tasks::new());
    let mut session = handle.session().await.expect("a session");
    for (setting, value) in [
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("tcp_keepalives_idle", "5"),
        ("synchronous_commit", "on"),
        ("enable_seqscan", "off"),
    ] {
        let shown = session.fetch_all(sqlx::query("SELECT current_setting($1)").bind(setting)).await.expect("shown");
        assert_eq!(sqlx::Row::get::<String, _>(&shown[0], 0), value, "{setting}");
    }
}

#[tokio::test]
async fn a_session_left_in_the_middle_is_closed() {
    let postgres = Postgres::fresh().await;
    let mut config = postgres.config.clone();
    config.max_connections = 1;
    let handle = PostgresMetastore::new(config, &Tasks::new());
    let backend = async |session: &mut session::Session| {
        let row = session.fetch_all(sqlx::query("SELECT pg_backend_pid()")).await.expect("a number");
        sqlx::Row::get::<i32, _>(&row[0], 0)
    };
    let mut session = handle.session().await.expect("a session");
    let first = backend(&mut session).await;
    drop(session);
    let mut session = handle.session().await.expect("a session");
    assert_eq!(backend(&mut session).await, first, "a session that was left in order is used again");
    assert!(session.begin_round().await.expect("begun"));
    drop(session);
    let mut session = handle.session().await.expect("a session");
    let second = backend(&mut session).await;
    assert_ne!(second, first);
    // And one whose caller went away in the middle of a statement.
    let slow = session.fetch_all(sqlx::query("SELECT pg_sleep(30)"));
    tokio::time::timeout(Duration::from_millis(50), slow).await.expect_err("it is slow");
    drop(session);
    let mut session = handle.session().await.expect("a session, soon");
    assert_ne!(backend(&mut session).await, second);
    assert!(session.begin_round().await.expect("nobody holds the lock"));
}

#[tokio::test]
async fn a_statement_ends_in_time() {
    let postgres = Postgres::fresh().await;
    let mut config = postgres.config.clone();
    config.statement_timeout = Duration::from_millis(100);
    let handle = PostgresMetastore::new(config, &Tasks::new());
    let mut session = handle.session().await.expect("a session");
    let failure = session.fetch_all(sqlx::query("SELECT pg_sleep(30)")).await.expect_err("it takes too long");
    assert!(matches!(errors::committing(failure), MetaError::Unavailable(_)), "the server says that it cancelled");
}

#[tokio::test]
async fn nothing_fails_before_it_is_asked_and_then_it_says_why() {
    let mut config = PostgresConfig::new("127.0.0.1", 1, "nobody", "secret-password", "nothing");
    config.acquire_timeout = Duration::from_millis(200);
    let metastore = PostgresMetastore::new(config, &Tasks::new());
    let MetaError::Unavailable(why) = metastore.check().await.expect_err("nobody listens") else { panic!("it may come up") };
    assert!(why.contains("refused"), "{why}");
    assert!(matches!(metastore.append(&[], WRITER).await, Err(MetaError::Unavailable(_))));
    assert!(!format!("{metastore:?} {}", metastore.describe()).contains("secret-password"));
}

#[tokio::test]
async fn a_wrong_database_is_refused() {
    let postgres = Postgres::fresh().await;
    let mut config = postgres.config.clone();
    config.database = "no_such_database".to_owned();
    let refused = PostgresMetastore::new(config, &Tasks::new()).check().await.expect_err("there is none");
    assert!(matches!(&refused, MetaError::Refused(why) if why.contains("no_such_database")), "{refused}");
}

#[tokio::test]
async fn a_schema_is_made_once_and_checked() {
    let postgres = Postgres::empty().await;
    let (here, there) = (Arc::clone(&postgres.metastore), postgres.handle());
    let MetaError::Schema(why) = here.check_schema().await.expect_err("there is none") else { panic!("a question of schema") };
    assert!(why.contains("yaks migrate"), "{why}");
    assert!(matches!(here.pending_events().await, Err(MetaError::Schema(why)) if why.contains("yaks migrate")));
    let (a, b) = tokio::join!(here.migrate(), there.migrate());
    a.and(b).expect("migrated, twice at a time");
    here.check_schema().await.expect("it fits");
    here.migrate().await.expect("nothing to do");

    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', true, '', 0)";
    execute(&mut beside(&postgres).await, newer).await;
    for refused in [here.migrate().await, here.check_schema().await] {
        assert!(matches!(&refused, Err(MetaError::Schema(why)) if why.contains("newer yaks")), "{refused:?}");
    }
}

#[tokio::test]
async fn a_lost_listener_comes_back_and_says_look() {
    let postgres = Postgres::fresh().await;
    let metastore = Arc::clone(&postgres.metastore);
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let mut changes = metastore.subscribe_changes();
    assert!(matches!(changes.recv().await, Some(Change::Unknown)), "it listens");
    append(&metastore, &[single(1, log, plain(1))]).await;
    round(&metastore).await;
    assert!(matches!(changes.recv().await, Some(Change::Heads(heads)) if heads.len() == 1));
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    execute(&mut beside(&postgres).await, kill).await;
    assert!(matches!(changes.recv().await, Some(Change::Unknown)), "it listens again");
    append(&metastore, &[single(2, log, plain(1))]).await;
    round(&metastore).await;
    assert!(matches!(changes.recv().await, Some(Change::Heads(heads)) if heads.len() == 1));
    metastore.close().await;
}

#[tokio::test]
async fn a_connection_lost_around_a_commit_is_perhaps() {
    let postgres = Postgres::fresh().await;
    let metastore = Arc::clone(&postgres.metastore);
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    // The insert waits for this lock, and dies waiting.
    let mut blocker = beside(&postgres).await;
    execute(&mut blocker, "BEGIN; LOCK TABLE write_events IN EXCLUSIVE MODE").await;
    let event = single(1, log, plain(1));
    let appending = tokio::spawn({
        let (metastore, event) = (Arc::clone(&metastore), event.clone());
        async move { metastore.append(&[event], WRITER).await }
    });
    let mut killer = beside(&postgres).await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO write_events%' \
                AND wait_event_type = 'Lock' AND datname = current_database()";
    while !appending.is_finished() && sqlx::raw_sql(kill).fetch_all(&mut killer).await.expect("executed").is_empty() {
        tokio::task::yield_now().await;
    }
    let outcome = appending.await.expect("joined");
    assert!(matches!(&outcome, Err(MetaError::Indeterminate(_))), "{outcome:?}");
    execute(&mut blocker, "ROLLBACK").await;
    assert_eq!(metastore.find_events(&[object(1)]).await.expect("looked up"), []);
    append(&metastore, &[event]).await;
    assert_eq!(metastore.find_events(&[object(1)]).await.expect("looked up"), [object(1)]);
}

#[tokio::test]
async fn restarted_connections_are_replaced() {
    let postgres = Postgres::fresh().await;
    let metastore = Arc::clone(&postgres.metastore);
    topic(&metastore, 1, 1).await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()";
    execute(&mut beside(&postgres).await, kill).await;
    let mut attempts = tokio::time::interval(Duration::from_millis(20));
    for attempt in 0..100 {
        attempts.tick().await;
        match metastore.find_topics(&crate::metastore::TopicQuery::All).await {
            Ok(topics) => return assert_eq!(topics.len(), 1),
            Err(error) => assert!(matches!(error, MetaError::Unavailable(_)) && attempt < 10, "{error}"),
        }
    }
}

/// Looking up where a fetch begins once took as long as the log had segments: what is read must be what is returned, wherever in the log it lies.
#[tokio::test]
async fn a_look_up_reads_the_segments_it_returns_and_no_others() {
    let postgres = Postgres::fresh().await;
    let id = rows::uuid(topic(&postgres.metastore, 1, 1).await.0);
    let mut connection = beside(&postgres).await;
    let fill = sqlx::query(
        "INSERT INTO segments (topic_id, partition, last_offset, base_offset, object_id, byte_start, byte_len, record_count, \
         max_timestamp, max_timestamp_so_far, level) \
         SELECT $1, 0, n * 10 + 9, n * 10, gen_random_uuid(), 0, 1000, 10, n, n, 0 FROM generate_series(0, 29999) AS n",
    );
    fill.bind(id).execute(&mut connection).await.expect("filled");
    let pool = postgres.config.pool(1);
    for wanted in [0i64, 150_000, 299_900] {
        let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {}", log::FIND_SEGMENTS);
        let plan = sqlx::query(AssertSqlSafe(explain)).bind(vec![id]).bind(vec![0i32]).bind(vec![wanted]);
        let plan = plan.bind(vec![i64::MAX]).bind(vec![7i64]).fetch_all(&pool).await.expect("a plan");
        let plan: Vec<String> = plan.iter().map(|line| sqlx::Row::get(line, 0)).collect();
        let step = plan.iter().find(|line| line.contains(" on segments")).expect("segments are read");
        assert!(step.contains("Index Scan") && step.contains("(actual rows=7"), "{}", plan.join("\n"));
    }
    pool.close().await;
}
