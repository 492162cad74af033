"""Runs scenarios one after the other, each with a time limit, and prints one line for each."""

import argparse
import logging
import os
import sys
import threading
import time

import groups
import member
import offsets
import producer
import records
import topics
from trial import Trial

LIMIT_SECONDS = 90

# A scenario returns its figures; it raises if the broker does anything but what it should.
SCENARIOS = {
    "produce-consume": records.produce_consume,
    "codecs": records.codecs,
    "auto-create": records.auto_create,
    "acks": records.acks,
    "list-offsets": offsets.list_offsets,
    "admin": topics.admin,
    "committed-offsets": offsets.committed_offsets,
    "long-poll": records.long_poll,
    "big": records.big,
    "idempotent": records.idempotent,
    "out-of-range": offsets.out_of_range,
    "groups-eager": groups.eager,
    "groups-sticky": groups.sticky,
    "groups-cooperative": groups.cooperative,
}


def unknown(trial):
    raise LookupError("no such scenario")


def report(name, bootstrap):
    trial = Trial(bootstrap)
    outcome = f"no end within {LIMIT_SECONDS} s"
    passed = False

    def run():
        nonlocal outcome, passed
        try:
            with trial:
                outcome = SCENARIOS.get(name, unknown)(trial)
            passed = True
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}".replace("\n", " ")

    start = time.monotonic()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT_SECONDS)
    if passed:
        print(f"ok python {name} ({outcome}, {time.monotonic() - start:.1f} s)", flush=True)
    else:
        print(f"FAILED python {name}: {trial.at}: {outcome}", flush=True)
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--scenario", action="append", metavar="NAME")
    parser.add_argument("--verbose", action="store_true", help="show the client's own log")
    member.add_arguments(parser)
    producer.add_arguments(parser)
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO if options.verbose else logging.CRITICAL)
    if options.member:
        member.run(options)
        return
    if options.producer:
        producer.run(options)
        return
    passed = [report(name, options.bootstrap) for name in options.scenario or SCENARIOS]
    os._exit(0 if all(passed) else 1)  # a hanging client must not hold up the end


if __name__ == "__main__":
    main()
