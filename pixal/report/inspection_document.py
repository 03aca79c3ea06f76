"""The content of the page that ``pixal inspect`` writes."""

from __future__ import annotations

from dataclasses import dataclass

from numpy import float64
from numpy.typing import NDArray


@dataclass(frozen=True)
class Finding:
    """Something about the photographs that the user should know.

    Attributes:
        type: The image type.
        kind: A short name, for example ``blurred``.
        message: One sentence without the full stop.
        advice: What to do about it.
        photographs: The photographs that it is about, by their names in tables; empty if it is about all.
    """

    type: str
    kind: str
    message: str
    advice: str
    photographs: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = ", ".join(self.photographs[:_NAMED])
        if len(self.photographs) > _NAMED:
            names += f" and {len(self.photographs) - _NAMED} more"
        return f"{self.type}: {self.message}{': ' + names if names else ''}. {self.advice}"


@dataclass(frozen=True)
class Distribution:
    """One figure of all photographs of a type.

    Attributes:
        label: Name of the figure, with its unit.
        values: Its values, (N,).
        marked: Values of the photographs that are outliers in this figure.
        reference: Values of the photographs of the other folder; None without one.
    """

    label: str
    values: NDArray[float64]
    marked: NDArray[float64]
    reference: NDArray[float64] | None = None


@dataclass(frozen=True)
class InspectedTypeSummary:
    """The data of one type on the page.

    Attributes:
        name: The type.
        photographs: Number of files.
        unreadable: Number of files that cannot be read.
        sizes: Each size in pixels, as text, and how many photographs have it; the most frequent first.
        formats: The same for formats and bits, for example ``JPEG, 8 bits``.
        split: Number of photographs by the suggested use.
        typical: Name of the photograph whose figures deviate least; "" if none can be read.
        distributions: The figures.
    """

    name: str
    photographs: int
    unreadable: int
    sizes: dict[str, int]
    formats: dict[str, int]
    split: dict[str, int]
    typical: str = ""
    distributions: tuple[Distribution, ...] = ()


@dataclass(frozen=True)
class InspectionDocument:
    """The content of the page.

    Attributes:
        source: The folder of the photographs.
        against: The folder that it is compared with; None without one.
        created: When it was made (ISO 8601).
        pixal_version: The version of PIXAL.
        found: Number of photographs in the folder, of which ``--sample`` may have chosen some.
        findings: What was found, the most important first.
        types: The types.
        notes: What was not done.
    """

    source: str
    against: str | None
    created: str
    pixal_version: str
    found: int
    findings: tuple[Finding, ...]
    types: tuple[InspectedTypeSummary, ...]
    notes: tuple[str, ...] = ()

    @property
    def photographs(self) -> int:
        """Number of photographs that were inspected."""
        return sum(item.photographs for item in self.types)


_NAMED = 5  # photographs that a line of text names
