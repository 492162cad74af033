// Runs scenarios one after the other, each with a time limit, and prints one line for each.
'use strict'

const { parseArgs } = require('node:util')

const groups = require('./groups')
const member = require('./member')
const offsets = require('./offsets')
const producer = require('./producer')
const records = require('./records')
const topics = require('./topics')
const { Trial } = require('./trial')

const LIMIT_SECONDS = 90

// A scenario returns its figures; it throws if the broker does anything but what it should.
const SCENARIOS = {
  'produce-consume': records.produceConsume,
  codecs: records.codecs,
  'auto-create': records.autoCreate,
  acks: records.acks,
  'list-offsets': offsets.listOffsets,
  admin: topics.admin,
  'committed-offsets': offsets.committedOffsets,
  'long-poll': records.longPoll,
  big: records.big,
  idempotent: records.idempotent,
  'out-of-range': offsets.outOfRange,
  'groups-eager': groups.eager,
}

async function unknown() {
  throw new Error('no such scenario')
}

async function report(name, options) {
  const trial = new Trial(options)
  const start = performance.now()
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${LIMIT_SECONDS} s`)), LIMIT_SECONDS * 1000)
  })
  const run = async () => {
    try {
      return await (SCENARIOS[name] ?? unknown)(trial)
    } finally {
      await trial.close()
    }
  }
  try {
    const figures = await Promise.race([run(), late])
    console.log(`ok kafkajs ${name} (${figures}, ${((performance.now() - start) / 1000).toFixed(1)} s)`)
    return true
  } catch (error) {
    console.log(`FAILED kafkajs ${name}: ${trial.at}: ${String(error).replaceAll('\n', ' ')}`)
    return false
  } finally {
    clearTimeout(timer)
  }
}

async function main() {
  const text = { type: 'string' }
  const { values: options } = parseArgs({
    options: {
      bootstrap: text,
      scenario: { type: 'string', multiple: true },
      verbose: { type: 'boolean' },
      member: text,
      producer: { type: 'boolean' },
      rate: text,
      topic: text,
      group: text,
      instance: text,
      'session-ms': text,
    },
  })
  if (options.member) {
    return member.run(options)
  }
  if (options.producer) {
    return producer.run(options)
  }
  let passed = true
  for (const name of options.scenario ?? Object.keys(SCENARIOS)) {
    passed = (await report(name, options)) && passed
  }
  process.exit(passed ? 0 : 1) // a hanging client must not hold up the end
}

main()
