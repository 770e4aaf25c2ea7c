"""The one place that runs plugin code: async or blocking, away from the loop that serves, under a deadline and a limit.

The face is narrow on purpose (a connector, an operation, plain arguments, a timeout; an answer or a `ConnectorError`), so
that a plugin may one day run in a process of its own behind the same face.
"""

from connector_core.invocation.invoker import Invoker
from connector_core.invocation.limits import CallLimits

__all__ = ["CallLimits", "Invoker"]
