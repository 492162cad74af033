//! From a request to its handler, by its API key; and the metrics of every request.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, BrokerParts, HandlerConfig, Outcome};
use super::serve::{Begun, OnDisconnect, Refusal, Reply, Serve};
use super::stopwatch::Stopwatch;
use super::{
    alter_configs, alter_partition_reassignments, api_versions, consumer_group_describe, consumer_group_heartbeat, create_acls,
    create_partitions, create_topics, delete_acls, delete_groups, delete_records, delete_topics, describe_acls, describe_client_quotas,
    describe_cluster, describe_configs, describe_groups, describe_log_dirs, describe_producers, describe_topic_partitions,
    describe_user_scram_credentials, elect_leaders, fetch, find_coordinator, heartbeat, incremental_alter_configs, init_producer_id,
    join_group, leave_group, list_config_resources, list_groups, list_offsets, list_partition_reassignments, metadata, offset_commit,
    offset_delete, offset_fetch, offset_for_leader_epoch, produce, sync_group, update_features,
};
use crate::protocol::{Api, FrameError, Request, RequestHeader, Rope, codec, old_produce};

/// Answers requests of Kafka clients.
#[derive(Clone)]
pub struct Handlers {
    broker: Arc<Broker>,
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handlers").field("config", &self.broker.config).finish_non_exhaustive()
    }
}

impl Handlers {
    #[must_use]
    pub fn new(config: HandlerConfig, parts: BrokerParts) -> Self {
        Handlers { broker: Arc::new(Broker::new(config, parts)) }
    }

    /// The rest of the request beside others of its connection.
    fn later<R, A, F>(&self, request: &Request, work: impl FnOnce(Arc<Broker>, R, i16) -> F) -> Result<Begun, Refusal>
    where
        R: Decodable,
        A: Encodable + Send + 'static,
        F: Future<Output = Outcome<A>> + Send + 'static,
    {
        Ok(self.begun(request, work(Arc::clone(&self.broker), codec::decode(request)?, request.header.version)))
    }

    /// The same, for a handler that wants to know who asks.
    fn with_header<R, A, F>(&self, request: &Request, work: impl FnOnce(Arc<Broker>, R, RequestHeader) -> F) -> Result<Begun, Refusal>
    where
        R: Decodable,
        A: Encodable + Send + 'static,
        F: Future<Output = Outcome<A>> + Send + 'static,
    {
        Ok(self.begun(request, work(Arc::clone(&self.broker), codec::decode(request)?, request.header.clone())))
    }

    /// The same, for a request that may wait long for others: it is dropped when its client is gone.
    fn waiting<R, A, F>(&self, request: &Request, work: impl FnOnce(Arc<Broker>, R, RequestHeader) -> F) -> Result<Begun, Refusal>
    where
        R: Decodable,
        A: Encodable + Send + 'static,
        F: Future<Output = Outcome<A>> + Send + 'static,
    {
        Ok(Begun { on_disconnect: OnDisconnect::Drop, ..self.with_header(request, work)? })
    }

    fn begun<A, F>(&self, request: &Request, work: F) -> Begun
    where
        A: Encodable + Send + 'static,
        F: Future<Output = Outcome<A>> + Send + 'static,
    {
        let clock = Stopwatch::start(&self.broker.parts.requests, &request.header);
        let answer = async move {
            let Outcome { answer, error_code } = work.await;
            let rope = codec::encode(&clock.header, &answer)?;
            clock.answered(error_code);
            Ok(rope)
        };
        Begun { answer: answer.boxed(), on_disconnect: OnDisconnect::Finish, reply: Reply::InOrder }
    }

    async fn dispatch(&self, api: Api, request: &Request) -> Result<Begun, Refusal> {
        match api {
            Api::Produce if request.header.version < old_produce::FIRST_SERVED => self.refuse_old_produce(request),
            Api::Produce => produce::begin(&self.broker, request).await,
            Api::Fetch => fetch::begin(&self.broker, request),
            Api::ListOffsets => self.later(request, list_offsets::answer),
            Api::Metadata => metadata::begin(&self.broker, request),
            Api::OffsetCommit => {
                let (broker, decoded) = (Arc::clone(&self.broker), codec::decode_offset_commit(request)?);
                Ok(now(self.begun(request, offset_commit::answer(broker, decoded, request.header.version))).await)
            }
            Api::OffsetFetch => {
                let (broker, decoded) = (Arc::clone(&self.broker), codec::decode_offset_fetch(request)?);
                Ok(self.begun(request, offset_fetch::answer(broker, decoded, request.header.version)))
            }
            Api::JoinGroup => self.waiting(request, join_group::answer),
            Api::Heartbeat => self.later(request, heartbeat::answer),
            Api::LeaveGroup => self.later(request, leave_group::answer),
            Api::SyncGroup => self.waiting(request, sync_group::answer),
            Api::DescribeGroups => self.later(request, describe_groups::answer),
            Api::ListGroups => self.later(request, list_groups::answer),
            Api::DeleteGroups => self.later(request, delete_groups::answer),
            Api::OffsetDelete => self.later(request, offset_delete::answer),
            Api::ConsumerGroupHeartbeat => self.with_header(request, consumer_group_heartbeat::answer),
            Api::ConsumerGroupDescribe => self.later(request, consumer_group_describe::answer),
            Api::FindCoordinator => self.later(request, find_coordinator::answer),
            Api::ApiVersions => self.later(request, api_versions::answer),
            Api::CreateTopics => Ok(now(self.later(request, create_topics::answer)?).await),
            Api::DeleteTopics => Ok(now(self.later(request, delete_topics::answer)?).await),
            Api::InitProducerId => self.later(request, init_producer_id::answer),
            Api::OffsetForLeaderEpoch => self.later(request, offset_for_leader_epoch::answer),
            Api::DescribeConfigs => self.later(request, describe_configs::answer),
            Api::DescribeCluster => self.later(request, describe_cluster::answer),
            Api::CreatePartitions => Ok(now(self.later(request, create_partitions::answer)?).await),
            Api::AlterConfigs => Ok(now(self.later(request, alter_configs::answer)?).await),
            Api::IncrementalAlterConfigs => Ok(now(self.later(request, incremental_alter_configs::answer)?).await),
            Api::DeleteRecords => Ok(now(self.later(request, delete_records::answer)?).await),
            Api::DescribeAcls => self.later(request, describe_acls::answer),
            Api::CreateAcls => self.later(request, create_acls::answer),
            Api::DeleteAcls => self.later(request, delete_acls::answer),
            Api::DescribeLogDirs => self.later(request, describe_log_dirs::answer),
            Api::ElectLeaders => self.later(request, elect_leaders::answer),
            Api::AlterPartitionReassignments => self.later(request, alter_partition_reassignments::answer),
            Api::ListPartitionReassignments => self.later(request, list_partition_reassignments::answer),
            Api::DescribeClientQuotas => self.later(request, describe_client_quotas::answer),
            Api::DescribeUserScramCredentials => self.later(request, describe_user_scram_credentials::answer),
            Api::UpdateFeatures => self.later(request, update_features::answer),
            Api::DescribeProducers => self.later(request, describe_producers::answer),
            Api::ListConfigResources => self.later(request, list_config_resources::answer),
            Api::DescribeTopicPartitions => self.with_header(request, describe_topic_partitions::answer),
        }
    }

    fn refuse_old_produce(&self, request: &Request) -> Result<Begun, Refusal> {
        let code = kafka_protocol::ResponseError::UnsupportedVersion.code();
        let rope = old_produce::refuse(request, code).map_err(codec::CodecError::from)?;
        let rope =
            rope.ok_or_else(|| Refusal::Unanswerable("Produce 0 to 2 are not served, and with acks=0 nobody can be told".to_owned()))?;
        Stopwatch::start(&self.broker.parts.requests, &request.header).answered(code);
        Ok(ready(Ok(rope)))
    }

    /// A version that is not advertised. ApiVersions is answered in version 0, so that the client learns what is (KIP-511).
    fn unknown_version(&self, request: &Request) -> Result<Begun, Refusal> {
        let header = &request.header;
        if header.api.served() != Some(Api::ApiVersions) {
            return Err(FrameError::Version { name: header.api.name, version: header.version }.into());
        }
        let Outcome { answer, error_code } = api_versions::unknown_version();
        let rope = codec::encode_as(header, 0, &answer)?;
        // Counted as what it was answered as: a client is not to invent labels.
        Stopwatch::start(&self.broker.parts.requests, &RequestHeader { version: 0, ..header.clone() }).answered(error_code);
        Ok(ready(Ok(rope)))
    }
}

#[async_trait]
impl Serve for Handlers {
    async fn begin(&self, request: Request) -> Result<Begun, Refusal> {
        if self.broker.config.me.acting().is_none() {
            return Err(Refusal::Fenced);
        }
        match request.header.api.served() {
            Some(_) if !request.header.api.covers(request.header.version) => self.unknown_version(&request),
            Some(api) => self.dispatch(api, &request).await,
            None => Err(FrameError::UnknownApi(request.header.api.key).into()),
        }
    }

    fn term(&self) -> Option<CancellationToken> {
        let me = &self.broker.config.me;
        me.acting().map(|_| me.over())
    }
}

/// Does the whole of a request in the ordered stage, because a later request of the connection must not overtake it: a commit of offset 20
/// sent behind one of offset 10 must win, and who creates a topic may use it in the next request.
async fn now(begun: Begun) -> Begun {
    let answer = begun.answer.await;
    Begun { answer: std::future::ready(answer).boxed(), ..begun }
}

fn ready(answer: Result<Rope, Refusal>) -> Begun {
    Begun { answer: std::future::ready(answer).boxed(), on_disconnect: OnDisconnect::Finish, reply: Reply::InOrder }
}
