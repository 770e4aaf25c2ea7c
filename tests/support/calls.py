"""Records of calls, for what is told of them."""

from typing import Any

from connector_core.description import PluginIdentity
from connector_core.observing.call_records import CallRecord

NOW = 1_700_000_000.0
PLUGIN = PluginIdentity("acme", "connector-plugin-acme", "1.0")


def call(**changes: Any) -> CallRecord:
    """Return the record of a call that went well, but for `changes`."""
    usual: dict[str, Any] = {
        "at": NOW,
        "seconds": 0.01,
        "operation": "create",
        "task_type": "job",
        "plugin": PLUGIN,
        "connector": "Jobs",
        "execution": "sales/prod/f00/n0/0",
        "code": "OK",
        "reference": "",
        "is_failed_job": False,
    }
    return CallRecord(**{**usual, **changes})
