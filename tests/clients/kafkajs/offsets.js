// Scenarios about finding and keeping offsets.
'use strict'

const { START, expect, unique } = require('./trial')

async function listOffsets(trial) {
  const topic = await trial.topic(1)
  const records = [0, 1000, 3000, 2000].map((delay) => ({ value: 'v', timestamp: String(START + delay) }))
  await trial.send(await trial.producer(), topic, records)
  const admin = await trial.admin()
  trial.step('asking for the ends')
  const [{ low, high }] = await admin.fetchTopicOffsets(topic)
  expect('earliest and latest', ['0', '4'], [low, high])
  for (const [what, delay, offset] of [
    ['between two records', 500, '1'],
    ['exactly at a record', 1000, '1'],
    ['out of order', 1500, '2'],
    ['after the end', 3001, '4'], // the client puts the end in place of -1
  ]) {
    trial.step(`asking for ${what}`)
    const [found] = await admin.fetchTopicOffsetsByTimestamp(topic, START + delay)
    expect(what, offset, found.offset)
  }
  return 'earliest, latest, timestamps'
}

async function committedOffsets(trial) {
  const topic = await trial.topic(1)
  await trial.fill(topic, 'a', 'b', 'c', 'd')
  const groupId = unique('group')
  const admin = await trial.admin()
  const committed = async (group) => (await admin.fetchOffsets({ groupId: group, topics: [topic] }))[0].partitions[0].offset

  trial.step('committing')
  await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '2' }] })
  trial.step('reading the commit back')
  expect('commit', '2', await committed(groupId))

  trial.step('resuming')
  const consumer = await trial.consumer({ groupId })
  await consumer.subscribe({ topic, fromBeginning: true })
  const value = await new Promise((resolve) => {
    consumer.run({ eachMessage: async ({ message }) => resolve(String(message.value)) })
  })
  expect('value', 'c', value)

  trial.step('asking for an unknown group')
  expect('commit', '-1', await committed(unique('group')))
  expect('offsets', [], await admin.fetchOffsets({ groupId: unique('group') }))
  return 'offset 2 of 4'
}

async function outOfRange(trial) {
  const topic = await trial.topic(1)
  await trial.fill(topic, 'a', 'b')
  trial.step('fetching beyond the end') // which the client answers by going to where it would start
  expect('first offset', '0', (await trial.first(topic, 100)).offset)
  return 'earliest'
}

module.exports = { committedOffsets, listOffsets, outOfRange }
