"""Many small groups that do nothing but live: what they cost the agents. Needs no Kafka library.

    idle_groups.py --brokers 127.0.0.1:9092,127.0.0.1:9093 --groups 1000 --members 5 --seconds 60 --pids 123,124

Every member has a connection of its own; groups are spread over the brokers. Prints the CPU time of the processes in --pids, and their children,
while the groups were idle, and how many heartbeats were refused.
"""

import argparse
import asyncio
import os
import struct
import time


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def blob(value):
    return struct.pack(">i", len(value)) + value


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, layout):
        (value,) = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return value

    def text(self):
        length = self.take(">h")
        value = self.data[self.at : self.at + max(length, 0)].decode()
        self.at += max(length, 0)
        return value


class Member:
    """Kafka's classic protocol: JoinGroup 3, SyncGroup 1, Heartbeat 1."""

    def __init__(self, group, address):
        self.group, self.address, self.id, self.generation = group, address, "", -1

    async def open(self):
        host, port = self.address.rsplit(":", 1)
        self.reader, self.writer = await asyncio.open_connection(host, int(port))

    async def ask(self, key, version, body):
        frame = struct.pack(">hhi", key, version, 0) + text("idle_groups") + text(self.group) + body
        self.writer.write(struct.pack(">i", len(frame)) + frame)
        (length,) = struct.unpack(">i", await self.reader.readexactly(4))
        # After the correlation id and the throttle time.
        return Reader((await self.reader.readexactly(length))[8:])

    async def join(self):
        while True:
            protocols = struct.pack(">i", 1) + text("range") + blob(bytes(60))
            answer = await self.ask(11, 3, struct.pack(">ii", 45_000, 60_000) + text(self.id) + text("consumer") + protocols)
            error, self.generation = answer.take(">h"), answer.take(">i")
            answer.text(), answer.text()
            self.id = "" if error else answer.text()
            if not error and await self.sync():
                return

    async def sync(self):
        share = struct.pack(">i", 1) + text(self.id) + blob(bytes(60))
        return (await self.ask(14, 1, struct.pack(">i", self.generation) + text(self.id) + share)).take(">h") == 0

    async def live(self, end, codes):
        while time.monotonic() < end:
            began = time.monotonic()
            codes.append((await self.ask(12, 1, struct.pack(">i", self.generation) + text(self.id))).take(">h"))
            if codes[-1]:
                await self.join()
            await asyncio.sleep(max(0, 3 - (time.monotonic() - began)))


def cpu_seconds(pids):
    """Of these processes and their children."""
    total = 0
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{entry}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(entry) in pids or int(fields[1]) in pids:
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--spread", action="store_true", help="members of a group on different brokers")
    parser.add_argument("--pids", default="")
    options = parser.parse_args()
    brokers = options.brokers.split(",")
    names = [f"idle-{os.getpid()}-{n}" for n in range(options.groups)]
    spread = 1 if options.spread else 0
    of_group = [(name, brokers[(n + spread * m) % len(brokers)]) for n, name in enumerate(names) for m in range(options.members)]
    members = [Member(name, broker) for name, broker in of_group]
    for member in members:
        await member.open()
    began = time.monotonic()
    await asyncio.gather(*(member.join() for member in members))
    print(f"{len(names)} groups of {options.members} joined in {time.monotonic() - began:.2f} s")
    pids = {int(pid) for pid in options.pids.split(",") if pid}
    codes, before, began = [], cpu_seconds(pids), time.monotonic()
    print(f"idle from {time.strftime('%H:%M:%S')}", flush=True)
    await asyncio.gather(*(member.live(began + options.seconds, codes) for member in members))
    seconds = time.monotonic() - began
    print(f"idle until {time.strftime('%H:%M:%S')}: {len(codes) / seconds:.0f} heartbeats/s, {sum(code != 0 for code in codes)} refused")
    print(f"CPU: {100 * (cpu_seconds(pids) - before) / seconds:.1f} % of a core")


asyncio.run(main())
