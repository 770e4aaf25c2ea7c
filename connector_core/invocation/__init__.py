"""The one place that runs plugin code: async or blocking, away from the loop that serves, under a deadline and a limit.

The face is narrow: a connector's description, an operation, an offer, a timeout; an answer or a `ConnectorError`. So a plugin
runs behind the same face wherever its place is.
"""

from connector_core.invocation.invoker import Invoker
from connector_core.invocation.local import LocalPlaces
from connector_core.invocation.places import CallLimits
from connector_core.invocation.runtime import LocalRuntime

__all__ = ["CallLimits", "Invoker", "LocalPlaces", "LocalRuntime"]
