"""Checkpoints of PyTorch: read in both formats, views included, and refused where their bounds are wrong."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
from checkpoints import checkpoint, dictionary, legacy, named, tensor, text, zipped

from pixal.io.torch_files import read_state_dict

GENERATOR = np.random.default_rng(0)
TENSORS = {
    "conv.weight": GENERATOR.normal(size=(4, 3, 2, 2)).astype(np.float32),
    "conv.half": GENERATOR.normal(size=(5,)).astype(np.float16),
    "conv.double": GENERATOR.normal(size=(2, 1)),
    "bn.num_batches_tracked": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}
BLOCK = np.arange(12, dtype=np.float32)


@pytest.mark.parametrize("old", [False, True])
def test_tensors_are_read_as_they_were_saved(old: bool) -> None:
    read = read_state_dict(checkpoint(TENSORS, old=old))
    assert list(read) == list(TENSORS)
    for name, values in TENSORS.items():
        assert read[name].dtype == values.dtype
        assert not read[name].flags.writeable
        np.testing.assert_array_equal(read[name], values)


def test_a_state_dict_may_be_one_entry_among_others() -> None:
    inner = dictionary({"a": tensor("0", "FloatStorage", 12, (12,), (1,))})[2:-1]
    saved = b"\x80\x02}(" + text("epoch") + b"K\x03" + text("state_dict") + inner + b"u."
    assert list(read_state_dict(zipped(saved, {"0": BLOCK.tobytes()}))) == ["a"]


def test_views_share_a_storage() -> None:
    items = {
        "transposed": tensor("0", "FloatStorage", 12, (4, 3), (1, 4)),
        "row": tensor("0", "FloatStorage", 12, (4,), (1,), offset=8),
    }
    for read in (
        read_state_dict(zipped(dictionary(items), {"0": BLOCK.tobytes()})),
        read_state_dict(legacy(dictionary(items), {"0": BLOCK.tobytes()}, {"0": 12})),
    ):
        np.testing.assert_array_equal(read["transposed"], BLOCK.reshape(3, 4).T)
        np.testing.assert_array_equal(read["row"], BLOCK[8:])


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((13,), (1,), 0),
        ((12,), (1,), 1),
        ((3,), (6,), 0),
        ((2,), (-1,), 5),
        ((2,), (1,), -1),
        ((-1,), (1,), 0),
        ((100_000, 100_000), (0, 0), 0),
        ((2**62, 4), (1, 1), 0),
        ((1,) * 9, (1,) * 9, 0),
        ((3,), (1, 1), 0),
        ((0,), (1,), 13),
    ],
)
def test_a_tensor_that_leaves_its_storage_is_refused(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> None:
    items = {"a": tensor("0", "FloatStorage", 12, shape, strides, offset)}
    with pytest.raises(ValueError, match=r"larger than its storage|impossible shape"):
        read_state_dict(zipped(dictionary(items), {"0": BLOCK.tobytes()}))


@pytest.mark.parametrize("count", [11, 13, 2**62, -1])
@pytest.mark.parametrize("old", [False, True])
def test_a_storage_has_the_size_that_the_pickle_says(count: int, old: bool) -> None:
    saved, blocks = dictionary({"a": tensor("0", "FloatStorage", count, (1,), (1,))}), {"0": BLOCK.tobytes()}
    content = legacy(saved, blocks, {"0": count}) if old else zipped(saved, blocks)
    if old and count == 11:  # a legacy file may end with other data
        return
    with pytest.raises(ValueError, match=r"bytes instead of|is not whole|is refused"):
        read_state_dict(content)


def test_another_kind_of_file_is_refused() -> None:
    for content, message in (
        (b"", "no end"),
        (b"\x89PNG\r\n", "is refused"),
        (pickle.dumps({"a": 1}, 2), "not a checkpoint"),
        (zipped(pickle.dumps([1, 2], 2), {}), "something else than a dictionary"),
        (zipped(pickle.dumps({"epoch": 1}, 2), {}), "no dictionary of tensors"),
        (zipped(b"\x80\x02" + named("torchvision.models.resnet.ResNet") + b".", {}), "names 'torchvision.models.re"),
        (checkpoint(TENSORS)[:-30], "damaged"),
        (zipped(dictionary({}), {}, zipfile.ZIP_DEFLATED), "is compressed"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            read_state_dict(content)
        assert "\n" not in str(caught.value)
