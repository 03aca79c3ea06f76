"""Networks as integers: equal to the Keras network to the last bit, stored as JSON, with their costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from test_cluster_network import SHAPE, blobs, build_mdn, randomised

from pixal.errors import ModelError
from pixal.tasks.charge_clusters.network.conversion import largest_values, to_integers
from pixal.tasks.charge_clusters.network.hls import to_hls
from pixal.tasks.charge_clusters.network.integers import IntegerNetwork, Weights
from pixal.tasks.charge_clusters.network.settings import NetworkSettings


@pytest.mark.parametrize(
    ("changed", "shape"),
    [
        ({}, SHAPE),
        ({}, (16, 16, 2)),
        ({}, (13, 21, 20)),
        ({"projections": True}, SHAPE),
        ({"pool_size": 2, "pool_bits": 3}, SHAPE),
        ({"conv_activation_bits": 8, "pool_bits": 4, "input_bits": 4, "kernel_size": 5, "hidden": [8]}, SHAPE),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_integers_equal_the_network_to_the_last_bit(
    changed: dict[str, Any], shape: tuple[int, int, int], seed: int
) -> None:
    model = randomised(build_mdn(shape, NetworkSettings(**changed)), seed)
    charge, _ = blobs(200, shape)
    charge = charge + np.random.default_rng(seed).normal(0, 0.3, charge.shape).astype(np.float32)
    np.testing.assert_array_equal(to_integers(model).predict(charge), model(charge))


def test_the_file_gives_the_same_network(tmp_path: Path) -> None:
    network = to_integers(randomised(build_mdn(SHAPE)))
    for name in ("first.json", "second.json"):
        network.write(tmp_path / name)
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "second.json").read_bytes()
    loaded = IntegerNetwork.read(tmp_path / "first.json")
    assert loaded == network
    charge, _ = blobs(5)
    np.testing.assert_array_equal(loaded.predict(charge), network.predict(charge))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{}", "input_shape: Field required"), ("nonsense", "Invalid JSON"), ('{"format": "other"}', "format")],
)
def test_another_file_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "network.json").write_text(text)
    with pytest.raises(ModelError, match=reason):
        IntegerNetwork.read(tmp_path / "network.json")


@pytest.mark.parametrize("values", [[[1, 2], [3]], [["a"]], [[0.5]], [[8]], []])
def test_weights_that_are_no_integers_of_their_bits_are_refused(values: list[Any]) -> None:
    with pytest.raises(ValidationError, match="values"):
        Weights(bits=4, values=values)


def test_clusters_of_another_shape_are_refused() -> None:
    network = to_integers(randomised(build_mdn(SHAPE)))
    with pytest.raises(ModelError, match=r"\(13, 21, 20\) do not fit a network for \(13, 21, 2\)"):
        network.predict(blobs(1, (13, 21, 20))[0])


def test_size_and_operations(tmp_path: Path) -> None:
    network = to_integers(randomised(build_mdn(SHAPE)))
    places = 11 * 19
    products = places * (18 + 10 + 25) + 90 * 16 + 16 * 16 + 16 * 14
    assert network.weight_count == 2029
    assert network.weight_bits == (33 + 30) * 4 + (1456 + 272 + 238) * 8
    operations = network.operations
    assert operations["multiplications"] == products
    sums = places * (2 * 8 + 5 * 2 + 5 * 5) + 3 * 6 * 5 * 8 + 16 * 90 + 16 * 16 + 14 * 16
    assert operations["additions"] == sums
    assert 0 < operations["nonzero_multiplications"] < products
    network.write(tmp_path / "network.json")
    kernels = [step["kernel"]["values"] for step in json.loads((tmp_path / "network.json").read_text())["steps"][-1:]]
    assert np.shape(kernels) == (1, 16, 14)


@pytest.mark.parametrize("changed", [{"quantize": False}, {"input_bits": None}, {"batch_normalization": True}])
def test_networks_without_a_form_as_integers_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="no form as integers: train it with quantize true, a value of input_bits"):
        to_integers(build_mdn(SHAPE, NetworkSettings(**changed)))


def test_sums_beyond_float32_are_refused() -> None:
    model = randomised(build_mdn(SHAPE, NetworkSettings(input_bits=12, conv_bits=12)))
    with pytest.raises(ModelError, match=r"the sums of separable need up to \d+ bits, and float32 holds 24"):
        to_integers(model)


def test_the_model_for_hls4ml_has_the_rounded_weights_and_types() -> None:
    network = to_integers(randomised(build_mdn(SHAPE)))
    model, config = to_hls(network)
    assert model.count_params() == 2029
    assert model.output_shape == (None, 14)
    types = {name: layer["Precision"] for name, layer in config["LayerName"].items()}
    assert set(types) == {"charge", *(step.name for step in network.steps)}
    assert types["charge"]["result"] == "ap_fixed<8,1>"
    assert types["separable_tanh"]["result"] == "ap_fixed<4,1,AP_RND_CONV,AP_SAT_SYM>"
    assert types["dense_1"]["weight"] == "ap_fixed<8,1>"
    np.testing.assert_array_equal(
        model.get_layer("output").get_weights()[0] * 128,
        network.steps[-1].kernel.array,
    )
    # With the types applied by hand, the standard layers give the outputs of the integers.
    charge, _ = blobs(20)
    values = network.quantize_input(charge) / 128
    for layer in model.layers[1:]:
        values = np.asarray(layer(np.float32(values)), np.float64)
        result = types.get(layer.name, {}).get("result", "")
        if "AP_RND_CONV" in result:
            levels = 2 ** (int(result[9:].split(",")[0]) - 1)
            lowest = -levels + ("SYM" in result)
            values = np.clip(np.rint(values * levels), lowest, levels - 1) / levels
    np.testing.assert_array_equal(values, network.predict(charge))


def test_types_hold_the_largest_sums() -> None:
    network = to_integers(randomised(build_mdn(SHAPE)))
    values, fraction = network.forward(network.quantize_input(blobs(100)[0] * 5))
    (largest, same), *_ = reversed(largest_values(network))
    assert same == fraction
    assert np.abs(values).max() <= largest


def test_projections_have_no_layer_in_hls4ml() -> None:
    with pytest.raises(ModelError, match="train with projections false"):
        to_hls(to_integers(build_mdn(SHAPE, NetworkSettings(projections=True))))
