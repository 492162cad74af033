"""A steady producer as a process: until its standard input ends it sends, and tells what became of each record."""

import sys
import threading

import kafka

PATIENCE_MS = 600_000


def add_arguments(parser):
    parser.add_argument("--producer", action="store_true", help="be a steady producer instead")
    parser.add_argument("--rate", type=int, help="its records a second")


def run(options):
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    producer = kafka.KafkaProducer(
        bootstrap_servers=options.bootstrap, delivery_timeout_ms=PATIENCE_MS, max_block_ms=PATIENCE_MS)
    number = 0
    while not ended.wait(1 / options.rate):
        value = str(number)
        outcome = producer.send(options.topic, key=value.encode(), value=value.encode())
        outcome.add_callback(tell_acked, value).add_errback(tell_failed, value)
        number += 1
    producer.close()


def tell_acked(value, place):
    print("acked", place.partition, place.offset, value, flush=True)


def tell_failed(value, error):
    print(f"failed {value}: {error!r}".replace("\n", " "), flush=True)
