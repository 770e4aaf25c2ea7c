"""The sections of the results page: what each table shows, and what its reader has to know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.parts import calls, neighbours, plugins, starting
from tests.benchmarks.servers import F_TYPED_UV, F


@dataclass(frozen=True)
class Metric:
    """A column: its heading, and how a value is written."""

    heading: str
    form: str = "{:,.0f}"
    short: str = ""


@dataclass(frozen=True)
class Table:
    """A section: title, text, and columns; ratios are to a row of the same table, round by round."""

    title: str
    about: str
    metrics: Mapping[str, Metric]
    ratios: Sequence[tuple[str, str]] = ()
    level: int = 2
    plot: str = ""


_CALL = {
    "rate": Metric("calls a second"),
    "cpu": Metric("CPU of the server, µs a call", short="CPU"),
    "p50": Metric("p50, ms", "{:.1f}"),
    "p99": Metric("p99, ms", "{:.1f}"),
}
_TO_FLOORS = (("rate", F), ("rate", F_TYPED_UV), ("cpu", F_TYPED_UV))
_TO_FIRST = (("rate", "1 host"),)
_LARGE = {
    f"{size} {kind}": Metric(f"{size} MB: {said}", form)
    for size in (1, 3, 10)
    for kind, said, form in (("ms", "ms", "{:,.0f}"), ("copies", "copies", "{:.1f}"))
}
_NEIGHBOURS = {
    f"{probe} {when}": Metric(f"{called}, {when}: ms", "{:,.1f}")
    for probe, called in (("get", "GetTask `async`"), ("plain", "GetTask `def`"), ("list", "ListAgents"))
    for when in ("unloaded", "beside")
}

TABLES: Mapping[str, Table] = {
    "get": Table(
        "GetTask",
        f"An async connector that does nothing; a thousand jobs in turn, {calls.AT_ONCE} calls at a time over one connection, "
        "as the engine has one for each endpoint. The server has one core and the load another. F answers constant bytes from "
        "`grpc.aio`; `typed` parses and builds the real messages, `uv` is uvloop, `sync` a thread pool, `core` the host's own "
        "server with nothing of the host behind it ([decision 28](../explanation/decisions/0028-grpc-on-its-core.md)). "
        "*Vouched* is a plugin "
        "that the operator lets run on the server's loop (`in_place`); the default protects the server from plugin code. "
        "Calls that went well are not logged (`connector_core.calls=warning`; the peers do not log them either); a row shows "
        "what a line for each call costs (`=debug`), as JSON to `/dev/null`. By default creates are logged, polls not.",
        _CALL,
        _TO_FLOORS,
        plot="calls",
    ),
    "create": Table(
        "CreateTask, inputs not asked for",
        "A request of 1.4 KB: a template with eight typed inputs (texts, numbers, a date, a list, a dict), SQL and a `custom` "
        "section, and an execution with labels, annotations and environment. Each call is another task. The peers convert the "
        "inputs whether or not the connector looks at them.",
        _CALL,
        _TO_FLOORS,
    ),
    "create_used": Table(
        "CreateTask, inputs asked for",
        "The same, with a connector that takes `inputs`.",
        _CALL,
        _TO_FLOORS,
    ),
    "sync": Table(
        "ExecuteTaskSync",
        "One stream a task: a header, the inputs, one answer. flyte 2's protocol has no such call.",
        _CALL,
        _TO_FLOORS,
    ),
    "generator": Table(
        "The generator held to h2load",
        "h2load sends one body again and again, and a host that asks for a job once, and creates an attempt once, would answer "
        "most of that from memory. So the load comes from a generator of this project's that writes another task's number "
        "into each request. Here is the same load by both, on servers that do not care: GetTask for one job. Both count only "
        "answers whose bytes are as many as a typed client got.",
        {"own": Metric("own, calls a second"), "h2load": Metric("h2load"), "ratio": Metric("own / h2load", "{:.2f}")},
        level=3,
    ),
    "blocking": Table(
        "Calls that block",
        "GetTask calls that sleep for 100 ms in a plain `def` (flyte 2: in its `async def`, it has nothing else), 64 at a "
        "time, for 64 jobs and more, with `--worker 64` on each; 640 a second is what 64 threads can give.",
        {"rate": Metric("calls a second")},
        (("rate", "flytekit"),),
    ),
    "neighbours_blocking": Table(
        "Beside calls that block in threads",
        f"The 99th percentile of other calls while {neighbours.OFFENDERS} CreateTask calls of one connector each block for "
        "five seconds in a plain `def` (flyte 2: in its `async def`). A probe that waits six seconds is given up; those were "
        "not answered at all.",
        _NEIGHBOURS,
        plot="neighbours",
    ),
    "neighbours_wrongly_async": Table(
        "Beside calls that block in `async def`",
        "The same with code that blocks where it must not.",
        _NEIGHBOURS,
    ),
    "start": Table(
        "Cold start",
        "From the start of the process until the health service says SERVING, byte-compiled, with the plugins `sleep` and "
        "`process`; the peers with two connectors that do nothing.",
        {"seconds": Metric("seconds", "{:.2f}")},
        (("seconds", "F-typed"), ("seconds", "flytekit")),
    ),
    "memory": Table(
        "Resident memory",
        f"With the same plugins, and the connectors that are called; after {starting.CALLS:,} GetTask calls for a thousand "
        f"jobs, and after another {starting.JOBS:,} each for a job of its own, of which the host remembers the phase. "
        "Then its metrics are asked for over HTTP, once.",
        {
            "idle": Metric("idle, MB", short="idle"),
            "first": Metric("after 10,000 calls", "{:.1f}"),
            "calls": Metric("after 40,000 calls", "{:.1f}", "called"),
            "jobs": Metric("after 10,000 jobs more", "{:.1f}"),
            "scraped": Metric("after a scrape", "{:.1f}"),
        },
        (("idle", "F-typed"), ("calls", "F-typed")),
    ),
    "plugins": Table(
        "Installed plugins",
        "Seconds until SERVING beside so many installed distributions, each with a plugin that brings one connector; and what "
        "each of them adds.",
        {
            **{str(count): Metric(f"{count} plugins: s", "{:.2f}") for count in plugins.COUNTS},
            **{f"{count} each": Metric(f"of {count}, each: ms", "{:.2f}") for count in plugins.COUNTS if count >= 100},
        },
        plot="plugins",
    ),
    "installed": Table(
        "Installed size",
        "A fresh environment without plugins: distributions, and the bytes of their files without byte-code.",
        {"megabytes": Metric("MB", "{:.1f}"), "distributions": Metric("distributions")},
        (("megabytes", "flytekit"),),
    ),
    "large_unused": Table(
        "Large inputs, not asked for",
        "CreateTask with one long text. Copies: the peak of resident memory over what it was before, in sizes of the text; "
        "gRPC itself holds some. `-`: refused (flytekit leaves gRPC's limit of 4 MiB).",
        _LARGE,
    ),
    "large_used": Table("Large inputs, asked for", "The same, with a connector that takes `inputs`.", _LARGE),
    "large_get": Table(
        "Large outputs",
        "GetTask that is answered with one long text, which the connector makes anew each time.",
        _LARGE,
    ),
    "hosts": Table(
        "Several hosts",
        "Hosts with protected plugins, spread over the machine's cores, each loaded over a connection of its own at once. The "
        "load comes from the same cores here, so it takes its share of them.",
        {"rate": Metric("calls a second together"), "cpu": Metric("CPU of the servers, µs a call")},
        _TO_FIRST,
    ),
    "balance": Table(
        "Who gets the calls of one client",
        "The percentage of one gRPC client's calls that went to the busiest host, by the client's policy. A client holds one "
        "HTTP/2 connection for each address: without `round_robin` all calls go to one host, however many there are.",
        {"pick_first": Metric("`pick_first`, %", "{:.1f}"), "round_robin": Metric("`round_robin`, %", "{:.1f}")},
        level=3,
    ),
}
