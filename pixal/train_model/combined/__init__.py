"""The model family "combined". Its class is imported on first use, because it needs TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixal.train_model.combined.model import Combined

__all__ = ["Combined"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from pixal.train_model.combined import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
