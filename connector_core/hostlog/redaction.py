"""Redaction of logs: values under names of secrets, resource metas, and secrets that the host has handed out."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from connector_core.resource_meta import ResourceMeta

HIDDEN = "[hidden]"

_ALWAYS = frozenset({
    "authorization", "bearer", "cookie", "credential", "credentials", "passphrase", "passwd", "password", "passwords", "pwd",
    "secret", "secrets",
})  # fmt: skip
_UNLESS_A_NUMBER = frozenset({"auth", "apikey", "jwt", "key", "keys", "token", "tokens"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_RESOURCE_META = "resource_meta"
_KNOWN_KEYS = frozenset({"idempotency_key"})
"""Names with such a word that hold no secret."""

_LONGEST_KNOWN_NAME = 100
"""Names are few, and those of each line the same; what is longer is not a name, and not kept."""

MAX_TEXT = 64 * 1024
_MAX_DEPTH = 8
_MAX_ITEMS = 200
_SHORTEST_SECRET = 6
"""Shorter ones are words that also mean something else; hiding them would say what they are."""

# What stands before a name, such as `access_` of `access_token`, is left out: looking for its beginning would take time that
# grows with the square of a text's length, and `re` lets no other thread run meanwhile.
_NAMED = (
    r"(?:token|passw(?:or)?d|passphrase|secret|api[_\-]?key|access[_\-]?key|private[_\-]?key|credentials?|pwd"
    r"|authorization|cookie|resource_meta)"
)
_IN_TEXT = re.compile(
    rf"""(?P<name>{_NAMED}["']?\s{{0,8}}(?:=|(?<=["'])\s{{0,8}}:)\s{{0,8}}|\b(?:authorization|password)\s{{0,8}}:\s{{0,8}})"""
    r"""(?P<value>b?"(?:[^"\\]|\\.)*(?:"|$)|b?'(?:[^'\\]|\\.)*(?:'|$)|(?:(?:bearer|basic|token)\s+)?[^\s"',;&)}\]]+)""",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"(?P<user>://[^\s/:@]{0,200}:)[^\s/@]{1,2000}(?=@)")


def is_secret(name: str, value: object) -> bool:
    """Return whether the value under a name must be kept out of the log."""
    is_always, is_unless_a_number = (_words if len(name) <= _LONGEST_KNOWN_NAME else _words.__wrapped__)(name)
    return is_always or (is_unless_a_number and not (value is None or isinstance(value, int | float)))


@lru_cache(maxsize=1024)
def _words(name: str) -> tuple[bool, bool]:
    """Return whether a name is one of secrets, and whether it is one unless its value is a number."""
    words = {word.lower() for word in _WORD.findall(name)}
    return bool(words & _ALWAYS) or _RESOURCE_META in name, bool(words & _UNLESS_A_NUMBER) and name not in _KNOWN_KEYS


def without_secrets(value: Any, *, keeps_others: bool = False, depth: int = 0) -> Any:
    """Return a copy with plain values alone, and none of a secret's.

    Args:
        value: whatever an author logs.
        keeps_others: leave objects as they are, for `%`; else what prints them stands for them.
        depth: how deep it lies.
    """
    if isinstance(value, ResourceMeta):
        return HIDDEN
    if isinstance(value, str):
        return cut(value)
    if value is None or isinstance(value, int | float):
        return value
    if depth >= _MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {
            _key(name): HIDDEN
            if is_secret(str(name), one)
            else without_secrets(one, keeps_others=keeps_others, depth=depth + 1)
            for name, one in islice(value.items(), _MAX_ITEMS)
        }
    if isinstance(value, list | tuple | set | frozenset):
        copied = [without_secrets(one, keeps_others=keeps_others, depth=depth + 1) for one in islice(value, _MAX_ITEMS)]
        return tuple(copied) if isinstance(value, tuple) else copied
    return value if keeps_others else _printed(value)


def cut(text: str) -> str:
    """Cut a text to what a log takes of one: plugins log whole answers of backends."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... (cut here)"


def _key(name: object) -> Any:
    return name if isinstance(name, str | int | float | bool) or name is None else _printed(name)


def _printed(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - an author's object may not even be printable
        return f"(a {type(value).__name__} that cannot be printed: {type(error).__name__})"


class Scrubber:
    """Takes secrets out of texts: those under a name, such as `token=...`, and those that are known.

    Args:
        known: returns the secrets that are known now; called for each text.
    """

    def __init__(self, known: Callable[[], Iterable[str]]) -> None:
        self._known = known
        self._seen: tuple[frozenset[str], tuple[str, ...]] = (frozenset(), ())  # in one, as several threads scrub

    def scrub(self, value: Any) -> Any:
        """Return a text, or all in a plain value, without secrets."""
        return _scrubbed(value, self._long_first())

    def _long_first(self) -> tuple[str, ...]:
        """Return what is known and long enough; no pattern of all, which would be compiled anew for each that callers bring."""
        known = frozenset(self._known())
        seen, long_first = self._seen
        if known != seen:
            long_first = tuple(sorted((one for one in known if len(one) >= _SHORTEST_SECRET), key=len, reverse=True))
            self._seen = (known, long_first)
        return long_first


def _scrubbed(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return _scrubbed_text(value, secrets)
    if isinstance(value, Mapping):
        return {_scrubbed(name, secrets): _scrubbed(one, secrets) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(one, secrets) for one in value]
    return value


def _scrubbed_text(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    if ":" in text or "=" in text:  # one of which the patterns need, and most texts do not have
        text = _IN_TEXT.sub(_hide_value, text)
        if "://" in text:
            text = _IN_URL.sub(rf"\g<user>{HIDDEN}", text)
    return text


def _hide_value(found: "re.Match[str]") -> str:
    value = found["value"]
    quote = value[-1] if value[-1] in "\"'" else ""
    return f"{found['name']}{quote}{HIDDEN}{quote}"
