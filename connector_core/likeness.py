"""Names that somebody may have meant who wrote another."""

from collections.abc import Iterable


def alike(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return up to `most` of the known names that are like this one, the likest first."""
    from difflib import get_close_matches  # here, since a host whose names are all known needs none

    return get_close_matches(name, known, n=most)
