"""A random sample of parts, and the figure of their reconstructions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.io.images import write_figure


@dataclass(frozen=True)
class _SampledPart:
    """A part in the sample.

    Attributes:
        position: The position in the order of all parts.
        name: The file name of its photograph.
        image: The input, (H, W, C).
        error: The input minus its reconstruction, (H, W, C).
    """

    position: int
    name: str
    image: NDArray[np.float32]
    error: NDArray[np.float32]


class PartSample:
    """A random sample of parts that arrive one after the other; only the sample is kept in memory."""

    def __init__(self, total: int, size: int, seed: int) -> None:
        """Prepare an empty sample.

        Args:
            total: The number of parts; fewer may arrive.
            size: The largest number of parts in the sample.
            seed: The seed of the random choice.
        """
        # Each part gets a random rank; the parts with the lowest ranks are kept.
        self._ranks = iter(np.random.default_rng(seed).permutation(total).tolist())
        self._size = size
        self._parts: dict[int, _SampledPart] = {}
        self._count = 0

    def add(self, name: str, image: NDArray[np.float32], error: NDArray[np.float32]) -> None:
        """Consider a part for the sample.

        Args:
            name: The file name of its photograph.
            image: The input, (H, W, C).
            error: The input minus its reconstruction, (H, W, C).
        """
        self._parts[next(self._ranks)] = _SampledPart(self._count, name, image, error)
        self._count += 1
        if len(self._parts) > self._size:
            del self._parts[max(self._parts)]

    @property
    def names(self) -> list[str]:
        """The names of the parts in the sample, in the order in which they arrived."""
        return [part.name for part in self._sorted()]

    def draw(self, path: Path, mask: NDArray[np.bool_], title: str) -> None:
        """Write the figure of inputs, reconstructions and errors; errors outside ``mask`` (H, W) are left out."""
        from pixal.plotting.training import reconstruction_strip

        images = np.stack([part.image for part in self._sorted()])
        errors = np.where(mask[..., None], np.stack([part.error for part in self._sorted()]), 0)
        rms = np.where(mask, np.sqrt(np.mean(errors**2, axis=-1)), np.nan)
        figure = reconstruction_strip(
            images[..., 0],
            (images - errors)[..., 0],
            rms,
            self.names,
            title=title,
            error_name="error (RMS over channels)",
        )
        write_figure(path, figure)

    def _sorted(self) -> list[_SampledPart]:
        return sorted(self._parts.values(), key=lambda part: part.position)
