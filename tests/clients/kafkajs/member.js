// A member of a group as a process, to be killed: it tells what it owns and reads until its standard input ends.
'use strict'

const { writeSync } = require('node:fs')
const { setTimeout: sleep } = require('node:timers/promises')

const { connect } = require('./trial')

async function run(options) {
  if (options.member !== 'eager') {
    throw new Error(`no such protocol: ${options.member}`)
  }
  let consumer = await join(options)
  let leaving = false
  // After an error that it holds to be final kafkajs leaves the rest to its owner: one is that a balancer, to it the only broker, cut it off while it
  // looked for its coordinator (KafkaJSGroupCoordinatorNotFound).
  const beginAnewIfItGivesUp = () => consumer.on(consumer.events.CRASH, async ({ payload: { restart } }) => {
    while (!restart && !leaving) {
      try {
        await consumer.disconnect()
        consumer = await join(options)
        return beginAnewIfItGivesUp()
      } catch (error) {
        process.stderr.write(`beginning anew: ${error}\n`)
        await sleep(1000)
      }
    }
  })
  beginAnewIfItGivesUp()
  process.stdin.on('end', () => {
    leaving = true
    consumer.disconnect()
  })
  process.stdin.resume()
}

async function join({ topic, bootstrap, verbose, group: groupId, 'session-ms': session }) {
  const consumer = connect(bootstrap, verbose).consumer({ groupId, sessionTimeout: Number(session), heartbeatInterval: 500 })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    tell('assignment', ...(payload.memberAssignment[topic] ?? []))
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommitInterval: 200,
    // What this returns from may be committed.
    eachMessage: async ({ partition, message }) => tell('record', partition, message.offset, message.value),
  })
  return consumer
}

// At once: a buffer would die with the process.
function tell(...words) {
  writeSync(1, `${words.join(' ')}\n`)
}

module.exports = { run }
