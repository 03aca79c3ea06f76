"""The options that say which defects are planted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class DefectOptions(TypedDict, total=False):
    """Which defects are planted. What is missing or None has the default of the command.

    Attributes:
        kinds: Kinds of planted defects. Default: all.
        sizes: Their sizes in pixels of the reference: the width of lines, the diameter of others.
        contrasts: Their contrasts relative to the surface under them; negative: darker.
        defects: Number of defects per kind, size and contrast; 20 or more recommended. Default: 20.
    """

    kinds: Sequence[str] | None
    sizes: Sequence[float] | None
    contrasts: Sequence[float] | None
    defects: int | None
