"""The model family "padim"."""

from pixal.train_model.padim.model import Padim

__all__ = ["Padim"]
