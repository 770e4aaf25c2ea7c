"""What callers send is bound or refused: parameters, and everything that tries to be more than one."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from flyteidl.core.tasks_pb2 import TaskTemplate

from connector_core import Phase
from connector_core.literals import StructuredDataset
from connector_core.testing import running_server
from connector_plugin_postgres.connector import PostgresMeta
from connector_plugin_postgres.statement import MAX_STATEMENT_BYTES

from .conftest import Bench, ended, outputs, run, task

HOSTILE = "'); DROP TABLE t; --\n\\ $$ {{ .inputs.x }}"
QUOTED = """
    SELECT '$n' || "$n" || $$ $n $$ || $q$ $n $q$ /* $n /* ' */ */
    FROM (SELECT 'c' AS "$n") AS s -- $n
"""
NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "inputs", "expected"),
    [
        ("SELECT $n + 1", {"n": 41}, 42),
        ("SELECT $n::int8 * 2 + $n", {"n": 2**40}, 3 * 2**40),
        ("SELECT $t::text", {"t": HOSTILE}, HOSTILE),
        ("SELECT $x::float8 / 2", {"x": 3}, 1.5),
        ("SELECT ($x::numeric * 3)::text", {"x": "0.1"}, "0.3"),
        ("SELECT $b::bool", {"b": True}, True),
        ("SELECT $nothing::int IS NULL", {"nothing": None}, True),
        ("SELECT $t::timestamptz", {"t": NOON}, NOON),
        ("SELECT $t::timestamp", {"t": NOON}, NOON),
        ("SELECT ($t::date)::text", {"t": NOON}, str(date(2020, 1, 1))),
        ("SELECT ($i::interval)::text", {"i": timedelta(days=1, seconds=-1)}, "23:59:59"),
        ("SELECT cardinality($l::int[])", {"l": [1, 2, 3]}, 3),
        ("SELECT ($t::timestamptz[])[2]", {"t": [NOON, NOON]}, NOON),
        ("SELECT ($j::jsonb)->>'a'", {"j": {"a": "x"}}, "x"),
        (QUOTED, {}, "$nc $n  $n "),
        (r"SELECT E'\'$n' || $n::text", {"n": "!"}, "'$n!"),
    ],
)  # fmt: skip
async def test_inputs_are_parameters(shared: Bench, query: str, inputs: dict[str, Any], expected: Any) -> None:
    await shared.sql("CREATE TABLE IF NOT EXISTS t (n int)", "SELECT 1")
    async with running_server(shared.connector()) as host:
        assert await outputs(host, task(query), inputs) == {"result": expected}
    assert await shared.sql("SELECT count(*) FROM t") == 0


@pytest.mark.parametrize(
    ("template", "inputs", "words"),
    [
        (task("SELECT 1", connection="other"), {}, "there is no connection 'other'; there are: main"),
        (task("SELECT 1", connection="postgresql://u:geheim@db/x"), {}, "there is no connection of that kind"),
        (task("SELECT 1", dsn="postgresql://u:geheim@db/x"), {}, "custom has unknown keys dsn"),
        (task("SELECT 1", transaction="no"), {}, "custom.transaction is not true or false"),
        (task("SELECT 'a\0b'"), {}, "the statement has a NUL"),
        (task("SELECT $t::text"), {"t": "a\0b"}, "input 't' has a NUL"),
        (task("SELECT $t::text[]"), {"t": ["a", "\0"]}, "input 't' has a NUL"),
        (task("SELECT '" + "x" * MAX_STATEMENT_BYTES + "'"), {}, "at most 1048576 are taken"),
        (task(""), {}, "the task has no statement"),
        (task("  -- only /* a comment"), {}, "the task has no statement"),
        (task("SELECT $1"), {"a": 1}, "write parameters as $NAME"),
        (task("SELECT $a"), {"b": 1}, "the statement names $a, and there is no such input; inputs: b"),
        (task("SELECT $a::int"), {"a": "x"}, "$1 is $a"),
        (task("SELECT $a::int"), {"a": 2**40}, "$1 is $a"),
        (task("SELECT $a::timestamptz"), {"a": "now"}, "$1 is $a"),
        (task("SELECT $a::jsonb"), {"a": {"x": float("nan")}}, "cannot be written as JSON"),
        (
            task("SELECT $a::text"),
            {"a": StructuredDataset("s3://b/t", "parquet")},
            "is a table; write it as one in the statement",
        ),
        (task("SELECT $q$ open"), {}, "a quote $q$ that is not closed"),
        (task("COMMIT"), {}, "begins with COMMIT is refused"),
        (task("/* x */ Rollback AND CHAIN"), {}, "begins with ROLLBACK is refused"),
        (task("PREPARE TRANSACTION 'x'"), {}, "begins with PREPARE is refused"),
        (task("SET ROLE admin"), {}, "begins with SET is refused"),
        (task("COPY t TO STDOUT"), {}, "begins with COPY is refused"),
        (task("DO $$ BEGIN COMMIT; END $$"), {}, "invalid transaction termination"),
    ],
)
async def test_bad_input_fails_the_job_with_the_reason(
    shared: Bench, template: TaskTemplate, inputs: dict[str, Any], words: str
) -> None:
    async with running_server(shared.connector()) as host:
        over = await run(host, template, inputs)
    assert Phase(over.phase) is Phase.FAILED, over.message
    assert words in over.message
    assert "geheim" not in over.message
    if "$1 is $a" in words:
        assert over.agent_error.code == "BAD_PARAMETER"


async def test_the_statement_may_be_in_the_templates_own_place(bench: Bench) -> None:
    template = task("")
    template.sql.statement = "SELECT 3"
    async with running_server(bench.connector()) as host:
        assert await outputs(host, template) == {"result": 3}


async def test_a_connection_has_to_be_named_where_there_are_several(bench: Bench) -> None:
    section = bench.section()
    section["connections"]["reports"] = {"dsn": bench.dsn, "read_only": True}
    module = "connector_plugin_postgres.plugin"
    async with running_server(plugins=[module], settings={"plugins": {module: section}}) as host:
        over = await run(host, task("SELECT 1"))
        assert "the task names no connection; there are: main, reports" in over.message
        assert await outputs(host, task("SELECT 1", connection="reports")) == {"result": 1}


async def test_a_role_is_what_statements_begin_as(bench: Bench) -> None:
    role = f"reader_{bench.database}"
    await bench.sql(
        f"CREATE ROLE {role}", f"GRANT SELECT, INSERT ON flyte_jobs TO {role}", "CREATE TABLE t (n int)", "SELECT 1"
    )
    async with running_server(bench.connector(role=role)) as host:
        assert await outputs(host, task("SELECT current_user::text")) == {"result": role}
        over = await run(host, task("SELECT * FROM t"))
    assert (Phase(over.phase), over.agent_error.code) == (Phase.FAILED, "PERMISSION_DENIED")


async def test_handles_that_are_not_ours_are_refused(bench: Bench) -> None:
    async with running_server(
        bench.connector(), settings={"ride_out": {"failures": 0}, "deadlines": {"get": 0.5}}
    ) as host:
        for meta, code in (
            (PostgresMeta("../etc", "main"), grpc.StatusCode.INVALID_ARGUMENT),
            (PostgresMeta("0" * 48, "gone"), grpc.StatusCode.UNAVAILABLE),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await host.get("postgres_query", meta.encode())
            assert caught.value.code() is code


async def test_statements_beyond_the_limit_wait_for_their_turn(bench: Bench) -> None:
    async with running_server(bench.connector(max_jobs=2)) as host, bench.gate() as gate:
        metas = [await host.create(task("SELECT pg_advisory_xact_lock_shared(5)::text")) for _ in range(5)]
        phases = [Phase((await host.get("postgres_query", meta)).phase) for meta in metas]
        assert phases == [Phase.RUNNING] * 2 + [Phase.WAITING_FOR_RESOURCES] * 3
        backends = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^flyte-[0-9a-f]{48}$'"
        assert await bench.sql(backends) == 2
        await gate.close()
        assert {Phase((await ended(host, meta)).phase) for meta in metas} == {Phase.SUCCEEDED}
