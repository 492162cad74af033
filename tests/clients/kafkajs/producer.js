// A steady producer as a process: until its standard input ends it sends, and tells what became of each record.
'use strict'

const { Partitioners } = require('kafkajs')

const { connect } = require('./trial')

// This client counts attempts, not time: with these it outlives an outage of minutes.
const PATIENT = { retries: 300, maxRetryTime: 2_000 }

async function run({ topic, rate, bootstrap, verbose }) {
  const producer = connect(bootstrap, verbose, { retry: PATIENT })
    .producer({ createPartitioner: Partitioners.DefaultPartitioner, retry: PATIENT })
  const sending = new Set()
  let number = 0
  await producer.connect()
  const timer = setInterval(() => {
    const one = send(producer, topic, String(number++)).finally(() => sending.delete(one))
    sending.add(one)
  }, 1000 / Number(rate))
  process.stdin.on('end', async () => {
    clearInterval(timer)
    await Promise.all(sending)
    await producer.disconnect()
  })
  process.stdin.resume()
}

async function send(producer, topic, value) {
  try {
    const [{ partition, baseOffset }] = await producer.send({ topic, messages: [{ key: value, value }] })
    console.log(`acked ${partition} ${baseOffset} ${value}`)
  } catch (error) {
    console.log(`failed ${value}: ${String(error).replaceAll('\n', ' ')}`)
  }
}

module.exports = { run }
