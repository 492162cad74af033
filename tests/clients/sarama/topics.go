package main

import (
	"slices"
	"strconv"

	"github.com/IBM/sarama"
)

func admin(t *trial) string {
	admin := t.admin()
	topic := t.topic(3)
	refusals(t, admin, topic)

	t.step("creating with validate_only")
	valid := unique("valid")
	t.must(create(admin, valid, 1, true))

	t.step("listing and describing topics")
	listed, err := admin.ListTopics()
	t.must(err)
	_, has := listed[topic]
	expect(t, "the topic is listed", true, has)
	_, has = listed[valid]
	expect(t, "the validated topic is listed", false, has)
	description := t.describe(admin, topic)
	expect(t, "partitions", 3, len(description.Partitions))

	t.step("describing the cluster")
	brokers, controller, err := admin.DescribeCluster()
	t.must(err)
	isNode := func(id int32) bool {
		return slices.ContainsFunc(brokers, func(broker *sarama.Broker) bool { return broker.ID() == id })
	}
	expect(t, "the controller is a node", true, isNode(controller))
	for _, partition := range description.Partitions {
		expect(t, "the leader is a node", true, isNode(partition.Leader))
	}

	t.step("describing configurations")
	expectSettings(t, admin, sarama.TopicResource, topic, "retention.ms", "cleanup.policy", "max.message.bytes")
	expectSettings(t, admin, sarama.BrokerResource, strconv.Itoa(int(controller)), "advertised.listeners")

	t.fill(topic, "a", "b", "c")
	t.step("deleting")
	t.must(admin.DeleteTopic(topic))
	t.eventually(func() bool { return t.describe(admin, topic).Err == sarama.ErrUnknownTopicOrPartition })

	t.step("creating the deleted topic again")
	t.create(admin, topic, 3)
	expect(t, "same topic id", false, t.describe(admin, topic).Uuid == description.Uuid)
	t.read(topic, 0)
	t.fill(topic, "d")
	expect(t, "first offset", 0, t.read(topic, 1)[0].Offset)
	return "topics, cluster, configurations"
}

func refusals(t *trial, admin sarama.ClusterAdmin, topic string) {
	t.step("creating a topic that exists")
	t.mustFail(create(admin, topic, 3, false), sarama.ErrTopicAlreadyExists)
	t.step("creating a topic with an invalid name")
	t.mustFail(create(admin, "not/valid", 1, false), sarama.ErrInvalidTopic)
	t.step("creating a topic with 0 partitions")
	t.mustFail(create(admin, unique("none"), 0, false), sarama.ErrInvalidPartitions)
	t.step("creating a topic with too many partitions")
	t.mustFail(create(admin, unique("many"), 1_000_000, false), sarama.ErrInvalidPartitions, sarama.ErrPolicyViolation)
	t.step("describing an unknown topic")
	t.mustFail(t.describe(admin, unique("unknown")).Err, sarama.ErrUnknownTopicOrPartition)
	t.step("deleting an unknown topic")
	t.mustFail(admin.DeleteTopic(unique("unknown")), sarama.ErrUnknownTopicOrPartition)
}

func expectSettings(t *trial, admin sarama.ClusterAdmin, kind sarama.ConfigResourceType, name string, settings ...string) {
	found, err := admin.DescribeConfig(sarama.ConfigResource{Type: kind, Name: name})
	t.must(err)
	for _, setting := range settings {
		has := slices.ContainsFunc(found, func(entry sarama.ConfigEntry) bool { return entry.Name == setting })
		expect(t, "has "+setting, true, has)
	}
}
