"""PIXAL: finds defects on photographs of hardware, from good examples alone.

Each command is a function: ``pixal.preprocess("photos/COMPONENT")``, ``pixal.train()``,
``pixal.validate("batch/COMPONENT")``. They load on first use, so that ``import pixal`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pixal.version import __version__

if TYPE_CHECKING:
    from pixal.commands.demo import demo
    from pixal.config import load_config
    from pixal.tasks.photographs.preprocessing.pipeline import align, make_input, preprocess, remove_bg
    from pixal.tasks.photographs.probing.encoding import encode
    from pixal.tasks.photographs.probing.evaluation import evaluate
    from pixal.tasks.photographs.verdicts.benchmark import benchmark
    from pixal.tasks.photographs.verdicts.validate import detect, validate
    from pixal.tasks.photographs.verdicts.watch import watch
    from pixal.train_model.training import train

_HOMES = {
    "load_config": "pixal.config",
    "preprocess": "pixal.tasks.photographs.preprocessing.pipeline",
    "remove_bg": "pixal.tasks.photographs.preprocessing.pipeline",
    "align": "pixal.tasks.photographs.preprocessing.pipeline",
    "make_input": "pixal.tasks.photographs.preprocessing.pipeline",
    "train": "pixal.train_model.training",
    "validate": "pixal.tasks.photographs.verdicts.validate",
    "detect": "pixal.tasks.photographs.verdicts.validate",
    "benchmark": "pixal.tasks.photographs.verdicts.benchmark",
    "watch": "pixal.tasks.photographs.verdicts.watch",
    "encode": "pixal.tasks.photographs.probing.encoding",
    "evaluate": "pixal.tasks.photographs.probing.evaluation",
    "demo": "pixal.commands.demo",
}

__all__ = [
    "__version__",
    "align",
    "benchmark",
    "demo",
    "detect",
    "encode",
    "evaluate",
    "load_config",
    "make_input",
    "preprocess",
    "remove_bg",
    "train",
    "validate",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
