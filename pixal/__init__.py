"""PIXAL: finds defects on photographs of hardware, from good examples alone.

Each command is a function: ``pixal.preprocess("photos/COMPONENT")``, ``pixal.train()``,
``pixal.validate("batch/COMPONENT")``. They load on first use, so that ``import pixal`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pixal.config import load_config
    from pixal.preprocessing.pipeline import align, make_input, preprocess, remove_bg
    from pixal.probing.encoding import encode
    from pixal.probing.evaluation import evaluate
    from pixal.synthetic.demo import demo
    from pixal.train_model.training import train
    from pixal.validation.benchmark import benchmark
    from pixal.validation.runner import detect, validate
    from pixal.validation.watch import watch

_HOMES = {
    "load_config": "pixal.config",
    "preprocess": "pixal.preprocessing.pipeline",
    "remove_bg": "pixal.preprocessing.pipeline",
    "align": "pixal.preprocessing.pipeline",
    "make_input": "pixal.preprocessing.pipeline",
    "train": "pixal.train_model.training",
    "validate": "pixal.validation.runner",
    "detect": "pixal.validation.runner",
    "benchmark": "pixal.validation.benchmark",
    "watch": "pixal.validation.watch",
    "encode": "pixal.probing.encoding",
    "evaluate": "pixal.probing.evaluation",
    "demo": "pixal.synthetic.demo",
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
