// Scenarios about producing and consuming.
'use strict'

const { setTimeout: sleep } = require('node:timers/promises')
const { randomBytes } = require('node:crypto')

const { CompressionTypes } = require('kafkajs')

const { START, eventually, expect, expectFailure, unique } = require('./trial')

async function produceConsume(trial) {
  const topic = await trial.topic(4)
  await trial.roundTrip(topic, numbered(1000))
  const ends = await (await trial.admin()).fetchTopicOffsets(topic)
  const middle = Math.floor(Number(ends.find(({ partition }) => partition === 0).high) / 2)
  for (const offset of [middle, middle + 1]) { // one of the two is inside a batch
    trial.step(`seeking to ${offset}`)
    expect('first offset after a seek', String(offset), (await trial.first(topic, offset)).offset)
  }
  return '1000 records, 4 partitions'
}

async function codecs(trial) {
  for (const compression of [CompressionTypes.None, CompressionTypes.GZIP, CompressionTypes.Snappy]) {
    await trial.roundTrip(await trial.topic(1), numbered(200), { compression })
  }
  return 'none gzip snappy'
}

async function autoCreate(trial) {
  await trial.roundTrip(unique('auto'), numbered(10))
  return '10 records'
}

async function acks(trial) {
  for (const acks of [0, 1, -1]) {
    await trial.roundTrip(await trial.topic(1), numbered(200), { acks })
  }
  return '0, 1, all'
}

async function longPoll(trial) {
  const topic = await trial.topic(1)
  const producer = await trial.producer()
  const consumer = await trial.consumer({ maxWaitTimeInMs: 10000 })
  let arrived
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({ eachMessage: async () => (arrived = performance.now()) })
  trial.step('waiting at the end of a partition')
  await sleep(2500)
  expect('arrived', undefined, arrived)
  trial.step('waiting for a record')
  await producer.send({ topic, messages: [{ value: 'late' }] })
  const acknowledged = performance.now()
  await eventually(() => arrived)
  const delay = Math.round(arrived - acknowledged)
  if (delay > 5000) {
    throw new Error(`the record arrived ${delay} ms after its acknowledgement`)
  }
  return `arrival ${delay} ms after the acknowledgement`
}

async function big(trial) {
  const topic = await trial.topic(1)
  await trial.roundTrip(topic, [{ ...numbered(1)[0], value: 'x'.repeat(900_000) }])
  const producer = await trial.producer()
  trial.step('producing 2 MB')
  await expectFailure(producer.send({ topic, messages: [{ value: randomBytes(2_000_000) }] }), 'MESSAGE_TOO_LARGE')
  trial.step('producing after the refusal')
  const [{ baseOffset }] = await producer.send({ topic, messages: [{ value: 'small' }] })
  expect('next offset', '1', baseOffset)
  return '900 KB taken, 2 MB refused'
}

async function idempotent(trial) {
  const topic = await trial.topic(3)
  const producer = await trial.producer({ idempotent: true })
  const records = numbered(20_000).map((record, i) => ({ ...record, partition: i % 3 }))
  trial.step('producing 20000 records')
  for (let i = 0; i < records.length; i += 500) {
    await producer.send({ topic, messages: records.slice(i, i + 500) })
  }
  const found = await trial.read(topic, records.length)
  for (let partition = 0; partition < 3; partition++) {
    const log = found.filter((record) => record.partition === partition)
    log.forEach((record, i) => expect('record', String(records[3 * i + partition].value), String(record.value)))
  }
  return '20000 records, 3 partitions'
}

// So many different records.
function numbered(count) {
  return Array.from({ length: count }, (_, i) => ({
    key: `key-${i}`,
    value: `value-${i}`,
    headers: { name: [`number-${i}`, ''] },
    timestamp: String(START + i),
  }))
}

module.exports = { acks, autoCreate, big, codecs, idempotent, longPoll, produceConsume }
