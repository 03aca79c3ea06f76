"""Plan which defects are planted on which photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.defects import PlantedDefect, load_kind, sample_defects
from pixal.errors import InputError
from pixal.registry import DEFECTS

_LINE_REACH = 5.0  # sizes; a kind that extends further is a line, whose size is its width
_MOST_PER_PHOTOGRAPH = 24


@dataclass(frozen=True)
class Budget:
    """Which defects to plant, and how many.

    Attributes:
        kinds: The kinds of defects; empty for all that are known.
        sizes: Sizes in reference pixels; empty for the default sizes of each kind.
        line_sizes: The default sizes of lines (scratch, fibre): their widths, in reference pixels.
        patch_sizes: The default sizes of all other kinds, in reference pixels.
        contrasts: Contrasts, see ``PlantedDefect``. A kind that cannot be darker uses their absolute values.
        defects: Number of defects per kind, size and contrast.
        folds: Number of folds whose parts are used; None for all.
    """

    kinds: tuple[str, ...] = ()
    sizes: tuple[float, ...] = ()
    line_sizes: tuple[float, ...] = (1, 1.5, 2, 3, 4, 6)
    patch_sizes: tuple[float, ...] = (2, 3, 4, 6, 8, 12, 16, 24)
    contrasts: tuple[float, ...] = (-0.4, -0.2, -0.1, 0.1, 0.2, 0.4)
    defects: int = 20
    folds: int | None = None

    def __post_init__(self) -> None:
        for name in self.kinds:
            load_kind(name)
        numbers = [*self.sizes, *self.contrasts]
        if not np.isfinite(numbers).all() or min(self.sizes, default=1) <= 0:
            raise InputError(f"sizes {self.sizes} of planted defects: they must be above 0 and finite")
        if not self.contrasts or 0 in self.contrasts or min(self.contrasts) < -1:
            raise InputError(f"contrasts {self.contrasts} of planted defects: they must be at least -1, and not 0")
        if self.defects < 1:
            raise InputError(f"{self.defects} planted defects per kind, size and contrast: at least 1 is needed")

    def with_options(
        self,
        kinds: Sequence[str] | None = None,
        sizes: Sequence[float] | None = None,
        contrasts: Sequence[float] | None = None,
        defects: int | None = None,
    ) -> Budget:
        """The budget with the ``DefectOptions`` that a user gives; None for those that stay."""
        return replace(
            self,
            kinds=tuple(kinds or self.kinds),
            sizes=tuple(sizes or self.sizes),
            contrasts=tuple(contrasts or self.contrasts),
            defects=self.defects if defects is None else defects,
        )

    def all_kinds(self, *, is_grey: bool) -> list[str]:
        """The kinds to plant; on grey photographs without those that only change the colour."""
        known = self.kinds or tuple(DEFECTS.class_paths())
        return [name for name in known if not (is_grey and name == "colour")]

    def sizes_of(self, kind: str) -> tuple[float, ...]:
        """The sizes of a kind."""
        return self.sizes or (self.line_sizes if load_kind(kind).reach >= _LINE_REACH else self.patch_sizes)

    @property
    def levels(self) -> list[float]:
        """The distinct absolute contrasts, ascending."""
        return sorted({abs(contrast) for contrast in self.contrasts})

    def as_record(self) -> dict[str, Any]:
        """The values, for YAML and for fingerprints."""
        return asdict(self)


FULL = Budget()
SMALL = Budget(line_sizes=(1, 1.5, 2.5, 4), patch_sizes=(2, 4, 8, 16), contrasts=(-0.2, 0.2), folds=1)
"""The defects planted after training: at most half a minute of work for photographs of 1920 x 1080 pixels."""


@dataclass(frozen=True)
class PlannedPhotograph:
    """A photograph of a held-out good part, and the defects to plant on it.

    Attributes:
        number: Its number in the plan.
        part: The index of the part among the held-out parts.
        defects: The defects. They are so far apart that each has a neighbourhood of its own.
    """

    number: int
    part: int
    defects: tuple[PlantedDefect, ...]


@dataclass(frozen=True)
class Plan:
    """The defects planted on the photographs of one type.

    Attributes:
        photographs: The photographs. A part occurs several times if there are more defects than parts have room for,
            and once without defects: its own score shows how often good parts fail.
        left_out: Kinds and sizes that have no place on the part, with the reason.
    """

    photographs: tuple[PlannedPhotograph, ...]
    left_out: tuple[str, ...]


def plan_photographs(
    part: NDArray[np.bool_],
    image: NDArray[Any],
    budget: Budget,
    *,
    parts: int,
    gap: float,
    seed: int,
    most: int = _MOST_PER_PHOTOGRAPH,
) -> Plan:
    """Draw defects, and spread them over the photographs of held-out parts.

    Args:
        part: (H, W), the consensus mask, with the regions that are ignored.
        image: (H, W, 3), the reference photograph.
        budget: Which defects to plant.
        parts: Number of held-out parts.
        gap: Smallest distance between two defects on a photograph, in reference pixels.
        seed: Seed of all random numbers.
        most: Largest number of defects on a photograph.

    Raises:
        InputError: No defect has a place on the part.
    """
    defects, left_out = _draw_defects(part, image, budget, seed)
    if not defects:
        raise InputError(f"no defect can be planted on this part: {'; '.join(left_out)}")
    rng = np.random.default_rng([seed, len(defects)])
    defects = [defects[index] for index in rng.permutation(len(defects))]
    groups = _separate(defects, gap, most)
    order = rng.permutation(parts)
    planted = [
        PlannedPhotograph(number, int(order[number % parts]), tuple(defects[index] for index in group))
        for number, group in enumerate(groups)
    ]
    clean = [PlannedPhotograph(len(groups) + part, part, ()) for part in range(parts)]
    return Plan((*planted, *clean), tuple(left_out))


def _draw_defects(
    part: NDArray[np.bool_], image: NDArray[Any], budget: Budget, seed: int
) -> tuple[list[PlantedDefect], list[str]]:
    defects: list[PlantedDefect] = []
    left_out: list[str] = []
    is_grey = bool((image == image[..., :1]).all())
    for number, kind in enumerate(budget.all_kinds(is_grey=is_grey)):
        sizes = budget.sizes_of(kind)
        own_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])

        def draw(sizes: Sequence[float], kind: str = kind, own_seed: int = own_seed) -> list[PlantedDefect]:
            return sample_defects(
                part, [kind], sizes, budget.contrasts, places=budget.defects, seed=own_seed, image=image
            )

        try:
            defects += draw(sizes)
        except InputError:  # some of the sizes have no place
            for size in sizes:
                try:
                    defects += draw([size])
                except InputError as error:
                    left_out.append(str(error))
    return defects, left_out


def _separate(defects: Sequence[PlantedDefect], gap: float, most: int) -> list[list[int]]:
    """Put defects into groups so that within a group no two are closer than ``gap``; each into the first that fits."""
    places = np.array([defect.place for defect in defects])
    radii = np.array([load_kind(defect.kind).reach * defect.size for defect in defects])
    group_of = np.full(len(defects), -1)
    groups: list[list[int]] = []
    for index in range(len(defects)):
        distances = np.hypot(*(places[:index] - places[index]).T)
        is_close = distances < radii[:index] + radii[index] + gap
        taken = set(group_of[:index][is_close].tolist())
        free = (number for number, group in enumerate(groups) if number not in taken and len(group) < most)
        number = next(free, len(groups))
        if number == len(groups):
            groups.append([])
        groups[number].append(index)
        group_of[index] = number
    return groups
