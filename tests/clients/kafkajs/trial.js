// What a scenario can ask for: clients, topics, round trips and checks.
'use strict'

const { isDeepStrictEqual } = require('node:util')
const { setTimeout: sleep } = require('node:timers/promises')
const { randomUUID } = require('node:crypto')

const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = require('kafkajs')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')

// The first timestamp in a topic: old enough to be nobody's clock, young enough not to be cleaned away.
const START = Date.now() - 3_600_000

// One run of one scenario: the step it is at, and the clients it opened, closed at its end.
class Trial {
  #kafka
  #opened = []
  at = 'starting'

  constructor({ bootstrap, verbose }) {
    this.#kafka = connect(bootstrap, verbose)
  }

  // Names what comes next, for the report of a failure.
  step(name) {
    this.at = name
  }

  async close() {
    for (const client of this.#opened) {
      await client.disconnect()
    }
  }

  async #open(client) {
    this.#opened.push(client)
    await client.connect()
    return client
  }

  admin() {
    return this.#open(this.#kafka.admin())
  }

  producer(changes = {}) {
    return this.#open(this.#kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, ...changes }))
  }

  // This client always reads as a member of a group, and is not closed before its last fetch is answered.
  consumer(changes = {}) {
    return this.#open(this.#kafka.consumer({ groupId: unique('group'), maxWaitTimeInMs: 500, ...changes }))
  }

  // Creates a topic with a new name.
  async topic(partitions) {
    this.step('creating a topic')
    const name = unique('topic')
    await create(await this.admin(), name, partitions)
    return name
  }

  async send(producer, topic, messages, changes = {}) {
    this.step(`producing ${messages.length} records`)
    return producer.send({ topic, messages, ...changes })
  }

  // Fills partition 0 of the topic with records of these values.
  async fill(topic, ...values) {
    await this.send(await this.producer(), topic, values.map((value) => ({ value, partition: 0 })))
  }

  // Reads the topic from its beginning to its end, where so many records must have come.
  async read(topic, count) {
    const ends = await (await this.admin()).fetchTopicOffsets(topic)
    const behind = ends.reduce((sum, { high }) => sum + Number(high), 0)
    const records = []
    const consumer = await this.consumer()
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({ eachMessage: async ({ partition, message }) => records.push({ partition, ...message }) })
    await eventually(() => {
      this.step(`reading, ${records.length} of ${count} records so far`)
      return records.length >= Math.max(count, behind)
    })
    await consumer.disconnect()
    expect('number of records', count, records.length)
    return records
  }

  // The next record of partition 0, read from an offset.
  async first(topic, offset) {
    const consumer = await this.consumer()
    let found
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({ eachMessage: async ({ partition, message }) => (found ??= partition === 0 ? message : undefined) })
    consumer.seek({ topic, partition: 0, offset: String(offset) })
    await eventually(() => found)
    await consumer.disconnect()
    return found
  }

  // Sends the records to an empty topic and reads it. Each must be there once and unchanged, in the order of
  // sending within its partition.
  async roundTrip(topic, messages, sending = {}, producing = {}) {
    const acknowledged = await this.send(await this.producer(producing), topic, messages, sending)
    for (const { baseOffset } of acknowledged) {
      expect('acknowledged offset', '0', baseOffset)
    }
    const sent = new Map(messages.map((message, i) => [String(message.key), { i, content: content(message) }]))
    const next = new Map()
    for (const record of await this.read(topic, messages.length)) {
      const { offset, i } = next.get(record.partition) ?? { offset: 0, i: -1 }
      const original = sent.get(String(record.key))
      expect('offset', String(offset), record.offset)
      expect('record', original?.content, content(record))
      expect('in the order of sending', true, original.i > i)
      next.set(record.partition, { offset: offset + 1, i: original.i })
    }
  }
}

function connect(bootstrap, verbose, settings = {}) {
  return new Kafka({ brokers: bootstrap.split(','), logLevel: verbose ? logLevel.INFO : logLevel.NOTHING, ...settings })
}

function content({ key, value, headers, timestamp }) {
  return { key: String(key), value: String(value), headers: headers.name.map(String), timestamp }
}

function unique(what) {
  return `${what}-${randomUUID()}`
}

// Creates a topic and waits until the broker shows it.
async function create(admin, topic, numPartitions) {
  await admin.createTopics({ topics: [{ topic, numPartitions }] })
  await eventually(async () => (await admin.listTopics()).includes(topic))
}

async function eventually(condition) {
  while (!(await condition())) {
    await sleep(20)
  }
}

function expect(what, expected, actual) {
  if (!isDeepStrictEqual(expected, actual)) {
    const show = (value) => String(JSON.stringify(value)).slice(0, 300)
    throw new Error(`${what}: expected ${show(expected)}, got ${show(actual)}`)
  }
}

// Takes one of the errors, by their names.
async function expectFailure(action, ...expected) {
  let outcome
  try {
    outcome = await action
  } catch (error) {
    const types = (error.errors ?? [error.cause ?? error]).map((one) => one.type ?? one.name)
    if (types.some((type) => expected.includes(type))) {
      return
    }
    outcome = `${types} (${error})`
  }
  throw new Error(`expected one of ${expected}, got ${outcome}`)
}

module.exports = { START, Trial, connect, create, eventually, expect, expectFailure, unique }
