"""Texts made fit for their readers: near names, cuts by bytes, and no characters that no wire carries."""

from collections.abc import Iterable

CUT = " ... (cut here)"
"""The end of a text that was cut."""


def alike(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return up to `most` of the known names that are like this one, the nearest first."""
    from difflib import get_close_matches  # here, since a host whose names are all known needs none

    return get_close_matches(name, known, n=most)


def writable(text: str) -> str:
    """Return a text without lone surrogates, which stand for bytes of file names that are not UTF-8."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def cut_text(text: str, max_bytes: int) -> str:
    """Return a text that protobuf takes, cut to so many bytes of UTF-8, and saying that it was."""
    encoded = text.encode(errors="replace")
    if len(encoded) > max_bytes:
        return encoded[: max_bytes - len(CUT)].decode(errors="ignore") + CUT
    return encoded.decode()


def cut_header(text: str, max_bytes: int) -> str:
    """Cut a text to so many bytes as gRPC writes it in a header: percent-encoded, most characters but ASCII take three each."""
    left = max_bytes - 3
    encoded = text.encode(errors="replace")
    for position, byte in enumerate(encoded):
        left -= 1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3
        if left < 0:
            return encoded[:position].decode(errors="ignore") + "..."
    return encoded.decode()


def cut_ascii(text: str, max_bytes: int) -> str:
    """Return a text as printable ASCII in one line, which plain gRPC metadata and HTTP headers carry, cut to so many bytes."""
    line = " ".join(text.split()).encode("ascii", errors="replace").decode()
    printable = "".join(character if character.isprintable() else "?" for character in line)
    return printable if len(printable) <= max_bytes else printable[: max_bytes - 3] + "..."


_SIGNALS = "signal handlers are the host's, and plugin code runs in other threads: set yours in a process of your own"
_OF_THE_MAIN_THREAD = {
    "only works in main thread": _SIGNALS,
    "only be called from the main thread": _SIGNALS,
    "There is no current event loop in thread": "this thread has no event loop: take one in an `async def`, such as start()",
}
"""Hints for errors about the main thread, by the words of Python and uvloop: what plugin code can do instead."""


def main_thread_hint(text: str) -> str:
    """Return why plugin code cannot do what an exception's text says; empty where that is about something else."""
    return next((hint for mark, hint in _OF_THE_MAIN_THREAD.items() if mark in text), "")
