"""Trained models as models of MLflow: ``mlflow.pyfunc.load_model`` applies the file that ``pixal export`` writes.

MLflow stores the name of this module, and calls ``_load_pyfunc``. Nothing is pickled.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixal.io import ownership
from pixal.tracking.run import TrackedModel
from pixal.version import __version__

if TYPE_CHECKING:
    import pandas as pd

_STRINGS, _COUNTS = ("type", "image", "verdict", "reason"), ("regions",)


class PhotographModel:
    """The model that ``mlflow.pyfunc.load_model`` wraps."""

    def __init__(self, file: str | Path) -> None:
        """Load a model file. Raise ``InputError`` or ``ModelError`` if it is not what PIXAL wrote."""
        from pixal.tasks.photographs.verdicts.scorer import Scorer

        self._scorer = Scorer(file)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Compute the verdicts of photographs.

        Args:
            model_input: The path of a photograph or of a folder of photographs; or several, as a list or as the first
                column of a frame.
            params: Not used; MLflow passes it.

        Returns:
            One row per photograph, with the columns of ``results.csv``.
        """
        import pandas as pd

        from pixal.tasks.photographs.verdicts.results import RESULT_COLUMNS, table_row

        if isinstance(model_input, pd.DataFrame):
            model_input = model_input.iloc[:, 0]
        sources = [model_input] if isinstance(model_input, str | Path) else list(model_input)
        rows = [table_row(part) for part in self._scorer.score(sources)]
        frame = pd.DataFrame(rows, columns=list(RESULT_COLUMNS))
        for name in frame.columns:
            kind = "str" if name in _STRINGS else "int64" if name in _COUNTS else "float64"
            frame[name] = frame[name].astype(kind)
        return frame


def _load_pyfunc(path: str) -> PhotographModel:
    """Load a model; MLflow calls this function by its name."""
    return PhotographModel(path)


def log_model(
    client: Any, run_id: str, model: TrackedModel, tags: Mapping[str, str], *, register: bool, trusted: bool
) -> None:
    """Log a stored model as a model of MLflow, unless it was replaced since the run.

    See ``Task.log_model`` for the arguments. The model gets the tags of the run.
    """
    from pixal.io.files import has_hash
    from pixal.train_model.model_file.archive import MODEL_FILE_ENDING, write_model_file
    from pixal.train_model.stored_model import read_stored

    if not has_hash(model.record_file, model.record_sha256):
        return
    logged = [client.get_logged_model(output.model_id) for output in client.get_run(run_id).outputs.model_outputs]
    if any(entry.status == "READY" for entry in logged):  # an earlier attempt has come this far
        return
    name = model_name(model.component, model.owner)
    stored = read_stored(model.owner, model.record_file, model.folder, name)
    files = [stored.record_file, *(stored.folder / file for file in stored.record.files)]
    if not trusted and not all(ownership.owns(path.resolve()) for path in files):
        return
    with tempfile.TemporaryDirectory(prefix="pixal_") as folder:
        file = Path(folder) / f"{name}{MODEL_FILE_ENDING}"
        write_model_file(file, stored, task=model.task)
        _log_file(client, run_id, file, name, tags, register=register)


def model_name(component: str, owner: str | None) -> str:
    """The name of a model in MLflow, ``COMPONENT_TYPE``: also of the registered one, where some characters are not
    allowed.
    """
    return re.sub(r"[/:.%\"'\x00-\x1f]", "_", "_".join(filter(None, (component, owner))))


def _log_file(client: Any, run_id: str, file: Path, name: str, tags: Mapping[str, str], *, register: bool) -> None:
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    from pixal.tasks.photographs.verdicts.results import RESULT_COLUMNS

    outputs = [
        ColSpec("string" if column in _STRINGS else "long" if column in _COUNTS else "double", column)
        for column in RESULT_COLUMNS
    ]
    run = client.get_run(run_id)
    logged = client.create_logged_model(
        run.info.experiment_id, name, source_run_id=run_id, tags=dict(tags), params=run.data.params
    )
    steps = [metric.step for metric in client.get_metric_history(run_id, "loss")]
    with _default_store(client.tracking_uri), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints of MLflow to who writes models
        Model.log(
            artifact_path=None,
            model_id=logged.model_id,
            flavor=pyfunc,
            run_id=run_id,
            step=max(steps, default=0),  # whose metrics the model gets
            loader_module=__name__,
            data_path=str(file),
            signature=ModelSignature(Schema([ColSpec("string")]), Schema(outputs)),  # a column of any name
            input_example=pd.DataFrame({"photograph": [f"photographs/{name}/part_001.png"]}),
            pip_requirements=[f"pixal=={__version__}"],
            registered_model_name=name if register else None,
            await_registration_for=0,
        )


@contextmanager
def _default_store(uri: str) -> Iterator[None]:
    """Make a store that of MLflow's functions without a client. They keep it in the environment."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
