"""Items are worked on here and elsewhere at the same time; an error stops the others."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest

from pixal.errors import ClusterError
from pixal.train_model.side_by_side import CollectedWarnings, work_side_by_side
from pixal.train_model.training_processes import TrainingOnWorker


def test_each_item_is_done_once_and_at_the_same_time() -> None:
    meeting, here = threading.Barrier(2, timeout=60), []

    def work(item: int) -> int:
        if item in (0, 4):
            meeting.wait()  # both at the same time
        return item

    elsewhere = work_side_by_side([0, 1, 2, 3, 4], lambda item: here.append(work(item)), work, 1)
    assert here[0] == 0
    assert elsewhere[0] == 4
    assert sorted([*here, *elsewhere]) == [0, 1, 2, 3, 4]


def test_an_error_here_ends_the_processes_of_the_others() -> None:
    def fail(item: int) -> None:
        time.sleep(1)
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        work_side_by_side([0, 100], fail, TrainingOnWorker(time.sleep), 1)
    assert time.monotonic() - start < 60


def test_an_error_elsewhere_is_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        work_side_by_side(["1", "x"], int, TrainingOnWorker(int), 1)
    with pytest.raises(ClusterError, match="ended with status 7"):
        work_side_by_side([0, 7], abs, TrainingOnWorker(os._exit), 1)


def test_warnings_of_another_process_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    collected, logger = CollectedWarnings(), logging.getLogger("pixal.test_side_by_side")
    logger.addHandler(collected)
    try:
        logger.warning("%d parts are odd", 3)
        logger.info("all is well")
    finally:
        logger.removeHandler(collected)
    assert collected.found == [(logger.name, logging.WARNING, "3 parts are odd")]
    caplog.clear()
    CollectedWarnings.log(collected.found)
    assert [record.getMessage() for record in caplog.records] == ["3 parts are odd"]
