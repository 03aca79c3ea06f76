"""Apply a trained convolutional autoencoder without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixal.train_model.conv_autoencoder.means import Means
from pixal.train_model.conv_autoencoder.options import ConvAutoencoderOptions, ConvSpecification
from pixal.train_model.conv_autoencoder.reconstruction import Images, TileReconstructor, network_files
from pixal.train_model.inference.session import OnnxNetwork
from pixal.train_model.prediction import Predictor
from pixal.train_model.specification import ModelSpecification


class TilePredictor(TileReconstructor):
    """A convolutional autoencoder whose networks ONNX Runtime computes."""

    def __init__(self, folder: Path, spec: ConvSpecification) -> None:
        """Load the networks and the mean images.

        Raises:
            ModelError: A file is missing, damaged, or does not match the specification.
        """
        self.spec = spec
        self.options = ConvAutoencoderOptions.model_validate(spec.model_options)
        self._network, self._encoder = (OnnxNetwork(path, spec) for path in network_files(folder, spec))
        self._means = Means.load(self._means_file(folder), (self._type_count, *spec.shape))

    @property
    def rows_are_independent(self) -> bool:
        """Yes: the tiles of one image are computed together."""
        return True

    def _reconstruct_tiles(self, tiles: Images) -> Images:
        return self._network(tiles)[0]

    def _encode_tiles(self, tiles: Images) -> Images:
        return self._encoder(tiles)[0]


def load_predictor(folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Predictor:
    """Load a trained convolutional autoencoder to apply it: without TensorFlow where training wrote its networks.

    Raises:
        ModelError: A file is missing, damaged, or does not match the specification.
    """
    spec = ConvSpecification.read(specification)
    if all(path.is_file() for path in network_files(folder, spec)):
        return TilePredictor(folder, spec)
    from pixal.train_model.conv_autoencoder.model import ConvAutoencoder

    return ConvAutoencoder.load(folder, specification)
