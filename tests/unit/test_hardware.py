"""The hardware settings, read back from TensorFlow; where they have to come before it starts, in a new process.

Logical processors stand in for several GPUs; on a machine that has one, the GPU settings are read back from it.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import keras
import pytest
import tensorflow as tf
import threadpoolctl

from pixal.config.schema import ModelTraining
from pixal.train_model.hardware import set_up_tensorflow

LATE = "waits for a new process"

SETTINGS = """
import pixal.train_model.autoencoder  # TensorFlow is imported, but its devices have not started
from pathlib import Path
from threadpoolctl import threadpool_info
from pixal.config.schema import ModelTraining
from pixal.train_model.hardware import set_up_tensorflow

said["found"] = set_up_tensorflow(ModelTraining(
    Available_CPU=3, mixed_precision=True, TF_GPU_ALLOCATOR="cuda_malloc_async", enable_memory_growth=False, seed=5
))
said["first"] = float(keras.random.uniform((1,))[0])
layer = keras.layers.Dense(2)
layer(tf.zeros((1, 2)))
said["compute"] = layer.compute_dtype
said["intra"] = tf.config.threading.get_intra_op_parallelism_threads()
said["inter"] = tf.config.threading.get_inter_op_parallelism_threads()
said["environment"] = {name: os.environ.get(name) for name in ("TF_GPU_ALLOCATOR", "TF_FORCE_GPU_ALLOW_GROWTH")}
said["blas"] = sorted({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
tf.function(lambda x: x @ x)(tf.zeros((500, 500))).numpy()
said["threads"] = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
"""


def run(script: str, **environment: str) -> dict[str, Any]:
    """What ``script`` put into ``said``, in a process where TensorFlow has not started."""
    before = "import json, os\nfrom pathlib import Path\nimport keras, tensorflow as tf\nsaid = {}\n"
    done = subprocess.run(
        [sys.executable, "-c", before + script + "\nprint(json.dumps(said))"],
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
    with threadpoolctl.threadpool_limits(None):  # puts back what it was
        yield
    keras.mixed_precision.set_global_policy(policy)


def test_in_a_new_process_every_setting_is_in_force() -> None:
    said = run(SETTINGS)
    assert (said["intra"], said["inter"]) == (3, 3)
    if said["threads"]:  # Linux names them
        assert said["threads"].count("tf_Compute") == 3
    assert said["blas"] == [3]
    assert said["environment"] == {"TF_GPU_ALLOCATOR": "cuda_malloc_async", "TF_FORCE_GPU_ALLOW_GROWTH": "false"}
    assert said["compute"] == "float16"
    found = said["found"]
    assert found["precision"] == "mixed_float16"
    assert found["intra_op_threads"] == found["inter_op_threads"] == 3
    assert found["gpu_allocator"] == "cuda_malloc_async"
    assert found["deterministic"] is True
    assert found["tensorflow"] == tf.__version__
    assert len(found["gpus"]) == len(found["gpu_memory_growth"]) <= 1
    assert not any(found["gpu_memory_growth"])
    assert LATE not in said["log"]
    keras.utils.set_random_seed(5)
    assert said["first"] == float(keras.random.uniform((1,))[0])


@pytest.mark.usefixtures("_as_before")
def test_growth_allocator_and_precision_follow_the_settings() -> None:
    found = set_up_tensorflow(ModelTraining(mixed_precision=True, enable_memory_growth=True))
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert os.environ["TF_GPU_ALLOCATOR"] == "unset"  # null leaves it to TensorFlow
    assert found["precision"] == keras.mixed_precision.global_policy().name == "mixed_float16"
    found = set_up_tensorflow(ModelTraining(enable_memory_growth=False, TF_GPU_ALLOCATOR="cuda_malloc_async"))
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "false"
    assert os.environ["TF_GPU_ALLOCATOR"] == found["gpu_allocator"] == "cuda_malloc_async"
    assert found["precision"] == keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize(("growth", "gpus", "used"), [(True, 1, 1), (False, 2, 2), (True, 9, 3)])
def test_growth_is_set_on_the_gpus_used_and_the_others_are_left_alone(
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
        found = set_up_tensorflow(ModelTraining(enable_memory_growth=growth, HYBRID_MODE=True), gpus)
    assert found["gpus"] == [device.name for device in devices[:used]]
    assert found["gpu_memory_growth"] == [growth] * used
    assert not any(grown[device] for device in devices[used:])
    assert ("9 GPUs are asked for, 3 found" in caplog.text) == (gpus == 9)
    assert "HYBRID_MODE" not in caplog.text


@pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="no GPU here")
def test_a_gpu_takes_memory_as_it_is_needed() -> None:
    script = """
from pixal.config.schema import ModelTraining
from pixal.train_model.hardware import set_up_tensorflow
said["found"] = set_up_tensorflow(ModelTraining(TF_GPU_ALLOCATOR="cuda_malloc_async", HYBRID_MODE=True))
said["product"] = float(tf.reduce_sum(tf.ones((64, 64)) @ tf.ones((64, 64))))
said["bytes"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
from pixal.train_model.projection_layer import SubspaceProjection
said["placed"] = sorted({w.value.device[-5:] for w in SubspaceProjection(20, 3, on_cpu=True).weights})
"""
    said = run(script)
    assert said["found"]["gpu_memory_growth"] == [True]
    assert said["product"] == 64**3
    assert 0 < said["bytes"] < 2**30
    assert said["placed"] == ["CPU:0"]


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="a GPU is here")
@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize(
    ("settings", "gpus", "said"),
    [
        ({}, 1, None),
        ({"mixed_precision": True}, 1, "mixed_precision makes training slower"),
        ({"HYBRID_MODE": True}, 1, "HYBRID_MODE changes nothing"),
        ({"TF_GPU_ALLOCATOR": "cuda_malloc_async"}, 1, "TF_GPU_ALLOCATOR changes nothing"),
        ({}, 2, "2 GPUs are asked for, 0 found"),
    ],
)
def test_what_cannot_work_without_a_gpu_is_said_aloud(
    settings: dict[str, Any], gpus: int, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="pixal"):
        set_up_tensorflow(ModelTraining(**settings), gpus)
    lines = [record.message for record in caplog.records if LATE not in record.message]
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]


@pytest.mark.usefixtures("_as_before")
def test_the_seed_sets_every_generator() -> None:
    drawn = []
    for seed in (3, 3, 4):
        set_up_tensorflow(ModelTraining(seed=seed))
        drawn.append((float(keras.random.uniform((1,))[0]), random.random()))
    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])


@pytest.mark.usefixtures("_as_before")
def test_threads_that_come_too_late_are_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    tf.zeros(1).numpy()  # TensorFlow runs now, with as many threads as it likes
    now = tf.config.threading.get_intra_op_parallelism_threads()
    with caplog.at_level(logging.WARNING, logger="pixal"):
        found = set_up_tensorflow(ModelTraining(Available_CPU=now or None))
        assert LATE not in caplog.text
        set_up_tensorflow(ModelTraining(Available_CPU=now + 5))
        assert f"{now + 5} threads (0: all) in place of {now}" in caplog.text
        assert LATE in caplog.text
        caplog.clear()
        set_up_tensorflow(ModelTraining(Available_CPU=now + 5, CPU_MULTI_THREADING=False))
        assert ("1 threads" in caplog.text) == (now != 1)
    assert found["intra_op_threads"] == now
