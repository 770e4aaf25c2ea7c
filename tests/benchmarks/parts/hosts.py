"""Several hosts behind one name: what they serve together, and who gets the calls of one client."""

import re
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.request import urlopen

import grpc

from tests.benchmarks.calling import Numbers, checked, numbered, requests
from tests.benchmarks.figures import Effort, Figures, add
from tests.benchmarks.machine import CORES
from tests.benchmarks.servers import Running, Servers, running
from tests.benchmarks.wire_load import Load, drive

COUNTS = (1, 2, 4)
_CALLS = 400
_SUCCESS = re.compile(r'flyte_connector_requests_success_total\{[^}]*operation="get"[^}]*\} ([\d.e+]+)')


def measure(make: Servers, effort: Effort) -> dict[str, Figures]:
    """Load one, two and four hosts at once, and see how a client's calls are shared out."""
    rates: Figures = {}
    shares: Figures = {}
    for _ in range(effort.rounds):
        for count in COUNTS:
            with ExitStack() as stack:
                target = make.ours("ours", "ours_calls")
                hosts = [stack.enter_context(running(target, (CORES[number % len(CORES)],))) for number in range(count)]
                add(rates, _named(count), _together(hosts, effort))
                for policy in ("pick_first", "round_robin"):
                    add(shares, _named(count), {policy: _busiest(hosts, policy)})
    return {"hosts": rates, "balance": shares}


def _named(count: int) -> str:
    return "1 host" if count == 1 else f"{count} hosts"


def _together(hosts: Sequence[Running], effort: Effort) -> dict[str, float]:
    """Load each host over a connection of its own, all at once, which is what `round_robin` comes to."""
    calls = [checked(host)["get"] for host in hosts]
    loads: list[Load] = []

    def one(number: int, seconds: float) -> None:
        numbers = Numbers.fresh().of("get")
        load = drive(hosts[number].address, calls[number], numbers=numbers, seconds=seconds)
        loads.append(load)

    def everywhere(seconds: float) -> None:
        threads = [threading.Thread(target=one, args=(number, seconds)) for number in range(len(hosts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    everywhere(effort.seconds / 4)
    loads.clear()
    before = sum(host.cpu_seconds() for host in hosts)
    everywhere(effort.seconds)
    cpu = sum(host.cpu_seconds() for host in hosts) - before
    answered = sum(load.calls for load in loads)
    assert len(loads) == len(hosts), "the load on a host failed; its traceback is above"
    return {"rate": sum(load.rate for load in loads), "cpu": cpu / answered * 1e6}


def _busiest(hosts: Sequence[Running], policy: str) -> float:
    """Return the percentage of one client's calls that the busiest host got."""
    before = [_served(host) for host in hosts]
    addresses = ",".join(host.address for host in hosts)
    call = requests(hosts[0].target.python, 1)["get"]
    options = [("grpc.service_config", f'{{"loadBalancingConfig": [{{"{policy}": {{}}}}]}}')]
    with grpc.insecure_channel(f"ipv4:{addresses}", options=options) as channel:
        get = channel.unary_unary(call.path)
        for number in range(_CALLS):
            get(numbered(call, number), wait_for_ready=True, timeout=10)
    served = [_served(host) - already for host, already in zip(hosts, before, strict=True)]
    assert sum(served) == _CALLS, served
    return max(served) / _CALLS * 100


def _served(host: Running) -> float:
    with urlopen(f"http://{host.http_address}/metrics") as answer:
        return sum(float(value) for value in _SUCCESS.findall(answer.read().decode()))
