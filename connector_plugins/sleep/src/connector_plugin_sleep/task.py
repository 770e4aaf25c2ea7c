"""The task that a workflow author writes for this connector; needs the extra `flytekit`."""

import time
from typing import Any

from flytekit.core.base_task import PythonTask
from flytekit.core.interface import Interface


class SleepTask(PythonTask[None]):
    """Does nothing for `seconds` (its input, a float); its output `slept` is how long that was.

    Args:
        name: the task's name.
        kwargs: whatever else flytekit's tasks take, such as `metadata`.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        interface = Interface(inputs={"seconds": float}, outputs={"slept": float})
        super().__init__(task_type="sleep", name=name, task_config=None, interface=interface, **kwargs)

    def execute(self, **kwargs: Any) -> float:
        """Sleep here, for trying a workflow locally."""
        seconds: float = kwargs["seconds"]
        time.sleep(seconds)
        return seconds
