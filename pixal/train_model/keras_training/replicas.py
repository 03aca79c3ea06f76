"""Several GPUs: each has a copy of the model and takes its share of every batch, and all take the same step."""

from __future__ import annotations

from functools import cache
from typing import Any

import tensorflow as tf

from pixal.errors import ConfigError


def strategy(gpus: int, kind: str = "GPU") -> Any:
    """The ``tf.distribute`` strategy under whose ``scope()`` a model for so many devices of a ``kind`` is built.

    Not ``keras.distribution``: in Keras 3 that is for JAX, and its TensorFlow part says of itself not to use it.

    Raises ConfigError in a process that has trained on other devices together: TensorFlow aborts there.
    """
    devices = tuple(device.name for device in tf.config.list_logical_devices(kind)[:gpus])
    return _mirrored(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def own_share(x: Any, y: Any) -> tuple[Any, Any, Any]:
    """The rows of a batch that this replica trains on, and their sample weights; for a single one, all and None.

    Called in a training step: ``train_on_batch`` hands the whole batch to every replica. All get as many rows; what one
    lacks are others' rows with weight 0, and the weights make the mean over replicas that over the batch.
    """
    context = tf.distribute.get_replica_context()
    count = context.num_replicas_in_sync
    if count == 1:
        return x, y, None
    total = tf.shape(y)[0]
    each = -(-total // count)
    rows = context.replica_id_in_sync_group * each + tf.range(each)
    weights = tf.where(rows < total, tf.cast(each * count / total, tf.float32), 0.0)
    x, y = tf.nest.map_structure(lambda values: tf.gather(values, rows % total), (x, y))
    return x, y, weights


def summed(value: Any) -> Any:
    """The sum of a scalar over all replicas; for a single one, itself."""
    context = tf.distribute.get_replica_context()
    return value if context.num_replicas_in_sync == 1 else context.all_reduce("SUM", value)


def finite_everywhere(gradients: list[Any]) -> list[Any]:
    """The gradients, or NaN in all of them where another replica's are not finite.

    With float16 the optimizer skips the step that overflowed, and lowers its scale; it looks at one replica alone,
    which has not yet heard of the others.
    """
    if tf.distribute.get_replica_context().num_replicas_in_sync == 1:
        return gradients
    doubt = summed(tf.add_n([tf.reduce_sum(gradient * 0.0) for gradient in gradients]))  # 0, or NaN
    return [gradient + doubt for gradient in gradients]


@cache
def _mirrored(devices: tuple[str, ...]) -> Any:
    if _mirrored.cache_info().currsize:
        raise ConfigError(
            f"model_training.gpus: training on {len(devices)} GPUs needs a new process; "
            "this one has trained on another number of them"
        )
    return tf.distribute.MirroredStrategy(devices)
