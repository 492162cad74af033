package main

import (
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func admin(t *trial) string {
	admin := t.admin()
	topic := t.topic(3)
	refusals(t, admin, topic)

	t.step("creating with validate_only")
	valid := unique("valid")
	responses, err := admin.ValidateCreateTopics(t.ctx, 1, -1, nil, valid)
	t.must(err)
	t.must(responses.Error())

	t.step("listing and describing topics")
	listed, err := admin.ListTopics(t.ctx)
	t.must(err)
	expect(t, "the topic is listed", true, listed.Has(topic))
	expect(t, "the validated topic is listed", false, listed.Has(valid))
	description := t.describe(admin, topic)
	expect(t, "partitions", 3, len(description.Partitions))

	t.step("describing the cluster")
	cluster, err := admin.BrokerMetadata(t.ctx)
	t.must(err)
	nodes := cluster.Brokers.NodeIDs()
	expect(t, "the controller is a node", true, slices.Contains(nodes, cluster.Controller))
	for _, partition := range description.Partitions {
		expect(t, "the leader is a node", true, slices.Contains(nodes, partition.Leader))
	}

	t.step("describing configurations")
	topicConfigs, err := admin.DescribeTopicConfigs(t.ctx, topic)
	t.must(err)
	expectSettings(t, topicConfigs, "retention.ms", "cleanup.policy", "max.message.bytes")
	brokerConfigs, err := admin.DescribeBrokerConfigs(t.ctx, nodes[0])
	t.must(err)
	expectSettings(t, brokerConfigs, "advertised.listeners")

	t.fill(topic, "a", "b", "c")
	t.step("deleting")
	_, err = admin.DeleteTopic(t.ctx, topic)
	t.must(err)
	t.eventually(func() bool { return errors.Is(t.describe(admin, topic).Err, kerr.UnknownTopicOrPartition) })

	t.step("creating the deleted topic again")
	t.create(admin, topic, 3)
	expect(t, "same topic id", false, t.describe(admin, topic).ID == description.ID)
	t.read(topic, 0)
	t.fill(topic, "d")
	expect(t, "first offset", 0, t.read(topic, 1)[0].Offset)
	return "topics, cluster, configurations"
}

func refusals(t *trial, admin *kadm.Client, topic string) {
	create := func(name string, partitions int32) error {
		_, err := admin.CreateTopic(t.ctx, partitions, -1, nil, name)
		return err
	}
	t.step("creating a topic that exists")
	t.mustFail(create(topic, 3), kerr.TopicAlreadyExists)
	t.step("creating a topic with an invalid name")
	t.mustFail(create("not/valid", 1), kerr.InvalidTopicException)
	t.step("creating a topic with 0 partitions")
	t.mustFail(create(unique("none"), 0), kerr.InvalidPartitions)
	t.step("creating a topic with too many partitions")
	t.mustFail(create(unique("many"), 1_000_000), kerr.InvalidPartitions, kerr.PolicyViolation)
	t.step("describing an unknown topic")
	t.mustFail(t.describe(admin, unique("unknown")).Err, kerr.UnknownTopicOrPartition)
	t.step("deleting an unknown topic")
	_, err := admin.DeleteTopic(t.ctx, unique("unknown"))
	t.mustFail(err, kerr.UnknownTopicOrPartition)
}

func expectSettings(t *trial, configs kadm.ResourceConfigs, settings ...string) {
	t.must(configs[0].Err)
	for _, setting := range settings {
		has := slices.ContainsFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == setting })
		expect(t, "has "+setting, true, has)
	}
}
