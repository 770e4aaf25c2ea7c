"""What 50 calls that block for five seconds do to everybody else: the 99th percentile of probes before and beside them."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from tests.benchmarks.calling import numbered, requests
from tests.benchmarks.figures import Effort, Figures, add
from tests.benchmarks.machine import CALLING, on_cores
from tests.benchmarks.servers import Running, Servers, running
from tests.benchmarks.wire_load import Call

OFFENDERS = 50
PROBES = ("get", "plain", "list")
_UNDER_WAY = 0.3
_EVERY = 0.01


@dataclass
class _Probes:
    """The same three calls again and again, and what each took; who waits longer than `patience` is not asked again."""

    calls: Mapping[str, Call]
    channel: grpc.aio.Channel
    patience: float
    taken: dict[str, list[float]] = field(default_factory=dict)

    async def run(self, seconds: float) -> dict[str, float]:
        """Probe for so many seconds and return the 99th percentile of each kind, in milliseconds."""
        self.taken = {name: [] for name in PROBES if name in self.calls}
        end, number = time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            number += 1
            await asyncio.gather(*(self._probe(name, number) for name in self.taken))
            await asyncio.sleep(_EVERY)
        return {name: sorted(taken)[int(0.99 * len(taken))] * 1e3 for name, taken in self.taken.items()}

    async def _probe(self, name: str, number: int) -> None:
        call = self.calls[name]
        began = time.perf_counter()
        try:
            method: Any = self.channel.unary_unary(call.path)
            await method(numbered(call, number), timeout=self.patience)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
                raise
        self.taken[name].append(time.perf_counter() - began)


def measure(make: Servers, effort: Effort) -> dict[str, Figures]:
    """Measure each server beside each offender, each time a fresh one."""
    figures: dict[str, Figures] = {"neighbours_blocking": {}, "neighbours_wrongly_async": {}}
    targets = [
        make.ours("ours", "ours_plain", "ours_offenders", "ours_wrong"),
        make.flytekit("flytekit_noop", "flytekit_offenders"),
        make.flyte2("flyte2_noop"),
    ]
    for _ in range(min(2, effort.rounds)):
        for offender in ("blocking", "wrongly_async"):
            for target in targets:
                with running(target) as server, on_cores(CALLING):
                    add(figures[f"neighbours_{offender}"], target.name, asyncio.run(_beside(server, offender, effort)))
    return figures


async def _beside(server: Running, offender: str, effort: Effort) -> dict[str, float]:
    calls = requests(server.target.python, server.target.protocol)
    if server.target.protocol == 2:
        calls.pop("plain")  # flyte 2's connectors have `async def` only
    patience = 3.0 if effort.is_quick else 6.0
    async with grpc.aio.insecure_channel(server.address) as channel:
        probes = _Probes(calls, channel, patience)
        await probes.run(0.3)  # imports and connections
        unloaded = await probes.run(1.0 if effort.is_quick else 3.0)
        create: Any = channel.unary_unary(calls[offender].path)
        offences = [create(numbered(calls[offender], number), timeout=60) for number in range(OFFENDERS)]
        await asyncio.sleep(_UNDER_WAY)  # until they are under way; nothing in the protocol says when
        beside = await probes.run(2.0 if effort.is_quick else 4.0)
        for offence in offences:
            offence.cancel()
    figures = {f"{name} unloaded": value for name, value in unloaded.items()}
    return figures | {f"{name} beside": min(value, patience * 1e3) for name, value in beside.items()}
