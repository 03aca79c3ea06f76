"""Records of photographs, and photographs prepared for the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pixal.io.files import FileStat
from pixal.io.written_files import WrittenFiles
from pixal.tasks.photographs.alignment.align import AlignmentResult

AnyImageRecord = TypeVar("AnyImageRecord", bound="ImageRecord")


class ImageRecord(BaseModel):
    """A photograph in a record: which one it is, and whether it could be processed.

    Attributes:
        image: The photograph's file name, as in every table.
        source: Its path.
        status: "ok", or "failed" with a ``reason``.
        reason: Why it failed, or "".
        sha256: The SHA-256 of its file; None if it could not be read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    source: str
    status: Literal["ok", "failed"]
    reason: str = ""
    sha256: str | None = None

    @property
    def is_ok(self) -> bool:
        """Whether the photograph could be processed."""
        return self.status == "ok"

    def replace(self: AnyImageRecord, **values: Any) -> AnyImageRecord:
        """A copy with other values, which are validated."""
        return self.model_validate(self.model_dump() | values)

    def as_row(self) -> dict[str, Any]:
        """The known values, for YAML, JSON and CSV."""
        return self.model_dump(exclude_none=True)


class PoseRecord(BaseModel):
    """The alignment of a photograph: quality, and pose; None if no pose was found.

    Attributes:
        inliers: Number of matches that agree with the homography.
        inlier_ratio: The share of all matches that are inliers.
        ssim: Mean structural similarity to the reference over the part.
        mse: Mean squared difference from the reference over the part, in squared 8-bit grey levels.
        h00: Row 0, column 0 of the homography from the photograph's pixels (x, y) to the reference frame.
        h01: Row 0, column 1 of the homography.
        h02: Row 0, column 2 of the homography.
        h10: Row 1, column 0 of the homography.
        h11: Row 1, column 1 of the homography.
        h12: Row 1, column 2 of the homography.
        h20: Row 2, column 0 of the homography.
        h21: Row 2, column 1 of the homography.
        h22: Row 2, column 2 of the homography; 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inliers: int | None = None
    inlier_ratio: float | None = None
    ssim: float | None = None
    mse: float | None = None
    h00: float | None = None
    h01: float | None = None
    h02: float | None = None
    h10: float | None = None
    h11: float | None = None
    h12: float | None = None
    h20: float | None = None
    h21: float | None = None
    h22: float | None = None

    @property
    def has_pose(self) -> bool:
        """Whether a pose was found, also one that was not accepted."""
        return self.h00 is not None

    @property
    def homography(self) -> NDArray[np.float64]:
        """The 3x3 homography from the photograph's pixels (x, y) to the reference frame."""
        rows = ((self.h00, self.h01, self.h02), (self.h10, self.h11, self.h12), (self.h20, self.h21, self.h22))
        return np.array(rows, np.float64)


class AlignedImageRecord(PoseRecord, ImageRecord):
    """A photograph in a record, and how it was aligned."""


class PhotographRecord(AlignedImageRecord):
    """The result of preparing one photograph, as ``preprocessing.yaml`` and the journal of verdicts store it.

    A value is None if preparation failed before it was known.

    Attributes:
        name: The stem of its output files.
        stat: What changes when its file is written.
        width: Its width in pixels.
        height: Its height in pixels.
        red: Mean of the red channel over the part, in [0, 1].
        green: Mean of the green channel over the part, in [0, 1].
        blue: Mean of the blue channel over the part, in [0, 1].
        sharpness: Standard deviation of the Laplacian divided by that of the grey levels.
        notes: Facts that a reader of the results should know, for example another part on the plate.
        figures: The figures of its alignment.
        input_sha256: The SHA-256 of the values of its input, as they are stored.
    """

    name: str
    stat: FileStat | None = None
    width: int | None = None
    height: int | None = None
    red: float | None = None
    green: float | None = None
    blue: float | None = None
    sharpness: float | None = None
    notes: tuple[str, ...] = ()
    figures: WrittenFiles = {}
    input_sha256: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photograph in pixels; (0, 0) if it could not be read."""
        return self.height or 0, self.width or 0

    def as_row(self) -> dict[str, Any]:
        """The known values, for YAML, JSON and CSV; a failed photograph has no notes."""
        return self.model_dump(exclude_none=True, exclude=None if self.is_ok else {"notes"})


@dataclass(frozen=True)
class PreparedPart:
    """A photograph prepared for the model.

    Attributes:
        record: Its record; ``record.is_ok`` tells whether there is an ``input``.
        input: The model's input, (H, W, C) float32; None if the photograph could not be prepared.
        photo: The photograph as (H, W, 3) uint8 RGB, for figures; None if it could not be read, or was not asked
            for.
        is_readable: False if the file could not be read or decoded, for example because it is still being written.
    """

    record: PhotographRecord
    input: NDArray[np.float32] | None = None
    photo: NDArray[np.uint8] | None = None
    is_readable: bool = True


def pose_values(alignment: AlignmentResult) -> dict[str, float | None]:
    """The values of a ``PoseRecord`` that an alignment gives."""
    return {
        "inliers": alignment.inliers,
        "inlier_ratio": alignment.inlier_ratio,
        "ssim": None if np.isnan(alignment.ssim) else alignment.ssim,
        "mse": None if np.isnan(alignment.mse) else alignment.mse,
        **{f"h{i}{j}": float(alignment.homography[i, j]) for i in range(3) for j in range(3)},
    }
