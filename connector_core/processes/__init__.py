"""Other processes: programs that are run to their end, and children that serve beside this process and end with it."""

from connector_core.processes.children import (
    Child,
    Lifeline,
    exit_code,
    on_end_of_parent,
    told_end,
    without_inheritance,
)
from connector_core.processes.programs import Ended, Interrupted, interruptible, run, run_apart, undisturbed

__all__ = [
    "Child",
    "Ended",
    "Interrupted",
    "Lifeline",
    "exit_code",
    "interruptible",
    "on_end_of_parent",
    "run",
    "run_apart",
    "told_end",
    "undisturbed",
    "without_inheritance",
]
