//! One suite for every metastore: what the traits promise, case by case, and a model that all must agree with.

#![allow(clippy::disallowed_methods, reason = "the databases tell real time; two agents are two tasks")]

mod administration;
mod appending;
mod figures;
mod group_states;
mod groups;
mod inlined;
mod leases;
mod model;
#[path = "../../../tests/support/postgres.rs"]
#[allow(unreachable_pub, clippy::expect_used, clippy::panic, reason = "shared with the integration tests")]
pub(super) mod postgres_server;
mod reading;
mod rounds;
mod scale;
pub(super) mod scene;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Metastore;
use super::postgres::{PostgresConfig, PostgresMetastore};
use super::sqlite::{SqliteConfig, SqliteMetastore};
use crate::tasks::Tasks;
use scene::ManualClock;

/// A fresh, migrated metastore.
#[async_trait]
trait Backend: Send + Sync {
    fn metastore(&self) -> Arc<dyn Metastore>;

    /// A second handle on the same database, as another agent has. Where there can be only one, the same.
    async fn another(&self) -> Arc<dyn Metastore>;

    /// Lets a little time pass by the metastore's clock: at most `duration`.
    async fn pass(&self, duration: Duration);

    /// Whether rounds are announced to other agents.
    fn announces(&self) -> bool;
}

struct Memory {
    clock: Arc<ManualClock>,
    metastore: Arc<dyn Metastore>,
}

impl Memory {
    #[expect(clippy::unused_async, reason = "as the other backends")]
    async fn fresh() -> Self {
        Memory::inlining(0)
    }

    fn inlining(max: u64) -> Self {
        let clock = Arc::new(ManualClock::default());
        Memory { clock: Arc::clone(&clock), metastore: Arc::new(super::memory::MemoryMetastore::new(clock).inlining(max)) }
    }
}

/// Memory that takes small objects with their events.
struct MemoryInlining;

impl MemoryInlining {
    #[expect(clippy::unused_async, reason = "as the other backends")]
    async fn fresh() -> Memory {
        Memory::inlining(1000)
    }
}

#[async_trait]
impl Backend for Memory {
    fn metastore(&self) -> Arc<dyn Metastore> {
        Arc::clone(&self.metastore)
    }

    async fn another(&self) -> Arc<dyn Metastore> {
        self.metastore()
    }

    async fn pass(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    fn announces(&self) -> bool {
        true
    }
}

struct Sqlite {
    clock: Arc<ManualClock>,
    metastore: Arc<dyn Metastore>,
    _directory: tempfile::TempDir,
}

impl Sqlite {
    async fn fresh() -> Self {
        Sqlite::with(|metastore| metastore).await
    }

    async fn with(change: impl FnOnce(SqliteMetastore) -> SqliteMetastore) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let clock = Arc::new(ManualClock::default());
        let config = SqliteConfig::new(directory.path());
        let metastore = change(SqliteMetastore::open(config, Arc::clone(&clock) as _).await.expect("opened"));
        metastore.migrate().await.expect("migrated");
        Sqlite { clock, metastore: Arc::new(metastore), _directory: directory }
    }
}

/// SQLite that decides while it appends.
struct SqliteAtOnce;

impl SqliteAtOnce {
    async fn fresh() -> Sqlite {
        let sqlite = Sqlite::with(|metastore| metastore.deciding_at_once(scene::rules())).await;
        // Only after a round has seen that nothing waits.
        sqlite.metastore.run_round(scene::LIMITS, &scene::rules()).await.expect("a round");
        sqlite
    }
}

#[async_trait]
impl Backend for Sqlite {
    fn metastore(&self) -> Arc<dyn Metastore> {
        Arc::clone(&self.metastore)
    }

    async fn another(&self) -> Arc<dyn Metastore> {
        self.metastore()
    }

    async fn pass(&self, duration: Duration) {
        self.clock.advance(duration);
    }

    fn announces(&self) -> bool {
        false
    }
}

/// A database of its own, of the server that tests use.
pub(super) struct Postgres {
    pub(super) config: PostgresConfig,
    pub(super) metastore: Arc<dyn Metastore>,
    pub(super) database: postgres_server::Database,
    tasks: Tasks,
}

impl Postgres {
    pub(super) async fn fresh() -> Self {
        static TEMPLATE: tokio::sync::OnceCell<postgres_server::Database> = tokio::sync::OnceCell::const_new();
        let template = TEMPLATE.get_or_init(migrated).await;
        Postgres::on(template.server.create_database(Some(&template.name)).await)
    }

    /// Without a schema.
    pub(super) async fn empty() -> Self {
        Postgres::on(postgres_server::Server::find().await.create_database(None).await)
    }

    fn on(database: postgres_server::Database) -> Self {
        let server = &database.server;
        let mut config = PostgresConfig::new(&server.host, server.port, &server.user, &server.password, &database.name);
        config.max_connections = 4;
        let tasks = Tasks::new();
        Postgres { metastore: Arc::new(PostgresMetastore::new(config.clone(), &tasks)), config, database, tasks }
    }

    pub(super) fn handle(&self) -> Arc<dyn Metastore> {
        Arc::new(PostgresMetastore::new(self.config.clone(), &self.tasks))
    }
}

async fn migrated() -> postgres_server::Database {
    let Postgres { metastore, database, .. } = Postgres::empty().await;
    metastore.migrate().await.expect("migrated");
    // Nobody may be connected to what is to be copied.
    metastore.close().await;
    database
}

#[async_trait]
impl Backend for Postgres {
    fn metastore(&self) -> Arc<dyn Metastore> {
        Arc::clone(&self.metastore)
    }

    async fn another(&self) -> Arc<dyn Metastore> {
        self.handle()
    }

    /// Its clock cannot be moved.
    async fn pass(&self, duration: Duration) {
        let duration = duration.min(Duration::from_millis(50));
        tokio::time::timeout(duration, std::future::pending::<()>()).await.expect_err("it is never ready");
    }

    fn announces(&self) -> bool {
        true
    }
}

macro_rules! contract {
    ($($room:ident: $($case:ident),+;)+) => {
        contract!(@backend memory, Memory, $($room: $($case),+;)+);
        contract!(@backend sqlite, Sqlite, $($room: $($case),+;)+);
        contract!(@backend postgres, Postgres, $($room: $($case),+;)+);
    };
    (@backend $name:ident, $backend:ident, $($room:ident: $($case:ident),+;)+) => {
        mod $name {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$room::$case(&super::$backend::fresh().await).await;
                }
            )+)+
        }
    };
}

contract! {
    topics: a_topic_is_created_and_found, a_taken_name_is_found_instead, one_of_two_creations_at_a_time_wins,
        a_topic_of_a_thousand_partitions, a_deleted_topic_is_forgotten, an_id_is_not_used_again, swept_in_pieces,
        events_carry_ids_not_names;
    administration: a_topic_grows, one_of_two_growths_at_a_time_wins, configurations_are_replaced_as_expected, a_log_is_trimmed,
        what_was_trimmed_is_swept_in_pieces, trimming_and_rounds_do_not_undo_each_other, sizes_are_those_of_segments,
        producers_are_listed, group_configurations_are_replaced_as_expected;
    appending: events_are_pending_until_a_round, an_object_has_one_event, an_object_that_was_decided_has_one_event,
        what_cannot_be_read_is_set_aside;
    rounds: offsets_follow_each_other, the_oldest_events_come_first, big_indexes_end_a_round, one_round_at_a_time,
        two_agents_share_a_backlog, a_retry_gets_its_offset, an_early_batch_waits, waiting_ends_at_the_deadline,
        what_waits_for_a_deleted_topic_is_refused, forgotten_producers, an_idle_round, rounds_are_announced,
        a_decision_keeps_every_field;
    reading: the_first_segment_holds_the_offset, gaps_are_skipped, budgets_end_a_read, many_queries_at_once, the_first_segment_since;
    groups: committed_offsets_are_found, metadata_is_kept_as_it_is, the_last_commit_counts;
    group_states: a_state_replaces_only_the_one_it_was_made_from, one_of_two_changes_at_a_time_wins, a_version_is_never_given_twice,
        offsets_are_committed_for_one_version, a_silent_member_is_found, a_beat_prolongs_a_session, who_is_forgotten_stays_forgotten,
        after_a_lapse_everybody_has_a_new_session, a_group_that_is_due_is_found, a_beat_tells_of_new_versions, groups_are_listed,
        a_deleted_group_is_gone, offsets_are_deleted, offsets_of_groups_without_members_expire, groups_are_announced;
    leases: the_lowest_free_id_is_leased, a_wanted_id_may_be_held, leases_end, a_lost_lease_is_not_renewed,
        who_has_lost_its_id_does_not_write_under_it, two_agents_never_share_an_id, an_address_keeps_its_broker_id, the_first_cluster_id_stays,
        peer_secrets_are_made_once_and_rotated, producer_ids_are_unique;
    scale: five_thousand_partitions_in_one_event, many_events_in_one_round, offsets_of_many_partitions;
    model: random_scripts;
}

// Where objects are taken with their events.
contract! {
    @backend memory_inlining, MemoryInlining,
    inlined: an_object_comes_with_its_event, the_first_bytes_of_an_object_stay, the_bytes_of_what_waits_for_its_predecessor_stay, inlined_objects_are_deleted;
}
contract! {
    @backend sqlite_inlining, Sqlite,
    inlined: an_object_comes_with_its_event, the_first_bytes_of_an_object_stay, the_bytes_of_what_waits_for_its_predecessor_stay, inlined_objects_are_deleted;
}

// Not the cases that see an event wait, or give a round a rule of its own.
contract! {
    @backend sqlite_at_once, SqliteAtOnce,
    topics: a_topic_is_created_and_found, a_taken_name_is_found_instead, a_deleted_topic_is_forgotten, swept_in_pieces;
    administration: a_topic_grows, a_log_is_trimmed, what_was_trimmed_is_swept_in_pieces, sizes_are_those_of_segments, producers_are_listed;
    appending: an_object_that_was_decided_has_one_event, what_cannot_be_read_is_set_aside;
    rounds: offsets_follow_each_other, big_indexes_end_a_round, a_retry_gets_its_offset,
        what_waits_for_a_deleted_topic_is_refused, forgotten_producers, an_idle_round, rounds_are_announced;
    reading: the_first_segment_holds_the_offset, budgets_end_a_read, many_queries_at_once, the_first_segment_since;
    inlined: an_object_comes_with_its_event, the_first_bytes_of_an_object_stay, the_bytes_of_what_waits_for_its_predecessor_stay, inlined_objects_are_deleted;
    scale: five_thousand_partitions_in_one_event, many_events_in_one_round, offsets_of_many_partitions;
    model: random_scripts;
}
