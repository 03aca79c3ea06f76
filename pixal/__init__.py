"""PIXAL finds defects on photographs of hardware. It learns from photographs of good parts only.

Each command is a function: ``pixal.preprocess("photos/COMPONENT")``, ``pixal.train()``,
``pixal.validate("batch/COMPONENT")``. A function is imported on first use, so that ``import pixal`` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pixal.version import __version__

if TYPE_CHECKING:
    from pixal.commands.arrange import arrange
    from pixal.commands.benchmark import benchmark
    from pixal.commands.compare import compare
    from pixal.commands.demo import demo
    from pixal.commands.doctor import doctor
    from pixal.commands.history import history
    from pixal.commands.inspect import inspect
    from pixal.commands.learning import accept, promote, recalibrate
    from pixal.commands.models import export, import_
    from pixal.commands.overview import check, init, status
    from pixal.commands.preprocess import align, make_input, preprocess, remove_bg
    from pixal.commands.probe import encode, evaluate
    from pixal.commands.sensitivity import sensitivity
    from pixal.commands.serve import serve
    from pixal.commands.train import train
    from pixal.commands.validate import detect, validate, watch
    from pixal.config import load_config

_MODULES = {
    "load_config": "pixal.config",
    "inspect": "pixal.commands.inspect",
    "preprocess": "pixal.commands.preprocess",
    "remove_bg": "pixal.commands.preprocess",
    "align": "pixal.commands.preprocess",
    "make_input": "pixal.commands.preprocess",
    "train": "pixal.commands.train",
    "validate": "pixal.commands.validate",
    "detect": "pixal.commands.validate",
    "benchmark": "pixal.commands.benchmark",
    "watch": "pixal.commands.validate",
    "export": "pixal.commands.models",
    "import_": "pixal.commands.models",
    "encode": "pixal.commands.probe",
    "evaluate": "pixal.commands.probe",
    "demo": "pixal.commands.demo",
    "init": "pixal.commands.overview",
    "check": "pixal.commands.overview",
    "status": "pixal.commands.overview",
    "doctor": "pixal.commands.doctor",
    "clean": "pixal.commands.clean",
    "sensitivity": "pixal.commands.sensitivity",
    "compare": "pixal.commands.compare",
    "history": "pixal.commands.history",
    "serve": "pixal.commands.serve",
    "accept": "pixal.commands.learning",
    "arrange": "pixal.commands.arrange",
    "promote": "pixal.commands.learning",
    "recalibrate": "pixal.commands.learning",
}

__all__ = [
    "__version__",
    "accept",
    "align",
    "arrange",
    "benchmark",
    "check",
    "clean",
    "compare",
    "demo",
    "detect",
    "doctor",
    "encode",
    "evaluate",
    "export",
    "history",
    "import_",
    "init",
    "inspect",
    "load_config",
    "make_input",
    "preprocess",
    "promote",
    "recalibrate",
    "remove_bg",
    "sensitivity",
    "serve",
    "status",
    "train",
    "validate",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
