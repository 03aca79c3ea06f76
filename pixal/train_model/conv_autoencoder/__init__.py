"""The model family "conv_autoencoder"."""

from pixal.train_model.conv_autoencoder.model import ConvAutoencoder

__all__ = ["ConvAutoencoder"]
