// Scenarios of consumers that share a topic.
'use strict'

const { eventually, expect, unique } = require('./trial')

const PARTITIONS = 6
const RECORDS = 600

// One consumer, two, one again: each time they own all partitions once, and together they read every record.
async function eager(trial) {
  const topic = await trial.topic(PARTITIONS)
  const groupId = unique('group')
  await fill(trial, topic, 0)
  const join = async () => {
    const consumer = await trial.consumer({ groupId, ...TIMES })
    return start(consumer, topic)
  }

  trial.step('joining alone')
  const first = await join()
  await eventually(() => first.owned.length === PARTITIONS)
  trial.step('joining as the second')
  const second = await join()
  await eventually(() => first.owned.length === PARTITIONS / 2 && second.owned.length === PARTITIONS / 2)
  expect('partitions of both', PARTITIONS, new Set([...first.owned, ...second.owned]).size)

  trial.step('describing the group')
  const admin = await trial.admin()
  const [described] = (await admin.describeGroups([groupId])).groups
  expect('state', 'Stable', described.state)
  expect('members', 2, described.members.length)
  await fill(trial, topic, RECORDS)

  trial.step('leaving')
  await first.consumer.disconnect()
  await eventually(() => second.owned.length === PARTITIONS)
  trial.step('reading everything')
  await eventually(() => new Set([...first.values, ...second.values]).size === 2 * RECORDS)
  await second.consumer.disconnect()

  trial.step('reading the commits')
  const [commits] = await admin.fetchOffsets({ groupId, topics: [topic] })
  expect('commits', 2 * RECORDS, commits.partitions.reduce((sum, { offset }) => sum + Number(offset), 0))
  trial.step('deleting the group')
  await admin.deleteGroups([groupId])
  return '1, 2 and 1 members'
}

const TIMES = { sessionTimeout: 6000, heartbeatInterval: 500 }

// Lets a consumer read, and follows what it owns and what it reads.
async function start(consumer, topic) {
  const member = { consumer, owned: [], values: new Set() }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => (member.owned = payload.memberAssignment[topic] ?? []))
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({ eachMessage: async ({ message }) => member.values.add(String(message.value)) })
  return member
}

async function fill(trial, topic, start) {
  const messages = Array.from({ length: RECORDS }, (_, i) => ({ partition: i % PARTITIONS, value: `value ${start + i}` }))
  await trial.send(await trial.producer(), topic, messages)
}

module.exports = { TIMES, eager }
