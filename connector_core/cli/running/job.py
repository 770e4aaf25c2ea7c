"""A job and its handle: one line of text with which `get`, `logs` and `delete` find it again."""

import base64
import binascii
from dataclasses import dataclass
from typing import Self

import msgspec

from connector_core.errors import SettingsError
from connector_core.task import TaskCategory

_FORM = 1


@dataclass(frozen=True, slots=True)
class Job:
    """A job that was created.

    Attributes:
        category: its task type.
        resource_meta: what its connector calls it, as the wire has it.
        output_prefix: where its outputs go, as the create said.
        endpoint: the host that it was created at; empty for the installed plugins.
    """

    category: TaskCategory
    resource_meta: bytes
    output_prefix: str = ""
    endpoint: str = ""

    def to_text(self) -> str:
        """Return the handle: letters, digits, `-` and `_`, of which a letter is the first."""
        fields = (
            _FORM,
            self.category.name,
            self.category.version,
            self.resource_meta,
            self.output_prefix,
            self.endpoint,
        )
        return base64.urlsafe_b64encode(msgspec.msgpack.encode(fields)).rstrip(b"=").decode()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a handle.

        Raises:
            SettingsError: it is none.
        """
        text = text.strip()
        try:
            packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            form, name, version, resource_meta, output_prefix, endpoint = msgspec.msgpack.decode(packed)
        except (binascii.Error, ValueError, TypeError, RecursionError):
            raise _no_handle() from None
        kinds = (type(name), type(version), type(resource_meta), type(output_prefix), type(endpoint))
        if form != _FORM or kinds != (str, int, bytes, str, str):
            raise _no_handle()
        return cls(TaskCategory(name, version), resource_meta, output_prefix, endpoint)


def _no_handle() -> SettingsError:
    return SettingsError("HANDLE is not one that `connector-host run --detach` printed, or not the whole of it")
