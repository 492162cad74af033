// A member of a group as a process, to be killed: it tells what it owns and reads until its standard input ends.
'use strict'

const { writeSync } = require('node:fs')

const { connect } = require('./trial')

async function run(options) {
  if (options.member !== 'eager') {
    throw new Error(`no such protocol: ${options.member}`)
  }
  const { topic, bootstrap, verbose, group: groupId } = options
  const sessionTimeout = Number(options['session-ms'])
  const consumer = connect(bootstrap, verbose).consumer({ groupId, sessionTimeout, heartbeatInterval: 500 })
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
  process.stdin.on('end', () => consumer.disconnect())
  process.stdin.resume()
}

// At once: a buffer would die with the process.
function tell(...words) {
  writeSync(1, `${words.join(' ')}\n`)
}

module.exports = { run }
