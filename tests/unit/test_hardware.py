"""The hardware settings, read back from TensorFlow, in a new process if they must be set before it starts.

Logical processors replace several GPUs. On a machine with a GPU its settings are read back from it.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import threadpoolctl
from pydantic import ValidationError

from pixal.config.schema import ModelTraining
from pixal.tasks.photographs.settings import PhotographParameters
from pixal.train_model.autoencoder.model import Autoencoder
from pixal.train_model.keras_training.hardware import set_up_tensorflow
from pixal.train_model.quiet_import import without_tensorflow_messages

LATE = "needs a new process"

SETTINGS = """
import pixal.train_model.autoencoder.model  # TensorFlow is imported, but its devices have not started
from pathlib import Path
from threadpoolctl import threadpool_info
from pixal.config.schema import ModelTraining
from pixal.train_model.keras_training.hardware import set_up_tensorflow

report["hardware"] = set_up_tensorflow(ModelTraining(
    Available_CPU=3, mixed_precision=True, TF_GPU_ALLOCATOR="cuda_malloc_async", enable_memory_growth=False, seed=5
))
report["first"] = float(keras.random.uniform((1,))[0])
layer = keras.layers.Dense(2)
layer(tf.zeros((1, 2)))
report["compute"] = layer.compute_dtype
report["intra"] = tf.config.threading.get_intra_op_parallelism_threads()
report["inter"] = tf.config.threading.get_inter_op_parallelism_threads()
report["environment"] = {name: os.environ.get(name) for name in ("TF_GPU_ALLOCATOR", "TF_FORCE_GPU_ALLOW_GROWTH")}
report["blas"] = sorted({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
tf.function(lambda x: x @ x)(tf.zeros((500, 500))).numpy()
report["threads"] = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
"""

REPLICAS = """
import numpy as np
from functools import partial
from pixal.errors import ConfigError
from pixal.inputs import InputSet
from pixal.train_model import checkpoint
from pixal.train_model.family import FitControl
from pixal.train_model.autoencoder import model as autoencoder
from pixal.train_model.keras_training import fitting
from pixal.train_model.autoencoder.projection_layer import SubspaceProjection
from pixal.train_model.keras_training.replicas import distribution_strategy, replica_share

folder, params = Path(os.environ["FOLDER"]), json.loads(os.environ["PARAMS"])
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 3
)
report["without_gpus"] = distribution_strategy(3) is tf.distribute.get_strategy()
autoencoder.distribution_strategy = partial(distribution_strategy, kind="CPU")
checkpoint._SECONDS = checkpoint._SHARE = 0.0

def counted(x, y):
    found = replica_share(x, y)
    tf.print("rows", tf.shape(found[1])[0], output_stream=f"file://{folder}/rows")
    return found

def fit(model, rows, **more):
    return model.fit(inputs, rows, np.ones((2, 4, 3), bool), FitControl(validation_rows=np.arange(9, 11), **more))

def killed(epoch, loss):
    if epoch == 3:
        raise SystemExit

again = report["epochs_after_resuming"] = []
data = np.random.default_rng(0).random((11, 12)).astype(np.float32)
labels = np.eye(2, dtype=np.float32)[np.arange(11) % 2]
inputs = InputSet(data, (4, 3, 1), ("R",), tuple(map(str, range(11))), labels, ("back", "front"))
fitting.replica_share = counted
for name, settings in json.loads(os.environ["CASES"]).items():
    for gpus in (1, 2):
        (folder / "rows").write_text("")
        model = autoencoder.Autoencoder(params | settings | {"gpus": gpus})
        found = [fit(model, rows) for rows in (np.arange(1, 8), np.arange(9))]  # a fold, then all
        report[f"{name}_{gpus}"] = [history.loss + history.validation_loss + history.accuracy for history in found]
        report[f"{name}_{gpus}_rows"] = (folder / "rows").read_text().split()[1::2]
        model.save(folder / f"{name}_{gpus}")
report["devices"] = [copy.device[-5:] for copy in model._trained.trainable_variables[0].value.values]

with checkpoint.Checkpoint(folder / "checkpoint", {}, (1,), resume=False) as kept:
    try:
        fit(model, np.arange(9), on_epoch=killed, checkpoint=kept)
    except SystemExit:
        pass
with checkpoint.Checkpoint(folder / "checkpoint", {}, (1,), resume=True) as kept:
    history = fit(model, np.arange(9), on_epoch=lambda epoch, _: again.append(epoch), checkpoint=kept)
report["resumed"] = history.loss + history.validation_loss + history.accuracy

keras.mixed_precision.set_global_policy("mixed_float16")
with distribution_strategy(2, "CPU").scope():
    image = keras.Input((3,))
    model = fitting.TapeModel(image, keras.layers.Dense(2, dtype="float32")(image))
    model.compile("sgd", "mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
report["scales"], report["same"] = [float(model.optimizer.initial_scale)], []
for row in (0, 1, None):  # one replica's gradients overflow, then none's
    before, target = model.get_weights(), np.ones((2, 2), np.float32)
    if row is not None:
        target[row] = np.inf
    model.train_on_batch(np.ones((2, 3), np.float32), target)
    report["scales"].append(float(model.optimizer.dynamic_scale.numpy()))
    report["same"].append(all(map(np.array_equal, before, model.get_weights())))
copies = [[copy.numpy() for copy in variable.value.values] for variable in model.trainable_variables]
report["copies"] = [bool(np.isfinite(own[0]).all() and (own == own[0]).all()) for own in map(np.array, copies)]

try:
    distribution_strategy(3, "CPU")
except ConfigError as error:
    report["refused"] = str(error)

for on_cpu in (False, True):
    with tf.device("CPU:1"):  # as if it were the GPU
        layer = SubspaceProjection(20, 3, on_cpu=on_cpu)
        found = layer(tf.zeros((2, 20)))
    report[f"placed_{on_cpu}"] = sorted({tensor.device[-5:] for tensor in [*(w.value for w in layer.weights), found]})
"""

CASES: dict[str, Any] = {
    "coefficients": {"regularization": "l2", "l2_regularization": 0.01, "metric_accuracy": True},
    "images": {"loss_function": "huber", "regularization": "l1", "l1_regularization": 0.01, "metric_accuracy": False},
}


def run(script: str, **environment: str) -> dict[str, Any]:
    """Run ``script`` in a new process without TensorFlow; return the values that it stored in ``report``."""
    before = "import json, os\nfrom pathlib import Path\nimport keras, tensorflow as tf\nreport = {}\n"
    done = subprocess.run(
        [sys.executable, "-c", before + script + "\nprint(json.dumps(report))"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(sys.path)} | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.strip().splitlines()[-1]), log=done.stderr)


@pytest.fixture
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("TF_GPU_ALLOCATOR", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.setenv(name, "unset")
    policy = keras.mixed_precision.global_policy()
    with threadpoolctl.threadpool_limits(None):  # restores the limits at the end
        yield
    keras.mixed_precision.set_global_policy(policy)


@pytest.mark.slow
def test_in_a_new_process_every_setting_takes_effect() -> None:
    report = run(SETTINGS)
    assert (report["intra"], report["inter"]) == (3, 3)
    if report["threads"]:  # Linux names them
        assert report["threads"].count("tf_Compute") == 3
    assert report["blas"] == [3]
    assert report["environment"] == {"TF_GPU_ALLOCATOR": "cuda_malloc_async", "TF_FORCE_GPU_ALLOW_GROWTH": "false"}
    assert report["compute"] == "float16"
    actual = report["hardware"]
    assert actual["precision"] == "mixed_float16"
    assert actual["intra_op_threads"] == actual["inter_op_threads"] == 3
    assert actual["gpu_allocator"] == "cuda_malloc_async"
    assert actual["deterministic"] is True
    assert actual["tensorflow"] == tf.__version__
    assert len(actual["gpus"]) == len(actual["gpu_memory_growth"]) <= 1
    assert not any(actual["gpu_memory_growth"])
    assert LATE not in report["log"]
    keras.utils.set_random_seed(5)
    assert report["first"] == float(keras.random.uniform((1,))[0])


@pytest.mark.slow
def test_two_devices_share_each_batch_and_train_the_same_model_as_one(tmp_path: Path) -> None:
    """Also where a batch cannot be shared evenly, or holds fewer images than there are devices."""
    settings = {"autoencoder_architecture": [4], "n_epochs": 5, "batchsize": 3, "learning_rate": 0.02}
    training = {
        "model": "autoencoder",
        "one_hot_encoding": True,
        "input_noise": 0.0,
        "patience": 0,
        "projection_rank": 3,
    } | settings
    params = PhotographParameters.model_validate({"model_training": training}).model_training.model_dump() | {
        **{"input_dim": 12, "shape": [4, 3, 1], "channels": ["R"], "channel_weights": [1.0]},
        **{"types": ["back", "front"], "memory_limit": 1.0},
    }
    report = run(REPLICAS, FOLDER=str(tmp_path), PARAMS=json.dumps(params), CASES=json.dumps(CASES))
    for name, case in CASES.items():
        assert report[f"{name}_1_rows"] == []  # Keras's own step
        shares = "221" + "222"  # of 3, 3 and 1 images of the fold, and of 3, 3 and 3 of all
        assert sorted(report[f"{name}_2_rows"]) == sorted(shares * 2 * 5)
        for one, two in zip(report[f"{name}_1"], report[f"{name}_2"], strict=True):
            assert len(one) == (15 if case["metric_accuracy"] else 10)
            np.testing.assert_allclose(two, one, rtol=1e-5)
            assert one[4] < 0.95 * one[0]
        models = [Autoencoder.load(tmp_path / f"{name}_{gpus}", params | case) for gpus in (1, 2)]
        whole = [keras.saving.load_model(tmp_path / f"{name}_{gpus}/pixal_autoencoder.keras") for gpus in (1, 2)]
        assert whole[0].get_config() == whole[1].get_config()
        for one, *others in zip(*(model.get_weights() for model in (*(m.model for m in models), *whole)), strict=True):
            for other in others:
                np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
    assert report["devices"] == ["CPU:0", "CPU:1"]
    assert report["resumed"] == report["images_2"][1]
    assert report["epochs_after_resuming"] == [3, 4, 5]
    assert report["scales"] == [2.0**15, 2.0**14, 2.0**13, 2.0**13]
    assert report["same"] == [True, True, False]
    assert report["copies"] == [True] * 2
    assert report["refused"].startswith("model_training.gpus: training on 3 GPUs needs a new process")
    assert report["without_gpus"] is True
    assert (report["placed_False"], report["placed_True"]) == (["CPU:1"], ["CPU:0"])


@pytest.mark.usefixtures("_as_before")
def test_growth_allocator_and_precision_follow_the_settings() -> None:
    actual = set_up_tensorflow(ModelTraining(mixed_precision=True, enable_memory_growth=True))
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert os.environ["TF_GPU_ALLOCATOR"] == "unset"  # null leaves it to TensorFlow
    assert actual["precision"] == keras.mixed_precision.global_policy().name == "mixed_float16"
    actual = set_up_tensorflow(ModelTraining(enable_memory_growth=False, TF_GPU_ALLOCATOR="cuda_malloc_async"))
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "false"
    assert os.environ["TF_GPU_ALLOCATOR"] == actual["gpu_allocator"] == "cuda_malloc_async"
    assert actual["precision"] == keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize(("growth", "gpus", "used"), [(True, 1, 1), (False, 2, 2), (True, 9, 3)])
def test_memory_growth_is_set_on_the_used_gpus_only(
    growth: bool, gpus: int, used: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    devices = [tf.config.PhysicalDevice(f"/physical_device:GPU:{n}", "GPU") for n in range(3)]
    visible, grown = list(devices), dict.fromkeys(devices, False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices if kind == "GPU" else [])
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: visible)
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda those, kind: visible.__setitem__(slice(None), those))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grown.__setitem__)
    monkeypatch.setattr(tf.config.experimental, "get_memory_growth", grown.__getitem__)
    with caplog.at_level(logging.WARNING, logger="pixal"):
        actual = set_up_tensorflow(ModelTraining(enable_memory_growth=growth, gpus=gpus, HYBRID_MODE=gpus == 1))
    assert actual["gpus"] == [device.name for device in devices[:used]]
    assert actual["gpu_memory_growth"] == [growth] * used
    assert not any(grown[device] for device in devices[used:])
    assert ("9 GPUs are requested, 3 found" in caplog.text) == (gpus == 9)
    assert "HYBRID_MODE" not in caplog.text


@pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="this machine has no GPU")
def test_a_gpu_allocates_memory_on_demand() -> None:
    script = """
from pixal.config.schema import ModelTraining
from pixal.train_model.keras_training.hardware import set_up_tensorflow
report["hardware"] = set_up_tensorflow(ModelTraining(TF_GPU_ALLOCATOR="cuda_malloc_async", HYBRID_MODE=True))
report["product"] = float(tf.reduce_sum(tf.ones((64, 64)) @ tf.ones((64, 64))))
report["bytes"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
from pixal.train_model.autoencoder.projection_layer import SubspaceProjection
report["placed"] = sorted({w.value.device[-5:] for w in SubspaceProjection(20, 3, on_cpu=True).weights})
"""
    report = run(script)
    assert report["hardware"]["gpu_memory_growth"] == [True]
    assert report["product"] == 64**3
    assert 0 < report["bytes"] < 2**30
    assert report["placed"] == ["CPU:0"]


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has a GPU")
@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, None),
        ({"mixed_precision": True}, "mixed_precision makes training slower"),
        ({"HYBRID_MODE": True}, "HYBRID_MODE has no effect"),
        ({"TF_GPU_ALLOCATOR": "cuda_malloc_async"}, "TF_GPU_ALLOCATOR has no effect"),
        ({"gpus": 2}, "2 GPUs are requested, 0 found"),
    ],
)
def test_settings_without_effect_give_a_warning(
    settings: dict[str, Any], message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="pixal"):
        set_up_tensorflow(ModelTraining(**settings))
    lines = [record.message for record in caplog.records if LATE not in record.message]
    assert len(lines) == (message is not None)
    assert message is None or message in lines[0]


def test_hybrid_mode_needs_a_single_gpu() -> None:
    """The copies of the basis would lie on the GPUs, whatever it says."""
    with pytest.raises(ValidationError, match="HYBRID_MODE needs gpus 1, not 2"):
        ModelTraining(gpus=2, HYBRID_MODE=True)
    assert ModelTraining(gpus=2).gpus == 2


@pytest.mark.usefixtures("_as_before")
def test_the_seed_sets_every_generator() -> None:
    drawn = []
    for seed in (3, 3, 4):
        set_up_tensorflow(ModelTraining(seed=seed))
        drawn.append((float(keras.random.uniform((1,))[0]), random.random()))
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])


@pytest.mark.usefixtures("_as_before")
def test_threads_that_are_set_too_late_give_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    tf.zeros(1).numpy()  # starts TensorFlow with its default threads
    now = tf.config.threading.get_intra_op_parallelism_threads()
    with caplog.at_level(logging.WARNING, logger="pixal"):
        actual = set_up_tensorflow(ModelTraining(Available_CPU=now or None))
        assert LATE not in caplog.text
        set_up_tensorflow(ModelTraining(Available_CPU=now + 5))
        assert f"{now + 5} threads (0: all) instead of {now}" in caplog.text
        assert LATE in caplog.text
        caplog.clear()
        set_up_tensorflow(ModelTraining(Available_CPU=now + 5, CPU_MULTI_THREADING=False))
        assert ("1 threads" in caplog.text) == (now != 1)
    assert actual["intra_op_threads"] == now


def test_an_import_passes_on_all_messages_but_the_routine_ones(capfd: pytest.CaptureFixture[str]) -> None:
    with without_tensorflow_messages():
        os.write(2, b"I0000 port.cc:153] oneDNN custom operations are on. You may see\nno such driver\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err.splitlines() == ["no such driver", "after"]


def test_the_garbage_collector_is_off_during_an_import_and_as_before_after_it() -> None:
    for switch in (gc.disable, gc.enable):
        switch()
        before, during = gc.isenabled(), []
        with suppress(ImportError), without_tensorflow_messages():
            during.append(gc.isenabled())
            raise ImportError
        assert (during, gc.isenabled()) == ([False], before)
