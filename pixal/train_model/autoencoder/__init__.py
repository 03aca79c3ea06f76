"""The model family "autoencoder"."""

from pixal.train_model.autoencoder.model import Autoencoder

__all__ = ["Autoencoder"]
