"""Generated requests by the million, straight at the servicers: `python -m tests.long.wire_faults --requests 1000000`."""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator

import psutil

from tests.support.echo import echoes
from tests.support.garble import SIGNING_KEY, Garbler
from tests.support.wire import Holdings, Sent, WireHost, drive, no_alarms

_ROUND = 10_000
_LARGE_EVERY = 2000
_LARGE_BYTES = 1_000_000


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000, help="how many requests to make")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(2**32), help="the same seed makes the same requests"
    )
    options = parser.parse_args()
    print(f"{options.requests:,} requests, --seed {options.seed}", flush=True)
    try:
        asyncio.run(run(options.requests, options.seed))
    except AssertionError as error:
        print(f"FAILED with --seed {options.seed}: {error}")
        return 1
    return 0


async def run(requests: int, seed: int) -> None:
    """Make the requests, half of them of a host that signs its resource metas.

    Raises:
        AssertionError: one was not answered as it should be, or something was left behind.
    """
    with no_alarms():
        await _run(requests, seed)


async def _run(requests: int, seed: int) -> None:
    await _drive_host(Counter(), Garbler(seed), 1000, {})  # what is made at first use is made before it is counted
    before = Holdings.count()
    answered: Counter[str] = Counter()
    began = time.perf_counter()
    await _drive_host(answered, Garbler(seed), requests - requests // 2, {})
    await _drive_host(answered, Garbler(seed + 1, signed=0.8), requests // 2, {"keys": [SIGNING_KEY.decode()]})
    seconds = time.perf_counter() - began
    for name, number in sorted(answered.items()):
        print(f"{name:<40} {number:>10,}")
    print(f"{requests:,} requests in {seconds:.0f} s: {requests / seconds:,.0f} a second, all answered sensibly")
    await before.come_back()
    print(f"before: {before}\nafter:  {Holdings.count()}")


async def _drive_host(answered: Counter[str], garbler: Garbler, requests: int, signing: dict[str, list[str]]) -> None:
    host = WireHost(*echoes(), in_place=["test-vouched"], memory={"entries": 5000}, signing=signing)
    try:
        for done in range(0, requests, _ROUND):
            number = min(_ROUND, requests - done)
            answered += await drive(host, _requests(garbler, number))
            memory = psutil.Process().memory_info().rss // 2**20
            print(f"{done + number:>10,} requests, {memory} MB, {len(asyncio.all_tasks())} tasks", flush=True)
        async with asyncio.timeout(60):
            while host.invoker.abandoned or host.in_flight():  # noqa: ASYNC110 - counters have no event to wait for
                await asyncio.sleep(0.01)
    finally:
        await host.close()


def _requests(garbler: Garbler, number: int) -> Iterator[Sent]:
    for count in range(number):
        request = garbler.request()
        if count % _LARGE_EVERY == 0 and request.method not in {"ListAgents", "ExecuteTaskSync"}:
            request = Sent(request.method, (garbler.oversized(request.method, _LARGE_BYTES),))
        yield request


if __name__ == "__main__":
    sys.exit(main())
