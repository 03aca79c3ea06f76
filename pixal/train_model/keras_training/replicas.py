"""Train on several GPUs: each has a copy of the model and a share of every batch, and all take the same step."""

from __future__ import annotations

from functools import cache
from typing import Any

import tensorflow as tf

from pixal.errors import ConfigError


def distribution_strategy(gpus: int, kind: str = "GPU") -> Any:
    """The ``tf.distribute`` strategy for this number of devices; build the model in its ``scope()``.

    ``keras.distribution`` is not used: in Keras 3 it is for JAX, and its TensorFlow part warns against its own use.

    Raises:
        ConfigError: This process has trained on another set of several devices; TensorFlow would abort.
    """
    devices = tuple(device.name for device in tf.config.list_logical_devices(kind)[:gpus])
    return _mirrored(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def replica_share(x: Any, y: Any) -> tuple[Any, Any, Any]:
    """The rows of a batch for this replica, and their sample weights; for a single replica all rows and None.

    Call it in a training step, because ``train_on_batch`` gives the whole batch to every replica. All replicas get the
    same number of rows. Missing rows are filled with other rows of weight 0. With these weights the mean over the
    replicas is the mean over the batch.
    """
    context = tf.distribute.get_replica_context()
    count = context.num_replicas_in_sync
    if count == 1:
        return x, y, None
    total = tf.shape(y)[0]
    rows_per_replica = -(-total // count)
    rows = context.replica_id_in_sync_group * rows_per_replica + tf.range(rows_per_replica)
    weights = tf.where(rows < total, tf.cast(rows_per_replica * count / total, tf.float32), 0.0)
    x, y = tf.nest.map_structure(lambda values: tf.gather(values, rows % total), (x, y))
    return x, y, weights


def sum_over_replicas(value: Any) -> Any:
    """The sum of a scalar over all replicas."""
    context = tf.distribute.get_replica_context()
    return value if context.num_replicas_in_sync == 1 else context.all_reduce("SUM", value)


def nan_if_not_finite_anywhere(gradients: list[Any]) -> list[Any]:
    """The gradients; all NaN if those of any replica are not finite.

    With float16 the optimizer skips a step that overflowed, and lowers its loss scale. It looks at one replica only,
    so every replica must see the overflow.
    """
    if tf.distribute.get_replica_context().num_replicas_in_sync == 1:
        return gradients
    zero_or_nan = sum_over_replicas(tf.add_n([tf.reduce_sum(gradient * 0.0) for gradient in gradients]))
    return [gradient + zero_or_nan for gradient in gradients]


@cache
def _mirrored(devices: tuple[str, ...]) -> Any:
    if _mirrored.cache_info().currsize:
        raise ConfigError(
            f"model_training.gpus: training on {len(devices)} GPUs needs a new process; "
            "this one has trained on another number of GPUs"
        )
    return tf.distribute.MirroredStrategy(devices)
