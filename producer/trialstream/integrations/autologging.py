"""`autolog`: the callbacks of this package, in every training of the frameworks that are installed."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import logging
import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, NamedTuple

from trialstream_schemas.errors import InvalidType, InvalidValue

from trialstream.integrations.sklearn import parameters_of
from trialstream.tracking import current

__all__ = ["FRAMEWORKS", "autolog"]

logger = logging.getLogger("trialstream")


class _Framework(NamedTuple):
    """The functions of a framework that take callbacks, and our callback.

    Attributes:
        functions: The functions that train, as paths of attributes of modules: some modules have them by another name.
        callback: Name of our callback, in the module of this package that has the framework's name.
    """

    functions: tuple[tuple[str, str], ...]
    callback: str


# All these functions have a parameter `callbacks` that takes a list.
_BY_CALLBACK = {
    "xgboost": _Framework(
        (("xgboost", "train"), ("xgboost.training", "train"), ("xgboost.sklearn", "train"), ("xgboost", "cv")),
        "XGBoostCallback",
    ),
    "lightgbm": _Framework(
        (("lightgbm", "train"), ("lightgbm.engine", "train"), ("lightgbm.sklearn", "train"), ("lightgbm", "cv")),
        "LightGBMCallback",
    ),
    "keras": _Framework((("keras", "Model.fit"),), "KerasCallback"),
}

FRAMEWORKS = (*_BY_CALLBACK, "sklearn")
"""Names of the frameworks."""

_lock = threading.Lock()
# By framework, what ends its logging.
_undo: dict[str, list[Callable[[], None]]] = {}
# Whether this task or thread is inside of a fit of scikit-learn, whose inner fits are not logged.
_is_fitting: ContextVar[bool] = ContextVar("trialstream_is_fitting", default=False)


def autolog(frameworks: Iterable[str] | None = None, *, disable: bool = False) -> list[str]:
    """Log every training of the installed frameworks to the current trial, without callbacks in the code.

    XGBoost, LightGBM and Keras get the callback of this package in each training, unless it is among those that the
    user passes. Of scikit-learn, each outermost `fit` is a chrono `fit/<class>`, and the parameters of the estimator
    are those of the trial, under the name of the class. Without a current trial nothing is logged. The functions are
    replaced in their modules: what was imported by `from xgboost import train` before stays as it was.

    Args:
        frameworks: Some of `xgboost`, `lightgbm`, `keras`, `sklearn`; None for all. Those that are not installed are
            left out.
        disable: Whether to end it.

    Returns:
        The frameworks that are logged now.

    Raises:
        InvalidType: `frameworks` is not a list of names.
        InvalidValue: There is no framework of that name.
    """
    if isinstance(frameworks, str):
        raise InvalidType(f"frameworks: expected a list of names, got the str {frameworks!r}")
    names = FRAMEWORKS if frameworks is None else tuple(frameworks)
    if unknown := [name for name in names if name not in FRAMEWORKS]:
        raise InvalidValue(f"frameworks: expected some of {', '.join(FRAMEWORKS)}, got {unknown[0]!r}")
    with _lock:
        for name in names:
            if disable:
                for undo in reversed(_undo.pop(name, [])):
                    undo()
            elif name not in _undo and importlib.util.find_spec(name) is not None:
                try:
                    _undo[name] = _sklearn() if name == "sklearn" else _with_callback(name, _BY_CALLBACK[name])
                except Exception as error:  # noqa: BLE001 (an installation that cannot be imported)
                    logger.warning("autolog: %s is left out: %r", name, error)
        return [name for name in FRAMEWORKS if name in _undo]


def _with_callback(name: str, framework: _Framework) -> list[Callable[[], None]]:
    kind = getattr(importlib.import_module(f"trialstream.integrations.{name}"), framework.callback)
    undo: list[Callable[[], None]] = []
    for module, path in framework.functions:
        owner: Any = importlib.import_module(module)
        *outer, attribute = path.split(".")
        for each in outer:
            owner = getattr(owner, each)
        undo.append(_replace(owner, attribute, _adding(getattr(owner, attribute), kind)))
    return undo


def _adding(function: Callable[..., Any], kind: type) -> Callable[..., Any]:
    """Wrap a function that takes `callbacks` such that one of a kind is among them."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if current() is None:
            return function(*args, **kwargs)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # of the user's arguments: the function itself raises it
            return function(*args, **kwargs)
        given = bound.arguments.get("callbacks")
        if given is None or isinstance(given, (list, tuple)):
            callbacks = list(given or ())
            if not any([isinstance(each, kind) for each in callbacks]):
                bound.arguments["callbacks"] = [*callbacks, kind()]
        return function(*bound.args, **bound.kwargs)

    return run


def _sklearn() -> list[Callable[[], None]]:
    """Wrap the `fit` of the estimators that are defined, and of those that will be."""
    from sklearn.base import BaseEstimator  # noqa: PLC0415 (optional)

    undo: list[Callable[[], None]] = []

    def wrap(kind: type) -> None:
        if "fit" in vars(kind):
            undo.append(_replace(kind, "fit", _fitting(kind.fit)))  # type: ignore[attr-defined]

    kinds: list[Any] = [BaseEstimator]
    for kind in kinds:  # grows meanwhile
        kinds += [each for each in type.__subclasses__(kind) if each not in kinds]
    for kind in kinds:
        wrap(kind)
    before = BaseEstimator.__init_subclass__.__func__

    def init_subclass(kind: type, /, **kwargs: Any) -> None:
        before(kind, **kwargs)
        wrap(kind)

    undo.append(_replace(BaseEstimator, "__init_subclass__", classmethod(init_subclass)))
    return undo


def _fitting(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method `fit` such that it is logged, unless another one calls it."""

    @functools.wraps(fit)
    def run(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        tracker = current()
        if tracker is None or _is_fitting.get():
            return fit(estimator, *args, **kwargs)
        name = type(estimator).__name__
        tracker.log_arguments({name: tracker.faults.call("autolog", parameters_of, estimator)})
        token = _is_fitting.set(True)
        try:
            with tracker.chrono(f"fit/{name}"):
                return fit(estimator, *args, **kwargs)
        finally:
            _is_fitting.reset(token)

    return run


def _replace(owner: Any, name: str, replacement: Any) -> Callable[[], None]:
    """Replace an attribute of a module or a class; return a function that undoes it, unless it was replaced again."""
    was_own = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, replacement)

    def undo() -> None:
        if vars(owner).get(name) is replacement:
            if was_own:
                setattr(owner, name, before)
            else:
                delattr(owner, name)

    return undo
