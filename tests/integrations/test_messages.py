"""Messages of `logging` and structlog are output of the trial, and their numbers are metrics."""

from __future__ import annotations

import copy
import logging
import pickle

import pytest
import structlog
import trialstream as ts
from trialstream.integrations.logging import LogHandler
from trialstream.integrations.structlog import StructlogProcessor
from trialstream.integrations.target import Target


@pytest.fixture
def logger(name):
    """A logger with the handler, which passes nothing on."""
    logger = logging.getLogger(name)
    handler = LogHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)


def test_messages_and_their_numbers(logger, logged):
    """Each message from the level on is output, and `metrics` in its `extra` is a row."""
    logger.info("epoch %d", 3, extra={"metrics": {"loss": 0.5, "nested": {"acc": 1}}, "step": 3})
    logger.debug("too low")
    logger.warning("no numbers", extra={"metrics": 5})
    logger.info("without a step", extra={"metrics": {"loss": 0.25}})
    trial, history = logged()

    output = "".join(trial.metadata["output/messages"].values)
    assert [line.split(" ", 2)[2].split(":", 1)[1] for line in output.splitlines()] == [
        " epoch 3",
        " no numbers",
        " without a step",
    ]
    assert history["loss"].steps.tolist() == [3, None]
    assert history["loss"].values.tolist() == [0.5, 0.25]
    assert history["nested/acc"].values.tolist() == [1]


def test_own_messages_are_left_out(logged):
    """The Kafka client's messages about an event would be events, without end."""
    handler = LogHandler(level=logging.DEBUG)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        logging.getLogger("trialstream").info("own")
        logging.getLogger("aiokafka.producer").debug("own")
        logging.getLogger("other").debug("other")
        trial, _ = logged()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)

    output = "".join(trial.metadata["output/messages"].values)
    assert "other" in output
    assert "own" not in output


def test_a_message_that_cannot_be_formatted(capsys, logged):
    """The error of a message goes where `logging` puts it, and raises nothing."""
    handler = LogHandler()
    for text, args in (("%d", ("text",)), ("fine", ())):
        handler.handle(logging.LogRecord("x", logging.INFO, "x", 1, text, args, None))
    trial, _ = logged()

    assert "".join(trial.metadata["output/messages"].values).endswith("fine\n")
    assert "TypeError" in capsys.readouterr().err


def test_structlog(logged):
    """The processor logs the event and its numbers, and passes it on as it is."""
    passed = []
    logger = structlog.wrap_logger(
        structlog.PrintLogger(), processors=[StructlogProcessor(), lambda *given: passed.append(given[2]) or ""]
    )
    logger.info("epoch done", metrics={"loss": 0.5}, step=2)
    logger.warning("slow", seconds=3)
    trial, history = logged()

    assert passed == [
        {"event": "epoch done", "metrics": {"loss": 0.5}, "step": 2},
        {"event": "slow", "seconds": 3},
    ]
    assert "".join(trial.metadata["output/messages"].values).splitlines()[1] == "WARNING slow seconds=3"
    assert (history["loss"].steps.tolist(), history["loss"].values.tolist()) == ([2], [0.5])


def test_without_a_trial_nothing_happens():
    """Handlers may stay where no trial runs."""
    assert ts.current() is None
    handler = LogHandler()
    handler.handle(logging.LogRecord("x", logging.INFO, "x", 1, "text", (), None))
    StructlogProcessor()(None, "info", {"event": "x", "metrics": {"a": 1}})
    target = Target()
    for call in (target.log, target.log_arguments, target.log_metadata, target.summarize):
        call({"a": 1})


def test_copies_of_a_target(tracker):
    """A copy logs to the same trial; what is unpickled logs to the current one."""
    target = Target(tracker)

    assert copy.deepcopy(target).tracker is tracker
    assert pickle.loads(pickle.dumps(target)).tracker is ts.current() is tracker
