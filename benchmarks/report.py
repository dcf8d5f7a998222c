"""Figures and their output: a table in Markdown, and JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Mark", "Row", "machine", "median", "ratio", "save", "table", "write_json"]

_RESULTS = Path(__file__).parent / "results"
_DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
_BEGIN, _END = "<!-- written by make bench SAVE=1 -->", "<!-- until here -->"


@dataclass(frozen=True)
class Mark:
    """A bound that a figure should reach.

    Attributes:
        text: The bound, such as "≤ 3 × the floor".
        value: The measured value, in the unit of the bound.
        reached: Whether the value is within the bound.
    """

    text: str
    value: str
    reached: bool

    @classmethod
    def most(cls, what: str, value: float, bound: float, unit: str = "") -> Mark:
        """Return a mark for an upper bound."""
        return cls(f"≤ {_number(bound)} {what}", f"{_number(value)} {unit}".strip(), value <= bound)

    @classmethod
    def least(cls, what: str, value: float, bound: float, unit: str = "") -> Mark:
        """Return a mark for a lower bound."""
        return cls(f"≥ {_number(bound)} {what}", f"{_number(value)} {unit}".strip(), value >= bound)


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        what: Name of the measurement.
        unit: Unit of all its figures.
        ours: Figures of trialstream, one for each repetition.
        beside: Figures of each floor or peer by its name, or the reason why there are none.
        marks: Bounds of the figures.
    """

    what: str
    unit: str
    ours: Sequence[float]
    beside: Mapping[str, Sequence[float] | str] = field(default_factory=dict)
    marks: Sequence[Mark] = ()


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def ratio(ours: Sequence[float], other: Sequence[float]) -> float:
    """Return the median of the ratios: per repetition, if the numbers agree, since a disturbance affects both."""
    if len(ours) == len(other):
        return median([a / b for a, b in zip(ours, other, strict=True)])
    return median(ours) / median(other)


def machine() -> dict[str, str]:
    """Describe the machine, the commit and the time."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    processor = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "processor": f"{os.cpu_count()} × {processor}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def table(rows: Iterable[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = ["| benchmark | trialstream | beside it, in the same run | mark | |", "|---|---|---|---|---|"]
    for row in rows:
        beside = "; ".join(
            f"{name}: {_spread(each, row.unit) if not isinstance(each, str) else each}"
            for name, each in row.beside.items()
        )
        marks = "; ".join(f"{each.text}: **{each.value}**" for each in row.marks)
        reached = " ".join("✓" if each.reached else "✗" for each in row.marks)
        lines.append(f"| {row.what} | {_spread(row.ours, row.unit)} | {beside} | {marks} | {reached} |")
    return "\n".join(lines)


def save(rows: Iterable[Row], described: Mapping[str, str]) -> None:
    """Replace the table in docs/performance.md."""
    before, rest = _DOCUMENT.read_text().split(_BEGIN)
    _, after = rest.split(_END)
    where = ", ".join(f"{key} {each}" for key, each in described.items())
    _DOCUMENT.write_text(f"{before}{_BEGIN}\n{where}\n\n{table(rows)}\n{_END}{after}")


def write_json(name: str, rows: Iterable[Row]) -> None:
    """Write the rows of a benchmark to the folder of results."""
    _RESULTS.mkdir(exist_ok=True)
    content = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    (_RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False, default=list) + "\n")


def _spread(values: Sequence[float], unit: str) -> str:
    middle = f"{_number(median(values))} {unit}"
    return middle if len(values) == 1 else f"{middle} ({_number(min(values))} to {_number(max(values))})"


def _number(x: float) -> str:
    if abs(x) >= 1000:
        return f"{x:,.0f}"
    return f"{x:.3g}"
