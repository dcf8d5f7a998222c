"""`/series`: the points of curves for a plot, downsampled to its pixel columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
from starlette.responses import Response
from trialstream.sync import SyncProtocol
from trialstream_schemas.model.outline import Outline

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.curves import AxisName, Curve
from trialstream_console.dashboard.encoding import columns
from trialstream_console.dashboard.endpoints import COLUMNS_MEDIA, Endpoint
from trialstream_console.dashboard.histories import CurveKey, Histories, Read
from trialstream_console.dashboard.lines import Line, Points, points_of
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.shapes import Limits

__all__ = ["ENDPOINTS"]

_MAX_CURVES = 200
_MAX_WIDTH = 4096
_MAX_ROW = 2**53  # a double
# Threads of a request; several requests run at once.
_PARTS = 2
_MAX_MICROS = 253_402_300_800_000_000  # the year 10000
# Pixel columns of all curves, as each rank or writer may have one: of four points, they take 128 MiB.
_MAX_COLUMNS = 2**21


class CurveRequest(TypedDict):
    """A curve that is asked for.

    Attributes:
        trial: Uid of the trial.
        name: Name of the metric or chrono.
        section: `metrics` or `chronos`; metrics if it is not given.
        by: `rank` or `writer` for a curve of each.
    """

    trial: str
    name: str
    section: NotRequired[Literal["metrics", "chronos"]]
    by: NotRequired[Literal["rank", "writer"]]


class MetricAxis(TypedDict):
    """An x axis that is another metric of the same trial."""

    metric: str


SeriesRequest = TypedDict(
    "SeriesRequest",
    {
        "curves": Annotated[list[CurveRequest], Limits("The curves.", 1, _MAX_CURVES)],
        "x": Annotated[
            Literal["step", "time", "relative"] | MetricAxis,
            Limits("What x is; `relative` is seconds since the trial's start, and `time` microseconds since 1970 UTC."),
        ],
        "from": NotRequired[Annotated[float, Limits("Smallest x.")]],
        "to": NotRequired[Annotated[float, Limits("Largest x.")]],
        "width": Annotated[int, Limits("Number of pixel columns.", 1, _MAX_WIDTH)],
        "attempts": NotRequired[Annotated[bool, Limits("Whether superseded rows are there, too.")]],
        "until": NotRequired[
            Annotated[
                int, Limits("Only rows logged up to this time; which rows are superseded is as of now.", 0, _MAX_MICROS)
            ]
        ],
        "since": NotRequired[
            Annotated[
                dict[str, int],
                Limits("`rows_seen` of an earlier answer: only later rows of these trials.", most=_MAX_CURVES),
            ]
        ],
        "outline": NotRequired[
            Annotated[
                bool,
                Limits("Answer at once: of long curves that are not in memory, only what their outlines have."),
            ]
        ],
    },
)
SeriesRequest.__doc__ = "Curves, and the plot that they are for."


class SpecialsInfo(TypedDict):
    """The rows of a curve whose value is NaN or infinite.

    Attributes:
        nan: Number of values that are NaN.
        inf: Number of values that are +inf.
        neginf: Number of values that are -inf.
        offset: Place of their x; as many kinds follow: 0 for NaN, 1 for +inf, 2 for -inf.
        marks: Number of rows that are there, at most 200.
    """

    nan: int
    inf: int
    neginf: int
    offset: int
    marks: int


class CurveInfo(TypedDict):
    """A curve of the answer.

    Attributes:
        trial: Uid of the trial.
        name: Name of the metric or chrono.
        group: The rank or the writer, of a curve that was asked for by these; empty for rows without a rank.
        points: Number of points.
        offset: Place of their x; as many y follow.
        total: Number of rows in the range.
        exact: Whether all rows of the range with a finite value are there.
        specials: The rows whose value is not finite; these are no points.
        text_steps: Whether steps are no numbers, so that x is the number of the row in the curve.
    """

    trial: str
    name: str
    group: NotRequired[str]
    points: int
    offset: int
    total: int
    exact: bool
    specials: SpecialsInfo
    text_steps: bool


class SeriesHeader(TypedDict):
    """The header of the answer.

    Attributes:
        curves: The curves that have a history.
        rows_seen: By uid of the trial, the number of its rows that this answer is made of.
        reset: Uids of trials for which `since` was left aside, since rows before it may have been superseded.
        pending: With `outline`, uids of trials of which curves are missing, or have the rows of their outlines only.
    """

    curves: list[CurveInfo]
    rows_seen: dict[str, int]
    reset: list[str]
    pending: list[str]


class _Drawn(NamedTuple):
    """A curve to draw: its key, its rank or writer, its line, which rows of the line are wanted, and its outline."""

    key: CurveKey
    group: str
    line: Line
    rows: tuple[int, int] | None
    text_steps: bool
    outline: Outline | None = None

    def points(self, first: float, last: float, width: int) -> Points:
        """Return the points of a plot; see `points_of`."""
        found = points_of(self.line, first, last, width, self.rows)
        if self.outline is None:
            return found
        nan, inf, neginf = self.outline.specials
        specials = found.specials._replace(nan=nan, inf=inf, neginf=neginf)
        return found._replace(total=self.outline.total, exact=False, specials=specials)


async def series(context: Context, body: SeriesRequest) -> Response:
    """The points of curves for a plot.

    Of each pixel column, the first, the last, the smallest and the largest finite value are kept, so no spike is lost.
    The columns of all curves have the same edges: `from` and `to`, or the smallest and the largest x of the curves.
    """
    answer = await context.in_thread(lambda protocol: _answer(context.histories, protocol, body))
    return Response(answer, media_type=COLUMNS_MEDIA)


def _answer(histories: Histories, protocol: SyncProtocol, body: Any) -> bytes:
    with_attempts = body.get("attempts", False)
    keys = [
        CurveKey(each["trial"], each.get("section", "metrics"), each["name"], with_attempts, each.get("by"))
        for each in body["curves"]
    ]
    axis = body["x"]
    more = [] if isinstance(axis, str) else [key._replace(section="metrics", name=axis["metric"]) for key in keys]
    outlines: Mapping[CurveKey, Outline] = {}
    pending: Sequence[str] = ()
    if body.get("outline", False):
        if more or any(each in body for each in ("from", "to", "until", "since")):
            raise Refusal("query", "outline: expected whole curves over step or time", place="outline")
        read, outlines, pending = histories.glance(protocol, keys)
    else:
        read = histories.read(protocol, [*keys, *more])
    given = {uid: min(max(row, 0), _MAX_ROW) for uid, row in body.get("since", {}).items()}
    reset = [uid for uid in read.rows if uid in given and read.reread[uid] > given[uid]]
    since = {uid: row for uid, row in given.items() if uid not in reset}
    drawn = _lines([key for key in dict.fromkeys(keys) if key in read.curves], read, axis, since, body.get("until"))
    for key, outline in outlines.items():
        curve = Curve()
        curve.extend(outline)
        line, _ = curve.line(axis, read.started[key.trial])
        drawn.append(_Drawn(key, "", line, None, curve.text_steps, outline))
    if len(drawn) > (most := _MAX_COLUMNS // body["width"]):
        raise Refusal("too_large", f"curves: expected at most {most} of this width, got {len(drawn)}", place="curves")
    first, last = _range(drawn, body.get("from"), body.get("to"))
    with ThreadPoolExecutor(_PARTS) as pool:  # numpy goes through the rows without the interpreter's lock
        shares = pool.map(
            lambda share: [each.points(first, last, body["width"]) for each in share],
            (drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]),
        )
        points = [each for share in shares for each in share]
    return _encoded(list(zip(drawn, points, strict=True)), read, reset, pending)


def _lines(
    keys: Sequence[CurveKey],
    read: Read,
    axis: AxisName | MetricAxis,
    since: dict[str, int],
    until: int | None,
) -> list[_Drawn]:
    found: list[_Drawn] = []
    for key in keys:
        for group, curve in sorted(read.curves[key].items(), key=_by_number):
            if isinstance(axis, str):
                line, rows = curve.line(axis, read.started[key.trial], since.get(key.trial, 0), until)
                found.append(_Drawn(key, group, line, rows, curve.text_steps))
                continue
            others = read.curves[key._replace(section="metrics", name=axis["metric"])]
            found.append(_Drawn(key, group, curve.joined(others.get(group, Curve()), until), None, text_steps=False))
    return found


def _by_number(item: tuple[str, Curve]) -> tuple[int, int, str]:
    """Sort ranks by their number, the rows without a rank last."""
    name = item[0]
    return (0, int(name), "") if name.isdecimal() else (1, 0, name) if name else (2, 0, "")


def _range(drawn: Sequence[_Drawn], first: float | None, last: float | None) -> tuple[float, float]:
    """Return the edges of the plot."""
    ends = [each.line.x.at(np.array([0, len(each.line.x) - 1])) for each in drawn if len(each.line.x)]
    low = first if first is not None else min((float(each[0]) for each in ends), default=0.0)
    high = last if last is not None else max((float(each[1]) for each in ends), default=0.0)
    return low, max(low, high)


def _encoded(drawn: Sequence[tuple[_Drawn, Points]], read: Read, reset: list[str], pending: Sequence[str]) -> bytes:
    infos: list[CurveInfo] = []
    blocks = []
    offset = 0
    for each, points in drawn:
        special = points.specials
        info: CurveInfo = {
            "trial": each.key.trial,
            "name": each.key.name,
            "points": len(points.x),
            "offset": offset,
            "total": points.total,
            "exact": points.exact,
            "specials": {
                "nan": special.nan,
                "inf": special.inf,
                "neginf": special.neginf,
                "offset": offset + 2 * len(points.x),
                "marks": len(special.x),
            },
            "text_steps": each.text_steps,
        }
        if each.key.by is not None:
            info["group"] = each.group
        infos.append(info)
        blocks += [points.x, points.y, special.x, special.kinds]
        offset += 2 * (len(points.x) + len(special.x))
    return columns({"curves": infos, "rows_seen": read.rows, "reset": reset, "pending": list(pending)}, blocks)


ENDPOINTS = (Endpoint("POST", "/series", series, header=SeriesHeader, media=COLUMNS_MEDIA, places="expensive"),)
