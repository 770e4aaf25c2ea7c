"""The long run of the wire's faults, cut short."""

from tests.long.wire_faults import run


async def test_the_long_run_ends_well() -> None:
    await run(1000, seed=1)
