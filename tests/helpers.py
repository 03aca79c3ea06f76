"""What several test modules need: configuration folders, and the tracked runs without an MLflow store."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pixal.mlflow_utils import SWITCH, Tracker

PATHS = """\
component_model_path: {component: Part, base: ./out}
component_validate_path: {component: Part, base: ./validate}
"""

NO_FIGURES = (
    *(f"preprocessing.{key}=False" for key in ("draw_matches", "save_metrics", "save_overlays")),
    *(
        f"plotting.{key}=False"
        for key in (
            "plot_loss",
            "plot_accuracy",
            "plot_confusion_matrix",
            "plot_roc_recall_curve",
            "plot_anomaly_heatmap",
            "plot_abs_loss_per_pixel",
            "plot_mse_per_pixel",
            "plot_pixel_predictions",
            "plot_distributions",
            "plot_latent_space",
        )
    ),
)
"""Overrides (``KEY=VALUE``) that turn all optional figures off."""


def write_configs(folder: Path, settings: str, paths: str = PATHS) -> Path:
    """Write ``folder/configs`` with the YAML ``settings`` and ``paths``; return the new folder."""
    configs = folder / "configs"
    configs.mkdir(parents=True)
    (configs / "parameters.yaml").write_text(settings)
    (configs / "paths.yaml").write_text(paths)
    return configs


def component_paths(root: Path, component: str = "Part") -> str:
    """The text of a ``paths.yaml`` whose folders are ``root/out`` and ``root/validate``."""
    return yaml.safe_dump(
        {
            f"component_{kind}_path": {"component": component, "base": str(root / folder)}
            for kind, folder in (("model", "out"), ("validate", "validate"))
        }
    )


def collect_runs(patch: pytest.MonkeyPatch, runs: list[Tracker]) -> None:
    """Append tracked runs to ``runs`` instead of writing them to MLflow, whose store takes long to make."""
    patch.setenv(SWITCH, "on")
    patch.setattr("pixal.mlflow_utils.store_run", runs.append)
    patch.setattr("pixal.mlflow_utils.import_mlflow", lambda: None)
