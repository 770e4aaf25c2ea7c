"""Secrets, found where Flyte's deployments mount them."""

import os
from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import Path

from connector_core.errors import SecretNotFoundError
from connector_core.tables import file_name

_MOST_BROUGHT = 1000


class SecretStr:
    """A text that hides itself; `get_secret_value` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """Return the text."""
        return self._text

    def __str__(self) -> str:
        return "**********" if self._text else ""

    def __repr__(self) -> str:
        return f"SecretStr({str(self)!r})"

    def __len__(self) -> int:
        return len(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class SecretSource:
    """The places of secrets: environment variables with a prefix, then files in a folder.

    The defaults are those of flytekit (`FLYTE_SECRETS_ENV_PREFIX`, `FLYTE_SECRETS_DEFAULT_DIR`), which deployments use.
    """

    def __init__(self, env_prefix: str = "_FSEC_", folder: Path = Path("/etc/secrets")) -> None:
        self.env_prefix = env_prefix
        self.folder = folder
        self._handed_out: set[str] = set()
        self._brought: dict[str, None] = {}

    @property
    def handed_out(self) -> frozenset[str]:
        """The texts of all secrets that plugins have got, from `get` or lately with a call, to be kept out of logs."""
        return frozenset(self._handed_out) | frozenset(self._brought)

    def note_brought(self, secrets: Iterable[SecretStr]) -> None:
        """Take note of secrets that a caller has brought with its call; the oldest of very many are forgotten."""
        for secret in secrets:
            text = secret.get_secret_value()
            self._brought.pop(text, None)
            self._brought[text] = None
        while len(self._brought) > _MOST_BROUGHT:
            del self._brought[next(iter(self._brought))]

    def get(self, key: str, group: str | None = None) -> SecretStr:
        """Return a secret; `.get_secret_value()` of the answer is its text, everything else hides it.

        Raises:
            SecretNotFoundError: naming both places where it was looked for.
            ValueError: `key` or `group` is not a plain name.
        """
        parts = [part for part in (group, key) if part]
        if not key or any("/" in part or "\0" in part or part in {".", ".."} for part in parts):
            raise ValueError("a secret's key and group are plain names, without slashes")
        variable = self.env_prefix + "_".join(parts).upper()
        if (found := os.environb.get(variable.encode(errors="surrogateescape"))) is not None:
            return self._hand_out(_text(found))
        file = self.folder.joinpath(*(file_name(part.lower()) for part in parts))
        try:
            return self._hand_out(file.read_text(encoding="utf-8"))
        except OSError as error:
            reason = error.strerror
        except UnicodeDecodeError:
            reason = "it is not UTF-8"
        # Outside of the handlers, so that the error has no context: a UnicodeDecodeError carries the secret's bytes.
        wanted = f"{key!r} of group {group!r}" if group else repr(key)
        raise SecretNotFoundError(
            f"no secret {wanted}: the environment variable {variable} is not set, "
            f"and the file {file} cannot be read: {reason}"
        )

    def note(self, secret: str) -> None:
        """Count a secret that plugin code has got in another way as handed out, so that it is kept out of logs as well."""
        self._handed_out.add(secret)

    def _hand_out(self, text: str) -> SecretStr:
        secret = text.strip()  # like flytekit: secrets made with `echo` end in a newline
        self.note(secret)
        return SecretStr(secret)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:  # it is of another encoding, which the locale may know
        return os.fsdecode(raw)


_source: ContextVar[SecretSource | None] = ContextVar("connector_core.secrets", default=None)


def get_secret(key: str, group: str | None = None) -> SecretStr:
    """Return a secret from the places that the host's settings name (`[secrets]`), or the usual ones outside a host.

    Looked for are the environment variable `_FSEC_<GROUP>_<KEY>` in capitals, then the file
    `/etc/secrets/<group>/<key>` in lower case.

    Raises:
        SecretNotFoundError: naming both places where it was looked for.
        ValueError: `key` or `group` is not a plain name.
    """
    return (_source.get() or SecretSource()).get(key, group)


def use_source(source: SecretSource) -> None:
    """Let `get_secret` look into `source` in the current context and all that is started from it."""
    _source.set(source)


def current_source() -> SecretSource:
    """Return where `get_secret` looks, for code that has another way to say which secret it wants."""
    return _source.get() or SecretSource()
