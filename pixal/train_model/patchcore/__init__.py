"""The model family "patchcore"."""

from pixal.train_model.patchcore.model import Patchcore

__all__ = ["Patchcore"]
