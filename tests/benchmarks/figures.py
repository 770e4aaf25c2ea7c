"""What has been measured: values by row, metric and round, their medians, spreads and ratios."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Figures = dict[str, dict[str, list[float]]]
"""Values by row (a server, say) and metric, one for each round."""


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, and seconds for each rate."""

    rounds: int = 5
    seconds: float = 1.25
    is_quick: bool = False

    @classmethod
    def quick(cls) -> "Effort":
        """Return what shows that everything works, and no more."""
        return cls(rounds=1, seconds=0.5, is_quick=True)


@dataclass(frozen=True)
class Section:
    """What was measured of one kind, when, and the percentage of the machine that others took just before."""

    figures: Figures
    commit: str
    when: str
    effort: str
    others: float


@dataclass
class Results:
    """All sections, kept in a file so that a part can be measured again, and the page written anew from it."""

    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    sections: dict[str, Section] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Read them; nothing, where there is no file."""
        if not path.exists():
            return cls()
        found = json.loads(path.read_text())
        sections = {name: Section(**section) for name, section in found["sections"].items()}
        return cls(found["machine"], found["versions"], sections)

    def write(self, path: Path) -> None:
        """Write them, each value with the digits that mean something."""
        rounded = json.loads(json.dumps(asdict(self)), parse_float=lambda text: float(f"{float(text):.5g}"))
        path.write_text(json.dumps(rounded, indent=1) + "\n")

    def values(self, section: str, row: str, metric: str) -> Sequence[float]:
        """Return a value for each round; none, where it was not measured."""
        found = self.sections.get(section)
        return found.figures.get(row, {}).get(metric, []) if found else []

    def median(self, section: str, row: str, metric: str) -> float:
        """Return the median over the rounds.

        Raises:
            KeyError: it was not measured.
        """
        values = self.values(section, row, metric)
        if not values:
            raise KeyError(f"{section}: {row}: {metric}")
        return statistics.median(values)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio in each round, which the weather of the machine has less to do with than with either."""
    return [one / other for one, other in zip(above, below, strict=False) if other]


def spread(values: Sequence[float], form: str) -> str:
    """Return the median with the least and the greatest value."""
    if not values:
        return "-"
    median = form.format(statistics.median(values))
    low, high = form.format(min(values)), form.format(max(values))
    return median if low == high else f"{median} ({low}-{high})"


def add(figures: Figures, row: str, values: Mapping[str, float]) -> None:
    """Add a round's values of one row."""
    for metric, value in values.items():
        figures.setdefault(row, {}).setdefault(metric, []).append(value)
