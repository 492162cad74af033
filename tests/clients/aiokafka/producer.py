"""A steady producer as a process: until its standard input ends it sends, and tells what became of each record."""

import asyncio
import functools
import sys

import aiokafka

PATIENCE_MS = 600_000


def add_arguments(parser):
    parser.add_argument("--producer", action="store_true", help="be a steady producer instead")
    parser.add_argument("--rate", type=int, help="its records a second")


async def run(options):
    # How long a record may wait is the time limit of a request here.
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=options.bootstrap, acks="all", request_timeout_ms=PATIENCE_MS)
    end = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await producer.start()
    number = 0
    while not end.done():
        value = str(number)
        outcome = await producer.send(options.topic, key=value.encode(), value=value.encode())
        outcome.add_done_callback(functools.partial(tell, value))
        number += 1
        await asyncio.wait([end], timeout=1 / options.rate)
    await producer.stop()


def tell(value, outcome):
    if error := outcome.exception():
        print(f"failed {value}: {error!r}".replace("\n", " "), flush=True)
    else:
        print("acked", outcome.result().partition, outcome.result().offset, value, flush=True)
