"""Apply the hardware settings of ``model_training``: all of them before TensorFlow starts its devices."""

from __future__ import annotations

import logging
import os
from typing import Any

from pixal.config.schema import ModelTraining

_log = logging.getLogger(__name__)


def set_up_tensorflow(settings: ModelTraining) -> dict[str, Any]:
    """Apply allocator, memory growth, threads, precision, determinism; return what is in force, for the record."""
    if settings.TF_GPU_ALLOCATOR:
        os.environ["TF_GPU_ALLOCATOR"] = settings.TF_GPU_ALLOCATOR
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = str(settings.enable_memory_growth).lower()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    import keras
    import tensorflow as tf

    threads = (settings.Available_CPU or 0) if settings.CPU_MULTI_THREADING else 1
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, settings.enable_memory_growth)
    except RuntimeError:
        now = tf.config.threading.get_intra_op_parallelism_threads()
        if now != threads:
            _log.warning(
                "TensorFlow already runs with %d threads in this process (0: all); the setting %d waits for a new one",
                now,
                threads,
            )
    tf.config.experimental.enable_op_determinism()
    keras.mixed_precision.set_global_policy("mixed_float16" if settings.mixed_precision else "float32")
    keras.utils.set_random_seed(settings.seed)
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
        "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "precision": keras.mixed_precision.global_policy().name,
        "deterministic": True,
    }
