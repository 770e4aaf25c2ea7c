"""The task that a workflow author writes for this connector with SDK 2; needs the extra `flyte`."""

import asyncio
import inspect
from typing import Any

from flyte.extend import TaskTemplate
from flyte.models import NativeInterface, SerializationContext


class SleepTask(TaskTemplate[Any, Any, Any]):
    """A task that does nothing for `seconds` (its input, a float); its output `slept` is how long that was.

    Args:
        name: the task's name.
        kwargs: whatever else the SDK's tasks take, such as `retries`.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        interface = NativeInterface(inputs={"seconds": (float, inspect.Parameter.empty)}, outputs={"slept": float})
        super().__init__(task_type="sleep", name=name, interface=interface, **{"image": None, **kwargs})

    def custom_config(self, sctx: SerializationContext) -> dict[str, Any]:  # noqa: ARG002 - the SDK's signature
        """Return what marks the SDK: engines of the 2.x line fail a task without `custom`, and the SDK sends no empty one."""
        return {"sdk": "flyte"}

    async def execute(self, seconds: float) -> float:
        """Sleep here, for trying a workflow locally."""
        await asyncio.sleep(seconds)
        return seconds
