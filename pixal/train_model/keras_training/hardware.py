"""Apply the hardware settings of ``model_training`` before TensorFlow starts its devices."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

from pixal.config.schema import ModelTraining
from pixal.train_model.quiet_import import without_tensorflow_messages

_log = logging.getLogger(__name__)


def set_up_tensorflow(settings: ModelTraining) -> dict[str, Any]:
    """Set allocator, memory growth, threads, precision and determinism.

    A warning names each setting that comes too late, because TensorFlow already runs in this process, or that has no
    effect on this machine.

    Returns:
        The settings in effect, as JSON values for the model's record.
    """
    if settings.TF_GPU_ALLOCATOR:
        os.environ["TF_GPU_ALLOCATOR"] = settings.TF_GPU_ALLOCATOR
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = str(settings.enable_memory_growth).lower()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    with without_tensorflow_messages():
        import keras
        import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)  # each new model is traced: not worth a warning
    threading = tf.config.threading
    threads = (settings.Available_CPU or 0) if settings.CPU_MULTI_THREADING else 1
    current = threading.get_intra_op_parallelism_threads()
    if threads != current:
        with _before_start(f"{threads} threads (0: all) instead of {current}"):
            threading.set_intra_op_parallelism_threads(threads)
            threading.set_inter_op_parallelism_threads(threads)
    if threads:
        threadpool_limits(threads)  # the threads of NumPy, which fits the projection
    devices = tf.config.list_physical_devices("GPU")
    used = devices[: settings.gpus]  # other users of the machine keep the rest
    with _before_start(f"{settings.gpus} of {len(devices)} GPUs, memory growth {settings.enable_memory_growth}"):
        for device in used:
            tf.config.experimental.set_memory_growth(device, settings.enable_memory_growth)
        if devices:
            tf.config.set_visible_devices(used, "GPU")
    _warn_of_ineffective(settings, len(devices))

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
def _before_start(setting: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError:
        _log.warning("%s: the setting needs a new process, because TensorFlow already runs in this one", setting)


def _warn_of_ineffective(settings: ModelTraining, gpus: int) -> None:
    if settings.gpus > max(gpus, 1):
        _log.warning("%d GPUs are requested, %d found; training uses the GPUs found", settings.gpus, gpus)
    if gpus:
        return
    ineffective = [name for name in ("TF_GPU_ALLOCATOR", "HYBRID_MODE") if getattr(settings, name)]
    if ineffective:
        _log.warning("TensorFlow finds no GPU: %s has no effect", " and ".join(ineffective))
    if settings.mixed_precision:
        _log.warning(
            "TensorFlow finds no GPU: mixed_precision makes training slower, because a CPU has no float16 arithmetic"
        )
