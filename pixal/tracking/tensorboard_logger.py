"""Log runs as event files of TensorBoard, without TensorFlow."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pixal.config.schema import Tracking
from pixal.tracking.loggers import RunLogger
from pixal.tracking.run import TrackedMetric, TrackedRun
from pixal.tracking.run_folder import run_folder

_log = logging.getLogger(__name__)


class TensorBoardLogger(RunLogger):
    """Writes metrics as scalars, and settings as text, into an event file."""

    @classmethod
    def open(cls, settings: Tracking, *, deferred: bool) -> TensorBoardLogger:
        """See ``open_loggers``."""
        return cls()

    def start(self, run: TrackedRun) -> None:
        """Create the folder and the file."""
        self._writer: Any = None
        try:
            # Not EventFileWriter, which imports TensorFlow where it is installed.
            from tensorboard.summary.writer.record_writer import RecordWriter

            file = run_folder(run) / f"events.out.tfevents.{run.start_time // 1000}.{socket.gethostname()}"
            self._writer = RecordWriter(file.open("xb"))
            self._add(run.start_time / 1000, file_version="brain.Event:2")
        except Exception as error:
            self._fail(error)

    def log_metrics(self, metrics: Sequence[TrackedMetric]) -> None:
        """Log values as scalars, at their own times."""
        for metric in metrics:
            self._add(metric.time / 1000, metric.step, {"tag": metric.name, "simple_value": metric.value})

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log settings as a table."""
        if self._writer is None or not params:
            return
        from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        rows = [f"|{name}|{value}|" for name, value in sorted(params.items())]
        text = "\n".join(["|setting|value|", "|---|---|", *rows])
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
        self._add(time.time(), 0, {"tag": "settings", "tensor": tensor, "metadata": metadata})

    def end(self, run: TrackedRun) -> None:
        """Close the file."""
        if self._writer is not None:
            try:
                self._writer.close()
            except Exception as error:
                self._fail(error)

    def _add(self, wall_time: float, step: int = 0, value: dict[str, Any] | None = None, **entries: Any) -> None:
        if self._writer is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if value is not None:
            entries["summary"] = Summary(value=[Summary.Value(**value)])
        try:
            self._writer.write(Event(wall_time=wall_time, step=step, **entries).SerializeToString())
            self._writer.flush()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Warn once, and log no more of the run."""
        self._writer = None
        _log.warning("the run is not in TensorBoard's files: %s", error)
