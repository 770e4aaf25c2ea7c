"""Jobs between the engine and the connectors, so that none is lost, doubled or wrongly failed.

The engine throws status codes away on CreateTask, counts GetTask failures over a task's whole life and repeats creates
after a deadline. What makes up for that is here: creates are idempotent, polls ride out trouble, and what the host has to
tell in its own name travels in resource metas of its own.
"""

from connector_core.jobs.creates import Created
from connector_core.jobs.jobs import Jobs
from connector_core.jobs.memory import Memory, open_memory

__all__ = ["Created", "Jobs", "Memory", "open_memory"]
