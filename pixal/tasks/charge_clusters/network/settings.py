"""Settings of the networks: ``model_training.model_options`` of the models of charge clusters."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pixal.config.section import Section, Units

Bits = Annotated[int, Field(ge=2, le=12)]
"""Bits of a number with sign; above 12, sums no longer fit into the integers of the pooling layer."""
Side = Annotated[int, Field(ge=1, le=15)]
"""Side of a window in pixels."""
Penalty = Annotated[float, Field(ge=0)]


class NetworkSettings(Section):
    """The network for the chip.

    Attributes:
        quantize: Whether weights and activations have few bits. False: float32 everywhere.
        input_bits: Bits of the network's input. None: the input is used as it is, and has no form for a chip.
        conv_bits: Bits of the weights of the convolutions.
        conv_activation_bits: Bits of the activations after the convolutions.
        pool_bits: Bits after the pooling layer, or of the projections.
        dense_bits: Bits of the weights of the dense layers.
        dense_activation_bits: Bits of the activations after the hidden dense layers.
        filters: Filters of both convolutions.
        kernel_size: Side of the kernel of the first convolution, in pixels.
        pool_size: Side of the windows that are averaged, in pixels.
        hidden: Units of each hidden dense layer.
        batch_normalization: Whether the input of each hard tanh is normalised over the batch.
        projections: Whether the dense layers see the sums over rows and over columns, and there is no convolution.
        kernel_l1: Factor of the penalty on the absolute values of the kernels.
        activity_l2: Factor of the penalty on the squared outputs of convolutions and hidden dense layers.
    """

    quantize: bool = True
    input_bits: Bits | None = 8
    conv_bits: Bits = 4
    conv_activation_bits: Bits = 4
    pool_bits: Bits = 8
    dense_bits: Bits = 8
    dense_activation_bits: Bits = 8
    filters: Units = 5
    kernel_size: Side = 3
    pool_size: Side = 3
    hidden: Annotated[list[Units], Field(min_length=1)] = [16, 16]
    batch_normalization: bool = False
    projections: bool = False
    kernel_l1: Penalty = 0.0
    activity_l2: Penalty = 0.0


class FloatNetworkSettings(Section):
    """The larger network in float32, an upper bound of what the network for the chip can reach.

    Attributes:
        filters: Filters of each 3 x 3 convolution.
        hidden: Units of each hidden dense layer.
    """

    filters: Annotated[list[Units], Field(min_length=1)] = [32, 32]
    hidden: Annotated[list[Units], Field(min_length=1)] = [128, 64]
