"""The model family "gaussian"."""

from pixal.train_model.gaussian.model import Gaussian

__all__ = ["Gaussian"]
