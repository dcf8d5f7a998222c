"""The Protocol's contract as data: its methods, the values that it accepts, and those that it refuses."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
from trialstream_schemas.errors import InvalidType, InvalidValue, TrialStreamError
from trialstream_schemas.model.aggregators import RingAggregator, StatAggregator, TimeSeriesAggregator
from trialstream_schemas.model.attempts import Attempt
from trialstream_schemas.model.status import Status
from trialstream_schemas.model.trial import Project, Trial, TrialGroup

__all__ = ["KEYS", "METHODS", "NOT_NUMBERS", "NUMBERS", "REFUSED", "TRIAL_METHODS", "VALUES", "arguments_of"]

# Parameters of each method without self, as users' scripts rely on them. `*values` behind a trial or group is a mapping
# of values; `*args` is a mapping too, or the parameters that follow, in their order.
METHODS = {
    "log_trial_start": "trial",
    "log_trial_finish": "trial, exc_type=None, exc_val=None, exc_tb=None",
    "log_trial_chrono_start": (
        "trial, name, aggregator=StatAggregator.lazy(1), start_callback=None, end_callback=None"
    ),
    "log_trial_chrono_finish": "trial, name, exc_type=None, exc_val=None, exc_tb=None",
    "log_trial_arguments": "trial, *values, **kwargs",
    "log_trial_metadata": "trial, *args, aggregator=value_aggregator, **kwargs",
    "log_trial_metrics": "trial, *args, step=None, aggregator=None, **kwargs",
    "set_trial_status": "trial, status, error=None",
    "add_trial_tags": "trial, *values, **kwargs",
    "get_project": "project",
    "new_project": "project",
    "get_trial_group": "group",
    "new_trial_group": "group",
    "add_project_trial": "project, trial",
    "add_group_trial": "group, trial",
    "set_group_metadata": "group, *values, **kwargs",
    "commit": "level='acked', timeout=None, **kwargs",
    "get_trial": "trial",
    "new_trial": "trial, auto_increment=False",
    "fetch_and_update_trial": "query, attr=None, *args, **kwargs",
    "fetch_and_update_group": "query, attr=None, *args, **kwargs",
    "fetch_trials": "query=None",
    "fetch_values": "fields, query=None",
    "count_trials": "query=None",
    "fetch_groups": "query=None",
    "fetch_projects": "query=None",
    "fetch_metrics": "trial, *names, since_step=None, max_points=None",
    "fetch_histories": "trials, *names, since_step=None, max_points=None",
    "fetch_bands": "trials, name",
}
# Methods whose trial must exist.
TRIAL_METHODS = [
    *("log_trial_start", "log_trial_finish", "log_trial_chrono_start", "log_trial_chrono_finish"),
    *("log_trial_arguments", "log_trial_metadata", "log_trial_metrics", "set_trial_status", "add_trial_tags"),
    *("add_project_trial", "add_group_trial", "fetch_metrics"),
]


def arguments_of(project: Project, group: TrialGroup, trial: Trial) -> dict[str, dict[str, Any]]:
    """Return a valid call of every method, with every parameter by keyword, in an order in which all calls succeed."""
    ended = {"exc_type": None, "exc_val": None, "exc_tb": None}
    callbacks = {"start_callback": None, "end_callback": None}
    pages = {"sort": "-created", "limit": 1}
    return {
        "new_project": {"project": project},
        "get_project": {"project": project},
        "new_trial_group": {"group": group},
        "get_trial_group": {"group": group},
        "set_group_metadata": {"group": group, "space": "grid"},
        "new_trial": {"trial": trial, "auto_increment": False},
        "get_trial": {"trial": trial},
        "add_project_trial": {"project": project, "trial": trial},
        "add_group_trial": {"group": group, "trial": trial},
        "log_trial_start": {"trial": trial, "attempt": Attempt("job", rank=0, world_size=1, host="a")},
        "log_trial_chrono_start": {
            "trial": trial,
            "name": "step",
            "aggregator": StatAggregator.lazy(0),
            **callbacks,
        },
        "log_trial_chrono_finish": {"trial": trial, "name": "step", **ended},
        "log_trial_arguments": {"trial": trial, "lr": 0.1},
        "log_trial_metadata": {"trial": trial, "aggregator": RingAggregator.lazy(2), "note": "a"},
        "log_trial_metrics": {"trial": trial, "step": 1, "aggregator": TimeSeriesAggregator.lazy(), "loss": 0.5},
        "add_trial_tags": {"trial": trial, "good": True},
        "set_trial_status": {"trial": trial, "status": Status.Suspended, "error": "out of quota"},
        "log_trial_finish": {"trial": trial, **ended},
        "commit": {"level": "folded", "timeout": 30.0, "message": "done"},
        "fetch_and_update_trial": {"query": {"uid": trial.uid}, "attr": "add_trial_tags", "claimed": True},
        "fetch_and_update_group": {"query": {"uid": group.uid}, "attr": "set_group_metadata", "claimed": True},
        "fetch_trials": {"query": {"uid": trial.uid}, **pages},
        "fetch_values": {"fields": ["uid", "metrics.loss.last"], "query": {"uid": trial.uid}, **pages},
        "count_trials": {"query": {"uid": trial.uid}},
        "fetch_groups": {"query": {"uid": group.uid}, **pages},
        "fetch_projects": {"query": {"uid": project.uid}, **pages},
        "fetch_metrics": {"trial": trial, "since_step": 0, "max_points": 100, "attempts": True, "reduce": "mean"},
        "fetch_histories": {"trials": [trial], "since_step": 0, "max_points": 100},
        "fetch_bands": {"trials": [trial], "name": "loss", "by": "name", "points": 10, "quantiles": [0.5]},
    }


# Keys that are easily confused: dots and dollars, text like our own escapes, and any Unicode.
KEYS = [
    *("a.b", ".", "$lr", "$gt", "a$b", "a b", " ", "", "%", "%2E", "%kind", "_id", "0", "a\\b", "A", "a", "self"),
    *("é", "e\u0301", "𝄞", "日本語", "\u202e", "\n", "x" * 1024),
]

# Accepted values by description: the value passed and the value that comes back.
VALUES: dict[str, tuple[Any, Any]] = {
    "None": (None, None),
    "True": (True, True),
    "False": (False, False),
    "zero": (0, 0),
    "the largest integer": (2**63 - 1, 2**63 - 1),
    "the smallest integer": (-(2**63), -(2**63)),
    "an integer beyond a double's precision": (2**53 + 1, 2**53 + 1),
    "a float": (0.1, 0.1),
    "a whole float": (1.0, 1.0),
    "a negative zero": (-0.0, -0.0),
    "the smallest float": (5e-324, 5e-324),
    "the largest float": (1.7976931348623157e308, 1.7976931348623157e308),
    "NaN": (math.nan, math.nan),
    "infinity": (math.inf, math.inf),
    "minus infinity": (-math.inf, -math.inf),
    "text": ("a.b $c é 𝄞", "a.b $c é 𝄞"),
    "an empty text": ("", ""),
    "a text with NUL": ("a\0b", "a\0b"),
    "a long text": ("x" * 500_000, "x" * 500_000),
    "bytes": (b"\0\xff", b"\0\xff"),
    "no bytes": (b"", b""),
    "a bytearray": (bytearray(b"ab"), b"ab"),
    "a list": ([1, 1.0, True, None, "a", b"a", [], {}], [1, 1.0, True, None, "a", b"a", [], {}]),
    "a tuple": ((1, (2, 3)), [1, [2, 3]]),
    "an empty list": ([], []),
    "an empty dict": ({}, {}),
    "a dict": ({"b": {"a.b": [{"$": 1}]}, "a": 2}, {"b": {"a.b": [{"$": 1}]}, "a": 2}),
    "a dict like our aggregators": ({"%kind": "stat", "argument": 0}, {"%kind": "stat", "argument": 0}),
    "a numpy integer": (np.int64(-7), -7),
    "a numpy float": (np.float32(0.5), 0.5),
    "a numpy bool": (np.bool_(True), True),
    "a numpy text": (np.str_("a"), "a"),
    "a numpy long double": (np.longdouble(0.5), 0.5),
    "numpy bytes": (np.bytes_(b"a"), b"a"),
    "an array of one": (np.array(3), 3),
    "a scalar of another library": (type("Tensor", (), {"item": lambda _: 4})(), 4),
}


def _nested(levels: int) -> Any:
    x: Any = 1
    for _ in range(levels):
        x = [x]
    return x


# Refused values by reason: key, value, and whether the type or the value is wrong.
REFUSED: dict[str, tuple[str, Any, type[TrialStreamError]]] = {
    "NUL in a name": ("a\0b", 1, InvalidValue),
    "a name that is too long": ("x" * 1025, 1, InvalidValue),
    "a lone surrogate in a name": ("\ud800", 1, InvalidValue),
    "NUL in the name of a part": ("bad", {"a\0b": 1}, InvalidValue),
    "a part whose name is not a text": ("bad", {1: 1}, InvalidType),
    "an integer beyond 64 bits": ("bad", 2**63, InvalidValue),
    "a negative integer beyond 64 bits": ("bad", -(2**63) - 1, InvalidValue),
    "a huge integer inside": ("bad", [{"a": 10**400}], InvalidValue),
    "a lone surrogate": ("bad", "\ud800", InvalidValue),
    "a lone surrogate inside": ("bad", [{"a": "\udfff"}], InvalidValue),
    "more than 512 KiB": ("bad", "x" * (512 * 1024), InvalidValue),
    "more than 512 KiB in parts": ("bad", ["x" * 1024] * 512, InvalidValue),
    "too many levels": ("bad", _nested(65), InvalidValue),
    "an object": ("bad", object(), InvalidType),
    "a set": ("bad", {1}, InvalidType),
    "a complex number": ("bad", 1j, InvalidType),
    "a time": ("bad", datetime(2026, 1, 1, tzinfo=UTC), InvalidType),
    "a numpy time": ("bad", np.datetime64("2026-01-01", "ns"), InvalidType),
    "a numpy duration inside": ("bad", [{"a": np.timedelta64(1, "ns")}], InvalidType),
    "a class": ("bad", int, InvalidType),
    "an array of several": ("bad", np.array([1, 2]), InvalidType),
    "an object inside": ("bad", [{"a": object()}], InvalidType),
}

# Accepted metric values: the value passed and the double that is stored.
NUMBERS: dict[str, tuple[Any, float]] = {
    "int": (3, 3.0),
    "float": (0.5, 0.5),
    "bool": (True, 1.0),
    "numpy float": (np.float32(0.25), 0.25),
    "numpy integer": (np.uint8(255), 255.0),
    "numpy long double": (np.longdouble(0.25), 0.25),
    "numpy bool": (np.bool_(False), 0.0),
    "an array of one": (np.array([2.0]), 2.0),
    "a scalar of another library": (type("Tensor", (), {"item": lambda _: 1.5})(), 1.5),
    "a large integer": (2**70, 2.0**70),
}
NOT_NUMBERS: dict[str, Any] = {
    "text": "0.5",
    "None": None,
    "a list": [0.5],
    "a dict": {"a": 0.5},
    "a complex number": 1j,
    "bytes": b"1",
    "an object": object(),
    "an array of several": np.array([1.0, 2.0]),
    "an array of text": np.array("a"),
    "a numpy time": np.datetime64("2026-01-01", "ns"),
    "a numpy duration": np.timedelta64(1, "ns"),
}
