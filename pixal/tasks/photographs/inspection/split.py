"""Suggest which photographs to train on, and which to keep for a check of the trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pixal.report.inspection_document import Finding
from pixal.tasks.photographs.inspection.duplicates import Duplicates
from pixal.tasks.photographs.inspection.findings import TOO_GOOD
from pixal.tasks.photographs.inspection.photographs import InspectedType

TRAIN, CHECK, LEAVE_OUT = "train", "check", "leave out"
USES = (TRAIN, CHECK, LEAVE_OUT)

_CHECKED = 0.2  # fraction of the photographs that is kept for the check
_MIN_FOR_CHECK = 10  # good photographs; with fewer, all are needed for training
_SEED = 0
_NO_REASON = TOO_GOOD | {"duplicate", "in_both"}  # duplicates have a rule of their own


@dataclass(frozen=True)
class Use:
    """The suggested use of one photograph.

    Attributes:
        use: One of ``USES``.
        reason: Why it is left out; "" otherwise.
    """

    use: str
    reason: str = ""


def suggest_split(
    inspected: InspectedType, findings: Sequence[Finding], duplicates: Sequence[Duplicates]
) -> dict[str, Use]:
    """Suggest a use for each photograph of a type, by its name.

    Photographs with a problem, and all but the first of each group of duplicates, are left out. A fifth of the others,
    chosen at random with a fixed seed, is kept for the check: good parts that the model has not seen show the rate of
    false alarms. With fewer than ten photographs all are used for training.

    Args:
        inspected: The photographs.
        findings: What was found about them; reasons to leave photographs out.
        duplicates: Groups of the same photographs, by their positions among the readable ones.
    """
    reasons: dict[str, str] = {}
    for finding in findings:
        for name in finding.photographs if finding.kind not in _NO_REASON else ():
            reasons.setdefault(name, finding.kind)
    for group in duplicates:
        names = [inspected.readable[index].image for index in group.members]
        kept = next((name for name in names if name not in reasons), names[0])
        for name in names:
            if name != kept:
                reasons.setdefault(name, f"{group.kind} as {kept}")
    good = [photo.image for photo in inspected.readable if photo.image not in reasons]
    count = round(_CHECKED * len(good)) if len(good) >= _MIN_FOR_CHECK else 0
    checked = set(np.random.default_rng(_SEED).choice(good, count, replace=False).tolist()) if count else set()
    return {
        photo.image: Use(LEAVE_OUT, reasons[photo.image])
        if photo.image in reasons
        else Use(CHECK if photo.image in checked else TRAIN)
        for photo in inspected.photographs
    }
