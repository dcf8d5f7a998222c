"""`/bands`: statistics of a metric over many trials, by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np
from starlette.responses import Response
from trialstream.protocol import BandKey, MetricBands
from trialstream.reading.bands import Curve, bands_by_value, check_quantiles, curves_of
from trialstream.reading.paths import path
from trialstream.reading.values import LongValue
from trialstream.sync import SyncProtocol
from trialstream_schemas.model.trial import Trial

from trialstream_console.dashboard.context import Context
from trialstream_console.dashboard.encoding import columns, encoded
from trialstream_console.dashboard.endpoints import COLUMNS_MEDIA, Endpoint
from trialstream_console.dashboard.histories import CurveKey, Histories, Section
from trialstream_console.dashboard.refusals import Refusal
from trialstream_console.dashboard.selection import Where, selected
from trialstream_console.dashboard.shapes import Limits

__all__ = ["ENDPOINTS"]

_MAX_TRIALS = 2000
_MAX_POINTS = 4096
_MAX_QUANTILES = 16
_QUANTILES = [0.25, 0.5, 0.75]
_BY_GROUP = "group"
# Trials whose histories are read at once.
_TRIALS_AT_ONCE = 64
# Fifty curves of a million rows take some ten seconds of the processor.
_MAX_ROWS = 50_000_000
_MAX_KEY_BYTES = 1024
_MAX_BYTES = 64_000_000
_STATISTICS = 6


class BandsRequest(TypedDict):
    """Trials, and the metric whose statistics are wanted.

    Attributes:
        where: Query for the trials.
        trials: Their uids, instead of a query.
        group_by: `group`, or the path of a field, such as `parameters.lr`: statistics of the trials with each value.
        name: Name of the metric.
        section: Section of the trials; metrics if it is not given.
        points: Maximum number of steps.
        quantiles: Quantiles, from 0 to 1; if they are not given, 0.25, 0.5 and 0.75.
    """

    where: NotRequired[Where]
    trials: NotRequired[Annotated[list[str], Limits(most=_MAX_TRIALS)]]
    group_by: NotRequired[str]
    name: str
    section: NotRequired[Literal["metrics", "chronos", "metadata"]]
    points: Annotated[int, Limits(least=2, most=_MAX_POINTS)]
    quantiles: NotRequired[Annotated[list[float], Limits(most=_MAX_QUANTILES)]]


class BandInfo(TypedDict):
    """The statistics of the trials with one value.

    Attributes:
        key: The value; null for all trials, and for those that have none.
        trials: Number of trials that have the metric.
        points: Number of steps.
        offset: Place of the first column; each has `points` doubles, where NaN stands for no value.
        columns: Names of the columns: `step`, `count`, `mean`, `sd`, `min`, `max`, and `q0.25` for each quantile.
    """

    key: Any
    trials: int
    points: int
    offset: int
    columns: list[str]


class BandsHeader(TypedDict):
    """The header of the answer."""

    bands: list[BandInfo]


async def bands(context: Context, body: BandsRequest) -> Response:
    """Statistics of a metric over many trials, by step.

    Each trial is interpolated linearly between its first and its last step. Superseded rows are left out. More than
    2,000 trials, 50 million rows of the metric, or 64 MB of statistics for all values of `group_by` are refused.
    """
    query = await selected(context, body.get("where", ""), None, None)
    if "trials" in body:
        query = {"$and": [query, {"uid": {"$in": body["trials"]}}]} if query else {"uid": {"$in": body["trials"]}}
    uids = await _bounded(context, body, query)
    answer = await context.in_thread(lambda protocol: _answer(context.histories, protocol, body, uids))
    return Response(answer, media_type=COLUMNS_MEDIA)


async def _bounded(context: Context, body: BandsRequest, query: dict[str, Any]) -> list[str]:
    """Return the uids of the trials.

    Raises:
        Refusal: They are too many, or have too many rows to read, or too many or too large values to be grouped by.
    """
    fields = ["uid", path(body.get("section", "metrics"), body["name"], "count"), _by(body) or "uid"]
    protocol = await context.protocol()
    found = await protocol.fetch_cells(fields, query, max_bytes=_MAX_KEY_BYTES, limit=_MAX_TRIALS + 1)
    if len(found) > _MAX_TRIALS:
        raise Refusal(
            "too_large", f"where: expected at most {_MAX_TRIALS} trials, got more: narrow the query", place="where"
        )
    rows = sum(count for _, count, _ in found if isinstance(count, int))
    if rows > _MAX_ROWS:
        raise Refusal(
            "too_large", f"trials: expected at most {_MAX_ROWS} rows of {body['name']!r}, got {rows}: narrow the query"
        )
    if (by := _by(body)) is not None:
        keys = {repr(key) for _, _, key in found}
        if any(isinstance(key, LongValue) for _, _, key in found):
            raise Refusal(
                "too_large",
                f"{by}: expected values of at most {_MAX_KEY_BYTES} bytes, got a larger one",
                place="group_by",
            )
        size = 8 * len(keys) * body["points"] * (_STATISTICS + len(body.get("quantiles", _QUANTILES)))
        if size > _MAX_BYTES:
            raise Refusal(
                "too_large",
                f"{by}: expected bands of at most {_MAX_BYTES // 10**6} MB, got {len(keys)} values with up to "
                f"{size // 10**6} MB: choose a field with fewer values, or fewer points",
                place="group_by",
            )
    return [uid for uid, _, _ in found]


def _by(body: BandsRequest) -> str | None:
    by = body.get("group_by")
    return "group_id" if by == _BY_GROUP else by


def _answer(histories: Histories, protocol: SyncProtocol, body: BandsRequest, uids: list[str]) -> bytes:
    quantiles = check_quantiles(body.get("quantiles", _QUANTILES))
    by = _by(body)
    trials = protocol.fetch_trials({"uid": {"$in": uids}}, fields=["uid"] if by is None else [by])
    curves = {}
    for at in range(0, len(trials), _TRIALS_AT_ONCE):
        some = trials[at : at + _TRIALS_AT_ONCE]
        curves.update(_curves(histories, protocol, some, body.get("section", "metrics"), body["name"]))
    return _encoded(bands_by_value(trials, curves, by, body["points"], quantiles))


def _curves(
    histories: Histories,
    protocol: SyncProtocol,
    trials: Sequence[Trial],
    section: Section | Literal["metadata"],
    name: str,
) -> dict[str, Curve]:
    """Return the mean of the values at each step of trials: from histories in memory, if steps are numbers."""
    found: dict[str, Curve] = {}
    if section == "metadata":
        others = list(trials)
    else:
        read = histories.read(protocol, [CurveKey(each.uid, section, name) for each in trials]).curves
        of_trial = {key.trial: by_group.get("") for key, by_group in read.items()}
        others = [each for each in trials if (curve := of_trial[each.uid]) is not None and curve.text_steps]
        for uid, curve in of_trial.items():
            if curve is not None and not curve.text_steps and (means := curve.by_step()) is not None:
                found[uid] = means
    return found | curves_of(protocol.fetch_histories(others, name, section=section) if others else {}, name)


def _encoded(found: Mapping[BandKey, MetricBands]) -> bytes:
    infos: list[BandInfo] = []
    blocks: list[Any] = []
    offset = 0
    for key, each in found.items():
        by_name = {"step": each.steps, "count": each.count, "mean": each.mean, "sd": each.std}
        by_name |= {"min": each.min, "max": each.max}
        by_name |= {f"q{level:g}": values for level, values in each.quantiles.items()}
        infos.append(
            {
                "key": encoded(key),
                "trials": len(each.trials),
                "points": len(each),
                "offset": offset,
                "columns": list(by_name),
            }
        )
        blocks += [np.asarray(column, np.float64) for column in by_name.values()]
        offset += len(by_name) * len(each)
    return columns({"bands": infos}, blocks)


ENDPOINTS = (Endpoint("POST", "/bands", bands, header=BandsHeader, media=COLUMNS_MEDIA, places="expensive"),)
