"""Connections: a caller's own credentials for a connector's backend, in place of the host's secrets."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from connector_core.secrets import SecretStr


class Connection(msgspec.Struct, frozen=True):
    """A backend's credentials and settings, as engines of the 2.x line send them with a call.

    Those of the 1.x line send none, which reads as an empty one. It belongs to the call that brought it: it goes into nothing
    that the host remembers of jobs, and a job that one engine has created may be asked for by another one, which has its own
    or none. Its secrets are kept out of the host's log.

    Attributes:
        secrets: by name; `.get_secret_value()` of one is its text, everything else hides it.
        configs: settings that are not secret, such as an account or an address, by name.
        task_type: the task type that it is meant for, where the caller says so.
    """

    secrets: "Mapping[str, SecretStr]" = msgspec.field(default_factory=dict)
    configs: Mapping[str, str] = msgspec.field(default_factory=dict)
    task_type: str = ""
