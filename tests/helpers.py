"""What several test modules share: configurations, and tracked runs without an MLflow store."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixal.config import Paths, load_config
from pixal.config.loading import DEFAULTS
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters, photograph_config
from pixal.tracking import Tracker
from pixal.tracking.environment import SWITCH
from pixal.tracking.loggers import RunLogger
from pixal.tracking.run import TrackedRun

PATHS = """\
component_model_path: {component: Part, base: ./out}
component_validate_path: {component: Part, base: ./validate}
"""
"""A ``paths.yaml`` whose folders are ``out/Part`` and ``validate/Part`` in the working directory."""

PREPROCESSING_FIGURES = ("draw_matches", "save_metrics", "save_overlays")
PLOTS = tuple(name for name in PhotographParameters().plotting.model_dump() if name.startswith("plot_"))
NO_FIGURES = (
    *(f"preprocessing.{name}=False" for name in PREPROCESSING_FIGURES),
    *(f"plotting.{name}=False" for name in PLOTS),
)
"""Overrides (``KEY=VALUE``) that turn all optional figures off."""


def make_config(root: Path, **sections: dict[str, Any]) -> PhotographConfig:
    """Settings with the given values per section, without files. The folders are ``root/out`` and ``root/validate``.

    ``train`` plants no defects, unless ``validation`` asks for it, and fits an autoencoder, which takes least time.
    """
    sections["model_training"] = {"model": "autoencoder"} | sections.get("model_training", {})
    sections["validation"] = {"sensitivity": "off"} | sections.get("validation", {})
    return PhotographConfig(PhotographParameters.model_validate(sections), _paths(root), root)


def config_in(folder: Path, *overrides: str) -> PhotographConfig:
    """The default settings with ``overrides`` (``KEY=VALUE``). The folders are in ``folder``.

    ``train`` plants no defects, and fits an autoencoder, unless an override asks for it.
    """
    fast = ["validation.sensitivity=off", "model_training.model=autoencoder"]
    config = photograph_config(load_config(DEFAULTS, [*fast, *overrides]))
    return PhotographConfig(config.parameters, _paths(folder), folder)


def write_configs(folder: Path, settings: str) -> Path:
    """Write ``folder/configs`` with the YAML ``settings``, and with ``PATHS``; return the new folder.

    ``train`` then plants no defects, which would take longer than most tests, and fits an autoencoder.
    """
    configs = folder / "configs"
    configs.mkdir(parents=True)
    (configs / "parameters.yaml").write_text(settings)
    (configs / "validation.yaml").write_text("sensitivity: off\n")
    if "model" not in (yaml.safe_load(settings) or {}).get("model_training", {}):
        (configs / "model_training.yaml").write_text("model: autoencoder\n")
    (configs / "paths.yaml").write_text(PATHS)
    return configs


def train_front(folder: Path, rendered: Path, settings: str) -> None:
    """Train a model of five photographs of the type front, with the YAML ``settings``, in the new working directory."""
    import pixal

    write_configs(folder, settings)
    photographs = folder / "photographs/front"
    photographs.mkdir(parents=True)
    for path in sorted((rendered / "train/Part/front").iterdir())[:5]:
        shutil.copy(path, photographs)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pixal.preprocess("photographs/front", quiet=True)
        pixal.train(quiet=True)


def lot_config(*overrides: str) -> PhotographConfig:
    """The settings of the fixture ``validated_lot``, with the folders of the working directory."""
    settings = ("model_training.model=gaussian", "validation.false_alarm_rate=0.1", "execution.workers=1")
    return config_in(Path(), *NO_FIGURES, *settings, *overrides)


def validate_lot(folder: Path) -> None:
    """Render parts of the type front in a new working directory, train on 7 of them, and validate a batch of 6."""
    import pixal
    from pixal.synthetic import write_batch

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_batch("r", component="Part", types=("front",), train=7, good=3, bad=3, frame_size=(240, 135))
        pixal.preprocess("r/train/Part", config=lot_config(), quiet=True)
        pixal.train(config=lot_config(), quiet=True)
        pixal.validate("r/production/Part", batch="lot1", config=lot_config(), quiet=True)


def lot_parts(label: int) -> list[str]:
    """The photographs of the batch of ``validated_lot`` that are good (0) or defective (1)."""
    with Path("r/truth/front/labels.csv").open() as file:
        return [f"{row['name']}.jpg" for row in csv.DictReader(file) if row["label"] == str(label)]


def write_marks(marks: dict[str, str], **columns: Any) -> None:
    """Write ``marks.csv``: a mark for each photograph of the type front, and further columns."""
    names = ["type", "image", "mark", *columns]
    with Path("marks.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *(["front", *row, *columns.values()] for row in marks.items())])


class Collector(RunLogger):
    """Keeps the runs that have ended."""

    def __init__(self, runs: list[Tracker]) -> None:
        self._runs = runs

    def end(self, run: TrackedRun) -> None:
        """Keep a run."""
        assert isinstance(run, Tracker)
        self._runs.append(run)


def collect_runs(patch: pytest.MonkeyPatch, runs: list[Tracker]) -> None:
    """Append tracked runs to ``runs`` instead of writing them to MLflow, whose store takes seconds to create."""
    patch.setenv(SWITCH, "on")
    patch.setattr("pixal.tracking.tracker.open_loggers", lambda settings, *, deferred: [Collector(runs)])
    patch.setattr("pixal.tracking.sender.start_sender", lambda: None)


class Killed(BaseException):
    """Stands for a kill: no handler of ``Exception`` sees it."""


def kill_at(patch: pytest.MonkeyPatch, function: str, k: int, *, before: bool = True) -> None:
    """Raise ``Killed`` at the ``k``-th call of ``os.FUNCTION``, counted from 1: before it does its work, or after."""
    original: Callable[..., Any] = getattr(os, function)
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == k and before:
            raise Killed
        try:
            return original(*arguments, **options)
        finally:
            if calls == k:
                raise Killed

    patch.setattr(os, function, counted)


def _paths(root: Path) -> Paths:
    return Paths(
        {
            "component_model_path": {"component": "Part", "base": str(root / "out")},
            "component_validate_path": {"component": "Part", "base": str(root / "validate")},
        }
    )


def record_verdicts(monkeypatch: pytest.MonkeyPatch, describe: Callable[[Any, Any], str]) -> list[str]:
    """Return the list to which ``describe(verdicts of the type, verdict)`` is added for each new verdict."""
    from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts

    found: list[str] = []
    validate_parts = TypeVerdicts.validate_parts

    def record(self: TypeVerdicts, *arguments: Any) -> Any:
        for verdict in validate_parts(self, *arguments):
            found.append(describe(self, verdict))
            yield verdict

    monkeypatch.setattr(TypeVerdicts, "validate_parts", record)
    return found


def mapped_bytes() -> int:
    """Bytes of mapped files in the memory of this process, on disks and in memory (``/dev/shm``)."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("the system does not say how much memory maps files")
    sizes = (line.split() for line in status.read_text().splitlines() if line.startswith(("RssFile", "RssShmem")))
    return 1024 * sum(int(size) for _, size, _ in sizes)
