"""A host should get calls unless it lacks what it cannot do without, or is about to stop."""

from collections.abc import Sequence
from typing import Any

from connector_core.description import PluginIdentity
from connector_core.errors import BackendUnavailableError
from connector_core.inspection import inspect_connector
from connector_core.plugins import FailedPlugin, PluginLoadResult
from connector_core.readiness import host_state
from connector_core.settings import Settings
from connector_core.tables import read
from tests.fakes import Jobs

BROKEN = PluginLoadResult(failed=(FailedPlugin(PluginIdentity("broken", "broken-dist", "1.0"), "no licence", "", 0.0),))
AWAY = {
    inspect_connector(Jobs(), PluginIdentity("warehouse")).description: BackendUnavailableError("the warehouse is away")
}


def reasons(plugins: Any = None, not_started: Any = None, is_draining: bool = False, **settings: Any) -> Sequence[str]:
    state = host_state(read(Settings, settings), plugins or PluginLoadResult(), not_started or {}, is_draining)
    return state.reasons_not_ready


def test_what_nobody_requires_is_no_reason() -> None:
    assert reasons(BROKEN, AWAY) == []


def test_a_required_plugin_that_failed_is_one() -> None:
    failed = "plugin 'broken' (distribution broken-dist 1.0) failed to load: no licence"
    assert reasons(BROKEN, AWAY, require=("broken",)) == [failed]


def test_so_is_a_connector_of_a_required_plugin_that_has_not_started() -> None:
    (reason,) = reasons(BROKEN, AWAY, require=("warehouse",))
    assert reason == "connector 'job connector' of plugin 'warehouse' could not be started: the warehouse is away"


def test_where_everything_is_required_all_are_told() -> None:
    assert len(reasons(BROKEN, AWAY, strict=True)) == 2


def test_draining_is_told_first() -> None:
    first, *rest = reasons(BROKEN, is_draining=True, strict=True)
    assert first.startswith("draining")
    assert len(rest) == 1
