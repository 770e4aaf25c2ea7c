"""Values for flyte's connectors and from them, converted by flyte's own type engine."""

from typing import Any

from flyte.connectors import Resource as FlyteResource
from flyte.connectors._connector import get_resource_proto  # not public; what flyte's server answers is made by it
from flyte.types import TypeEngine
from flyteidl.admin.agent_pb2 import Resource as WireResource
from flyteidl2.core.literals_pb2 import LiteralMap
from flyteidl2.core.tasks_pb2 import TaskTemplate
from flyteidl2.task.common_pb2 import Inputs

from connector_core.errors import IllegalAnswerError, TransientError
from connector_core.resource import BridgedResource, taken_apart, to_task_log, without_early_outputs
from connector_plugin_flyte.messages import as_message


async def native_inputs(template: TaskTemplate, inputs: Inputs) -> dict[str, Any]:
    """Return a task's inputs as the Python values that flyte's type engine makes of them."""
    if not inputs.literals:
        return {}
    types: dict[str, Any] = {
        entry.key: TypeEngine.guess_python_type(entry.value.type) for entry in template.interface.inputs.variables
    }
    literals = LiteralMap(literals={named.name: named.value for named in inputs.literals})
    values: dict[str, Any] = await TypeEngine.literal_map_to_kwargs(literals, types)
    return values


async def wire_resource(answer: object) -> BridgedResource:
    """Return what a flyte connector answered as the first generation's message.

    Raises:
        IllegalAnswerError: it is not a resource of flyte's, or flyte cannot convert what is in it, now or later.
        TransientError: it is in no phase, which an engine would read as a failure.
    """
    if not isinstance(answer, FlyteResource):
        raise IllegalAnswerError(f"returned a {type(answer).__name__}, not a flyte.connectors.Resource")
    bare, custom_info = taken_apart(answer)
    wire = await _converted(bare)
    if not wire.phase:
        raise TransientError(f"the connector answered the phase UNDEFINED: {wire.message or 'it says no more'}")
    return BridgedResource(wire, custom_info)


async def _converted(answer: FlyteResource) -> WireResource:
    try:
        told = await get_resource_proto(answer)
        wire = as_message(WireResource, told)
        del wire.log_links[:]  # whose fields of this generation alone would be read as not given where they are 0
        wire.log_links.extend(map(to_task_log, told.log_links))
    except (TypeError, ValueError, AssertionError) as error:
        if (running := without_early_outputs(answer)) is not None:
            return await _converted(running)
        what = f"{type(answer).__name__} that cannot be sent: {type(error).__name__}: {error}"
        raise IllegalAnswerError(f"returned a {what}") from error
    return wire
