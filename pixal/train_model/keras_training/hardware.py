"""Apply the hardware settings of ``model_training``: all of them before TensorFlow starts its devices."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

from pixal.config.schema import ModelTraining

_log = logging.getLogger(__name__)

_CHATTER = (b"before absl::InitializeLog()", b"oneDNN custom operations are on")


def set_up_tensorflow(settings: ModelTraining) -> dict[str, Any]:
    """Apply allocator, memory growth, threads, precision, determinism; return what is in force, for the record.

    What comes too late (TensorFlow already runs in this process) or cannot work on this machine is said in the log.
    """
    if settings.TF_GPU_ALLOCATOR:
        os.environ["TF_GPU_ALLOCATOR"] = settings.TF_GPU_ALLOCATOR
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = str(settings.enable_memory_growth).lower()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    with without_chatter():
        import keras
        import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)  # that a new model is traced anew is no news
    threading = tf.config.threading
    threads = (settings.Available_CPU or 0) if settings.CPU_MULTI_THREADING else 1
    now = threading.get_intra_op_parallelism_threads()
    if threads != now:
        with _in_time(f"{threads} threads (0: all) in place of {now}"):
            threading.set_intra_op_parallelism_threads(threads)
            threading.set_inter_op_parallelism_threads(threads)
    if threads:
        threadpool_limits(threads)  # NumPy's, which fits the projection
    there = tf.config.list_physical_devices("GPU")
    used = there[: settings.gpus]  # the others are left to whoever shares the machine
    with _in_time(f"{settings.gpus} of {len(there)} GPUs, memory growth {settings.enable_memory_growth}"):
        for device in used:
            tf.config.experimental.set_memory_growth(device, settings.enable_memory_growth)
        if there:
            tf.config.set_visible_devices(used, "GPU")
    _say_what_cannot_work(settings, len(there))

    tf.config.experimental.enable_op_determinism()
    keras.mixed_precision.set_global_policy("mixed_float16" if settings.mixed_precision else "float32")
    keras.utils.set_random_seed(settings.seed)
    visible = tf.config.get_visible_devices("GPU")
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "gpus": [device.name for device in visible],
        "gpu_allocator": os.environ.get("TF_GPU_ALLOCATOR"),
        "gpu_memory_growth": [tf.config.experimental.get_memory_growth(device) for device in visible],
        "intra_op_threads": threading.get_intra_op_parallelism_threads(),
        "inter_op_threads": threading.get_inter_op_parallelism_threads(),
        "precision": keras.mixed_precision.global_policy().name,
        "deterministic": True,
    }


@contextmanager
def without_chatter() -> Iterator[None]:
    """Import TensorFlow without what its libraries say of oneDNN, past Python and every log level; all else is said."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            heard.seek(0)
            for line in heard:
                if not any(words in line for words in _CHATTER):
                    os.write(2, line)


@contextmanager
def _in_time(what: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError:
        _log.warning("%s: the setting waits for a new process; in this one TensorFlow already runs", what)


def _say_what_cannot_work(settings: ModelTraining, there: int) -> None:
    if settings.gpus > max(there, 1):
        _log.warning("%d GPUs are asked for, %d found; training goes on with those", settings.gpus, there)
    if there:
        return
    idle = [name for name in ("TF_GPU_ALLOCATOR", "HYBRID_MODE") if getattr(settings, name)]
    if idle:
        _log.warning("TensorFlow finds no GPU: %s changes nothing", " and ".join(idle))
    if settings.mixed_precision:
        _log.warning(
            "TensorFlow finds no GPU: mixed_precision makes training slower, not faster; a processor has no float16 "
            "arithmetic"
        )
