// Scenarios about topics, configurations and the cluster.
'use strict'

const { ConfigResourceTypes } = require('kafkajs')

const { create, eventually, expect, expectFailure, unique } = require('./trial')

async function admin(trial) {
  const admin = await trial.admin()
  const topic = await trial.topic(3)
  await refusals(trial, admin, topic)

  trial.step('creating with validate_only')
  const valid = unique('valid')
  await admin.createTopics({ topics: [{ topic: valid }], validateOnly: true, waitForLeaders: false })

  trial.step('listing and describing topics')
  const names = await admin.listTopics()
  expect('the topic is listed', true, names.includes(topic))
  expect('the validated topic is listed', false, names.includes(valid))
  const [{ partitions }] = (await admin.fetchTopicMetadata({ topics: [topic] })).topics
  expect('partitions', 3, partitions.length)

  trial.step('describing the cluster')
  const cluster = await admin.describeCluster()
  const nodes = cluster.brokers.map(({ nodeId }) => nodeId)
  expect('the controller is a node', true, nodes.includes(cluster.controller))
  partitions.forEach(({ leader }) => expect('the leader is a node', true, nodes.includes(leader)))

  trial.step('describing configurations')
  const { TOPIC, BROKER } = ConfigResourceTypes
  await expectSettings(admin, TOPIC, topic, 'retention.ms', 'cleanup.policy', 'max.message.bytes')
  await expectSettings(admin, BROKER, String(nodes[0]), 'advertised.listeners')

  await trial.fill(topic, 'a', 'b', 'c')
  trial.step('deleting')
  await admin.deleteTopics({ topics: [topic] })
  await eventually(async () => !(await admin.listTopics()).includes(topic))

  trial.step('creating the deleted topic again')
  await create(admin, topic, 3)
  await trial.read(topic, 0)
  await trial.fill(topic, 'd')
  expect('first offset', '0', (await trial.read(topic, 1))[0].offset)
  return 'topics, cluster, configurations'
}

async function refusals(trial, admin, topic) {
  const make = (name, numPartitions) => admin.createTopics({ topics: [{ topic: name, numPartitions }] })
  trial.step('creating a topic that exists')
  expect('created', false, await make(topic, 3))
  trial.step('creating a topic with an invalid name')
  await expectFailure(make('not/valid', 1), 'INVALID_TOPIC_EXCEPTION')
  trial.step('creating a topic with 0 partitions')
  await expectFailure(make(unique('none'), 0), 'INVALID_PARTITIONS')
  trial.step('creating a topic with too many partitions')
  await expectFailure(make(unique('many'), 1_000_000), 'INVALID_PARTITIONS', 'POLICY_VIOLATION')
  trial.step('describing an unknown topic')
  await expectFailure(admin.fetchTopicMetadata({ topics: [unique('unknown')] }), 'UNKNOWN_TOPIC_OR_PARTITION')
  trial.step('deleting an unknown topic')
  await expectFailure(admin.deleteTopics({ topics: [unique('unknown')], timeout: 1000 }), 'UNKNOWN_TOPIC_OR_PARTITION')
}

async function expectSettings(admin, type, name, ...settings) {
  const { resources } = await admin.describeConfigs({ resources: [{ type, name }] })
  const found = resources[0].configEntries.map(({ configName }) => configName)
  settings.forEach((setting) => expect(`has ${setting}`, true, found.includes(setting)))
}

module.exports = { admin }
