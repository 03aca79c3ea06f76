"""The hardware settings, read back from TensorFlow; all at once in a process where it has not started yet."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import keras
import pytest
import tensorflow as tf

from pixal.config.schema import ModelTraining
from pixal.train_model.hardware import set_up_tensorflow

SCRIPT = """
import json, os
from pixal.config.schema import ModelTraining
from pixal.train_model.hardware import set_up_tensorflow

found = set_up_tensorflow(ModelTraining(
    Available_CPU=3, mixed_precision=True, TF_GPU_ALLOCATOR="cuda_malloc_async", enable_memory_growth=False, seed=5
))
import keras, tensorflow as tf

first = float(keras.random.uniform((1,))[0])
layer = keras.layers.Dense(2)
layer(tf.zeros((1, 2)))
print(json.dumps({
    "found": found,
    "intra": tf.config.threading.get_intra_op_parallelism_threads(),
    "inter": tf.config.threading.get_inter_op_parallelism_threads(),
    "environment": {name: os.environ.get(name) for name in ("TF_GPU_ALLOCATOR", "TF_FORCE_GPU_ALLOW_GROWTH")},
    "compute": layer.compute_dtype,
    "first": first,
}))
"""


@pytest.fixture
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("TF_GPU_ALLOCATOR", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.setenv(name, "unset")
    policy = keras.mixed_precision.global_policy()
    yield
    keras.mixed_precision.set_global_policy(policy)


def test_in_a_new_process_every_setting_is_in_force() -> None:
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=quiet)
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert (said["intra"], said["inter"]) == (3, 3)
    assert said["environment"] == {"TF_GPU_ALLOCATOR": "cuda_malloc_async", "TF_FORCE_GPU_ALLOW_GROWTH": "false"}
    assert said["compute"] == "float16"
    assert said["found"]["precision"] == "mixed_float16"
    assert said["found"]["intra_op_threads"] == 3
    assert said["found"]["deterministic"] is True
    assert said["found"]["tensorflow"] == tf.__version__
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
    assert os.environ["TF_GPU_ALLOCATOR"] == "cuda_malloc_async"
    assert found["precision"] == keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.usefixtures("_as_before")
def test_the_seed_sets_every_generator() -> None:
    drawn = []
    for seed in (3, 3, 4):
        set_up_tensorflow(ModelTraining(seed=seed))
        drawn.append(float(keras.random.uniform((1,))[0]))
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.usefixtures("_as_before")
def test_threads_that_come_too_late_are_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    tf.zeros(1).numpy()  # TensorFlow runs now, with as many threads as it likes
    now = tf.config.threading.get_intra_op_parallelism_threads()
    with caplog.at_level(logging.WARNING, logger="pixal"):
        found = set_up_tensorflow(ModelTraining(Available_CPU=now or None))
        assert caplog.text == ""
        set_up_tensorflow(ModelTraining(Available_CPU=now + 5))
        assert "the setting" in caplog.text
        assert str(now + 5) in caplog.text
        caplog.clear()
        set_up_tensorflow(ModelTraining(Available_CPU=now + 5, CPU_MULTI_THREADING=False))
        assert ("the setting 1 waits" in caplog.text) == (now != 1)
    assert found["intra_op_threads"] == now
