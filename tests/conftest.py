"""What all tests share: an offline process, one small rendered batch, and a small trained model."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import collect_runs, train_front, validate_lot
from hypothesis import HealthCheck, settings
from matplotlib.figure import Figure

from pixal.tracking import Tracker
from pixal.tracking.environment import SWITCH, TIMEOUT

os.environ["MPLBACKEND"] = "Agg"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["NUMBA_DISABLE_JIT"] = "1"  # in a new environment rembg's pymatting compiles for a minute when imported
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ["PIXAL_TRACKING"] = "off"  # an MLflow store takes seconds to make; see tracking_on, tracked_runs

# Temporary files lie in memory where there is enough: on some disks each removed file takes milliseconds.
_MEMORY = Path("/dev/shm")
if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 8e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# No deadline, because shared machines stall. The same examples in every run, so that a failure means a change.
settings.register_profile(
    "pixal",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("pixal")

# A background job of a shell script ignores Ctrl-C. The tests of Ctrl-C need Python's own handler.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test cuts the power, so no file has to reach the disk. Waiting for it takes milliseconds per file.
os.fsync = lambda _: None

# Going over all objects of a process that has imported TensorFlow and run many tests takes a large part of a second.
gc.set_threshold(100_000, 20, 50)

# Figures are built and written, but blank, except in modules marked ``figures``: drawing takes more than all else.
DRAW = Figure.draw
Figure.draw = lambda *_: None  # type: ignore[method-assign]

FRAME = (480, 270)

# With -n a worker gets whole files. The longest begin first, so that none is left for one worker at the end.
_LONGEST = (
    *("test_kills", "test_soak", "test_tracking", "test_learning_round", "test_dask_training", "test_strange_names"),
    *("test_without_tensorflow", "test_end_to_end", "test_training", "test_autoencoder", "test_predictors"),
    *("test_tracking_mlflow", "test_read_only", "test_combined", "test_serve_browser", "test_degenerate_images"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first."""
    places = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _no_downloaded_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """``method: auto`` means ``border`` in the tests, even if rembg models are on this machine."""
    os.environ["U2NET_HOME"] = str(tmp_path_factory.mktemp("no_models"))


@pytest.fixture(scope="module", autouse=True)
def _drawn_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Draw the figures of a module that is marked ``figures``."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("figures"):
            patch.setattr(Figure, "draw", DRAW)
        yield


@pytest.fixture(autouse=True)
def _reset_logging_per_test() -> Iterator[None]:
    """Undo what ``pixal.cli.main`` does to the package's logger, also in fixtures of wider scope."""
    _reset_logging()
    yield
    _reset_logging()


def _reset_logging() -> None:
    logger = logging.getLogger("pixal")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture(scope="module")
def tracking_on() -> Iterator[None]:
    """Runs are written to a real MLflow store in the working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, "on")
        patch.setenv(TIMEOUT, "240")  # the process that writes the store has a low priority; the other tests do not
        yield


@pytest.fixture
def tracked_runs(monkeypatch: pytest.MonkeyPatch) -> list[Tracker]:
    """The runs that would be written to MLflow."""
    runs: list[Tracker] = []
    collect_runs(monkeypatch, runs)
    return runs


@pytest.fixture
def new_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make small file systems: a function that takes a size in bytes. Skips where this process may not mount any."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / f"disk_{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            is_mounted = False
        if not is_mounted:
            pytest.skip("this process may not mount a file system")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch of two types, 480x270 pixels: 10 good photographs each for training, 4 good and 4 defective parts.

    Holds ``train/Part``, ``production/Part`` and ``truth``. Read only.
    """
    from pixal.synthetic import write_batch

    folder = tmp_path_factory.mktemp("rendered")
    write_batch(folder, component="Part", train=10, good=4, bad=4, frame_size=FRAME, kinds=("scratch", "stain"))
    return folder


@pytest.fixture(scope="session")
def trained_front(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a small autoencoder of five photographs of the type front. Read only."""
    folder = tmp_path_factory.mktemp("trained_front")
    train_front(
        folder,
        rendered,
        "model_training: {autoencoder_architecture: [8, 4], n_epochs: 4, calibration_folds: 2}\n"
        "preprocessing: {draw_matches: False, save_metrics: False, save_overlays: False}\n"
        "plotting: {plot_loss: False, plot_accuracy: False, plot_anomaly_heatmap: False, plot_distributions: False}\n",
    )
    return folder


@pytest.fixture(scope="session")
def validated_lot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a Gaussian model of 7 photographs, 240x135 pixels, and the batch lot1 of 6. Read only.

    Copies of it read the photographs of the batch here: verdicts have absolute paths.
    """
    folder = tmp_path_factory.mktemp("validated_lot")
    validate_lot(folder)
    return folder
