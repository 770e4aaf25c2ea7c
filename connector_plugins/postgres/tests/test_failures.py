"""What each kind of failure of a statement becomes, and what is left of it."""

import pytest

from connector_core import Phase
from connector_core.literals import to_python_map
from connector_core.testing import running_server

from .conftest import Bench, ended, outputs, reached, run, task


def raising(state: str) -> str:
    return f"DO $$ BEGIN INSERT INTO t VALUES (1); RAISE EXCEPTION 'as asked' USING ERRCODE = '{state}'; END $$"


@pytest.fixture
async def counted(bench: Bench) -> Bench:
    """A bench with an empty table `t`."""
    await bench.sql("CREATE TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)", "SELECT 1")
    return bench


@pytest.mark.parametrize(
    ("state", "phase", "code"),
    [
        ("40001", Phase.RETRYABLE_FAILED, "SERIALIZATION_FAILURE"),
        ("40P01", Phase.RETRYABLE_FAILED, "DEADLOCK"),
        ("55P03", Phase.RETRYABLE_FAILED, "LOCK_NOT_AVAILABLE"),
        ("53100", Phase.RETRYABLE_FAILED, "SQLSTATE_53100"),
        ("42501", Phase.FAILED, "PERMISSION_DENIED"),
        ("P0001", Phase.FAILED, "SQLSTATE_P0001"),
        ("57014", Phase.ABORTED, "CANCELLED"),
        ("57P01", Phase.RETRYABLE_FAILED, "CONNECTION_LOST"),
    ],
)
async def test_a_state_of_the_servers_has_its_phase_and_word(
    counted: Bench, state: str, phase: Phase, code: str
) -> None:
    async with running_server(counted.connector()) as host:
        over = await run(host, task(raising(state)))
    assert (Phase(over.phase), over.agent_error.code) == (phase, code)
    if code not in {"CANCELLED", "CONNECTION_LOST"}:
        assert "as asked" in over.message
    assert await counted.sql("SELECT count(*) FROM t") == 0


@pytest.mark.parametrize(
    ("statement", "code", "words"),
    [
        ("SELEC 1", "SQLSTATE_42601", "syntax error"),
        ("SELECT 1/0", "SQLSTATE_22012", "division by zero"),
        ("SELECT * FROM nowhere", "SQLSTATE_42P01", '"nowhere" does not exist'),
        ("INSERT INTO t VALUES (1), (1)", "SQLSTATE_23505", "duplicate key"),
        ("VACUUM t", "SQLSTATE_25001", "set custom `transaction` to false"),
        ("SELECT 1; SELECT 2", "SQLSTATE_42601", "multiple commands"),
    ],
)
async def test_a_statement_that_fails_is_told_in_the_servers_words(
    counted: Bench, statement: str, code: str, words: str
) -> None:
    async with running_server(counted.connector()) as host:
        meta = await host.create(task(statement))
        over = await ended(host, meta)
    assert (Phase(over.phase), over.agent_error.code) == (Phase.FAILED, code)
    assert words in over.message
    # Another host knows it from the row.
    async with running_server(counted.connector()) as host:
        again = await host.get("postgres_query", meta)
    assert (Phase(again.phase), again.agent_error.code, again.message) == (Phase.FAILED, code, over.message)
    assert await counted.sql("SELECT count(*) FROM t") == 0


async def test_a_statement_that_takes_too_long_is_ended(bench: Bench) -> None:
    async with running_server(bench.connector(statement_timeout=0.2)) as host:
        over = await run(host, task("SELECT pg_sleep(100)::text"))
    assert (Phase(over.phase), over.agent_error.code) == (Phase.FAILED, "STATEMENT_TIMEOUT")


async def test_the_time_of_a_streamed_result_is_that_of_all_its_rows(bench: Bench) -> None:
    # Each part of the rows is in time for the server, which counts them one by one.
    slowly = "SELECT n, pg_sleep(0.003)::text AS s FROM generate_series(1, 1000) AS n"
    async with running_server(bench.connector(statement_timeout=0.5, results={"inline_rows": 1})) as host:
        over = await run(host, task(slowly), prefix=bench.prefix)
    assert (Phase(over.phase), over.agent_error.code) == (Phase.FAILED, "STATEMENT_TIMEOUT")


async def test_a_statement_that_somebody_cancels_is_aborted(bench: Bench) -> None:
    async with running_server(bench.connector()) as host:
        meta = await host.create(task("SELECT pg_sleep(100)::text"))
        await reached(host, meta, Phase.RUNNING)
        await bench.until("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        await bench.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        over = await ended(host, meta)
    assert (Phase(over.phase), over.agent_error.code) == (Phase.ABORTED, "CANCELLED")
    assert "somebody else" in over.message


async def test_a_statement_that_refuses_a_transaction_runs_without_one_where_that_is_asked_for(bench: Bench) -> None:
    await bench.sql("CREATE TABLE t (n int)", "SELECT 1")
    async with running_server(bench.connector()) as host:
        over = await run(host, task("VACUUM t", transaction=False))
        assert Phase(over.phase) is Phase.SUCCEEDED
        assert to_python_map(over.outputs) == {}
        assert await outputs(host, task("CREATE INDEX CONCURRENTLY i ON t (n)", transaction=False)) == {}
        refused = await run(host, task("SELECT 1", transaction=False))
        assert (Phase(refused.phase), "leave `transaction` out" in refused.message) == (Phase.FAILED, True)
    assert await bench.sql("SELECT count(*) FROM pg_indexes WHERE indexname = 'i'") == 1


async def test_nobody_claims_to_know_the_end_of_a_lost_statement_without_transaction(bench: Bench) -> None:
    await bench.sql("CREATE TABLE t (n int)", "SELECT 1")
    async with running_server(bench.connector()) as host, bench.gate():
        body = "DO $$ BEGIN PERFORM pg_advisory_lock_shared(5); END $$"
        meta = await host.create(task(body, transaction=False))
        await bench.until("SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory'")
        await bench.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'advisory'")
        over = await ended(host, meta)
    assert (Phase(over.phase), over.agent_error.code) == (Phase.FAILED, "END_UNKNOWN")
    assert "look before you run it again" in over.message
