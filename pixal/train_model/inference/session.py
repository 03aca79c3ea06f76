"""Run a network in ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import ModelTraining
from pixal.errors import ModelError
from pixal.io.files import read_bytes
from pixal.io.json_text import parse_json

NETWORK_ENDING = ".inference.onnx"
NOTES_KEY = "pixal"

Values = NDArray[np.float32]


class OnnxNetwork:
    """A network from one array to one or more arrays, which ONNX Runtime computes on the processor.

    Attributes:
        notes: What was stored with the network.
    """

    def __init__(self, path: Path, settings: ModelTraining) -> None:
        """Load a network.

        Args:
            path: The ``.onnx`` file.
            settings: They say how many threads are used.

        Raises:
            ModelError: The file is damaged.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = (settings.Available_CPU or 0) if settings.CPU_MULTI_THREADING else 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # problems come as exceptions
        # Threads that wait by spinning would slow down the other work of the command.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(read_bytes(path), options, providers=["CPUExecutionProvider"])
            self.notes: Mapping[str, Any] = parse_json(self._session.get_modelmeta().custom_metadata_map[NOTES_KEY])
        except Exception as error:  # ONNX Runtime has many kinds of errors
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{path} is damaged ({reason}); run train again") from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, values: Values) -> list[Values]:
        """The outputs of the network, in their order."""
        return [np.asarray(output) for output in self._session.run(None, {self._input: values})]


def notes_text(notes: Mapping[str, Any]) -> str:
    """The text that is stored with a network in its file."""
    return json.dumps(notes, sort_keys=True)
