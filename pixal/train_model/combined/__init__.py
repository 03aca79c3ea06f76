"""The model family "combined"."""

from pixal.train_model.combined.model import Combined

__all__ = ["Combined"]
