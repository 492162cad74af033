"""Scenarios about topics, configurations and the cluster."""

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidPartitionsError,
    InvalidTopicError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from trial import create, create_only, describe, eventually, exists, expect, expect_failure, raise_for, unique


async def admin(trial):
    admin = await trial.admin()
    topic = await trial.topic(3)
    await refusals(trial, admin, topic)

    trial.step("creating with validate_only")
    valid = unique("valid")
    await create_only(admin, valid, 1, validate_only=True)

    trial.step("listing and describing topics")
    names = await admin.list_topics()
    expect("the topic is listed", True, topic in names)
    expect("the validated topic is listed", False, valid in names)
    description = await describe(admin, topic)
    expect("partitions", 3, len(description["partitions"]))

    trial.step("describing the cluster")
    cluster = await admin.describe_cluster()
    nodes = [broker["node_id"] for broker in cluster["brokers"]]
    expect("the controller is a node", True, cluster["controller_id"] in nodes)
    for partition in description["partitions"]:
        expect("the leader is a node", True, partition["leader"] in nodes)

    trial.step("describing configurations")
    await expect_settings(admin, ConfigResourceType.TOPIC, topic, "retention.ms", "cleanup.policy", "max.message.bytes")
    await expect_settings(admin, ConfigResourceType.BROKER, str(nodes[0]), "advertised.listeners")

    await trial.fill(topic, b"a", b"b", b"c")
    trial.step("deleting")
    raise_for((await admin.delete_topics([topic])).topic_error_codes)

    async def gone():
        return not await exists(admin, topic)

    await eventually(gone)

    trial.step("creating the deleted topic again")
    await create(admin, topic, 3)
    await trial.read(await trial.reader(topic), 0)
    await trial.fill(topic, b"d")
    expect("first offset", 0, (await (await trial.reader(topic)).getone()).offset)
    return "topics, cluster, configurations"


async def refusals(trial, admin, topic):
    trial.step("creating a topic that exists")
    await expect_failure(create_only(admin, topic, 3), TopicAlreadyExistsError)
    trial.step("creating a topic with an invalid name")
    await expect_failure(create_only(admin, "not/valid", 1), InvalidTopicError)
    trial.step("creating a topic with 0 partitions")
    await expect_failure(create_only(admin, unique("none"), 0), InvalidPartitionsError)
    trial.step("creating a topic with too many partitions")
    await expect_failure(create_only(admin, unique("many"), 1_000_000), InvalidPartitionsError, PolicyViolationError)
    trial.step("deleting an unknown topic")
    unknown = (await admin.delete_topics([unique("unknown")])).topic_error_codes
    expect("error", UnknownTopicOrPartitionError.errno, unknown[0][1])


async def expect_settings(admin, kind, name, *settings):
    answer = (await admin.describe_configs([ConfigResource(kind, name)]))[0]
    found = {entry[0] for entry in answer.resources[0][4]}
    for setting in settings:
        expect(f"has {setting}", True, setting in found)
