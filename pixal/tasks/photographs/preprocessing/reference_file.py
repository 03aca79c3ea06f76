"""``reference.npz``: the reference of a type, and what its aligned photographs have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.arrays import load_arrays, save_arrays
from pixal.tasks.photographs.alignment.align import Reference


@dataclass(frozen=True)
class ReferenceFile:
    """The content of ``reference.npz``.

    Attributes:
        reference: The photograph that defines the reference frame.
        fraction: Fraction of the voting masks that contain each pixel, (H, W).
        brightness: Mean of the aligned photographs, (H, W), 8-bit grey levels.
    """

    reference: Reference
    fraction: NDArray[np.float32]
    brightness: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write the file."""
        save_arrays(
            path,
            **self.reference.as_arrays(),
            share=self.fraction,
            brightness=self.brightness,
        )

    @classmethod
    def load(cls, path: Path) -> ReferenceFile:
        """Read the file. Raise ``InputError`` if it is missing or damaged."""
        try:
            file = load_arrays(path)
            return cls(Reference.from_arrays(file), file["share"], file["brightness"])
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise InputError(f"{path} is missing or damaged; run align again") from error
