"""Small parquet files and configurations of charge clusters."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pixal.config import load_config
from pixal.tasks.charge_clusters.columns import LABEL_COLUMNS

SMALL = {"rows": 3, "columns": 4, "time_slices": 3, "slices": [0, 2]}
SETTINGS = [f"clusters.{key}={value}" for key, value in SMALL.items()]
PATHS = """\
out: &out {root}/out
validate: &validate {root}/validate
component_model_path: {{component: Sensor, base: *out}}
component_validate_path: {{component: Sensor, base: *validate}}
"""


def config_in(folder: Path, *overrides: str, small: bool = True):
    """The configuration of a component below ``folder``, of a sensor of 3 x 4 pixels and 3 slices."""
    (folder / "configs").mkdir(exist_ok=True)
    (folder / "configs" / "parameters.yaml").write_text("task: charge_clusters\n")
    (folder / "configs" / "paths.yaml").write_text(PATHS.format(root=folder.as_posix()))
    return load_config(folder / "configs", [*(SETTINGS if small else []), *overrides])


def columns_of(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Columns of ``count`` random events of the small sensor: about half of the charges are 0."""
    generator = np.random.default_rng(seed)
    charge = generator.normal(500, 800, (36, count)) * (generator.random((36, count)) < 0.5)
    labels = generator.uniform(-1, 1, (4, count)) * np.array([[75], [18.75], [8], [0.5]])
    columns = {str(index): values.astype(np.float32) for index, values in enumerate(charge)}
    return columns | dict(zip(LABEL_COLUMNS, labels.astype(np.float32), strict=True))


def write(path: Path, columns: dict[str, np.ndarray], **options) -> Path:
    """Write columns as a parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def write_pair(folder: Path, suffix: str, columns: dict[str, np.ndarray]) -> None:
    """Write a file with the charges and one with the labels."""
    write(folder / f"recon3D{suffix}.parquet", {name: values for name, values in columns.items() if name.isdecimal()})
    write(folder / f"labels{suffix}.parquet", {name: columns[name] for name in LABEL_COLUMNS})
