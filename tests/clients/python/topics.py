"""Scenarios about topics, configurations and the cluster."""

import time

from kafka.admin import ConfigFilterType, ConfigResource
from kafka.errors import (
    InvalidPartitionsError,
    InvalidTopicError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from trial import create, describe, expect, expect_failure, first, unique


def admin(trial):
    admin = trial.admin()
    topic = trial.topic(3)
    refusals(trial, admin, topic)

    trial.step("creating with validate_only")
    valid = unique("valid")
    admin.create_topics({valid: {"num_partitions": 1}}, validate_only=True)

    trial.step("listing and describing topics")
    names = admin.list_topics()
    expect("the topic is listed", True, topic in names)
    expect("the validated topic is listed", False, valid in names)
    description = describe(admin, topic)
    expect("partitions", 3, len(description["partitions"]))

    trial.step("describing the cluster")
    cluster = admin.describe_cluster()
    nodes = [broker["broker_id"] for broker in cluster["brokers"]]
    expect("the controller is a node", True, cluster["controller_id"] in nodes)
    for partition in description["partitions"]:
        expect("the leader is a node", True, partition["leader_id"] in nodes)

    trial.step("describing configurations")
    expect_settings(admin, "topic", topic, "retention.ms", "cleanup.policy", "max.message.bytes")
    expect_settings(admin, "broker", str(nodes[0]), "advertised.listeners")

    trial.fill(topic, b"a", b"b", b"c")
    trial.step("deleting")
    admin.delete_topics([topic])
    while describe(admin, topic)["error_code"] != UnknownTopicOrPartitionError.errno:
        time.sleep(0.02)  # a cluster may show it a little later

    trial.step("creating the deleted topic again")
    create(admin, topic, 3)
    expect("same topic id", False, describe(admin, topic)["topic_id"] == description["topic_id"])
    trial.read(trial.reader(topic), 0)
    trial.fill(topic, b"d")
    expect("first offset", 0, first(trial.reader(topic)).offset)
    return "topics, cluster, configurations"


def refusals(trial, admin, topic):
    def expect_refusal(name, partitions, *errors):
        expect_failure(lambda: admin.create_topics({name: {"num_partitions": partitions}}), *errors)

    trial.step("creating a topic that exists")
    expect_refusal(topic, 3, TopicAlreadyExistsError)
    trial.step("creating a topic with an invalid name")
    expect_refusal("not/valid", 1, InvalidTopicError)
    trial.step("creating a topic with 0 partitions")
    expect_refusal(unique("none"), 0, InvalidPartitionsError)
    trial.step("creating a topic with too many partitions")
    expect_refusal(unique("many"), 1_000_000, InvalidPartitionsError, PolicyViolationError)
    trial.step("describing an unknown topic")
    expect("error", UnknownTopicOrPartitionError.errno, describe(admin, unique("unknown"))["error_code"])
    trial.step("deleting an unknown topic")
    expect_failure(lambda: admin.delete_topics([unique("unknown")]), UnknownTopicOrPartitionError)


def expect_settings(admin, kind, name, *settings):
    resource = ConfigResource(kind, name)
    found = admin.describe_configs([resource], config_filter=ConfigFilterType.ALL)[kind][name]
    for setting in settings:
        expect(f"has {setting}", True, setting in found)
