"""What there is to learn for a model: accepted parts that it does not know, and a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import BaseModel, ConfigDict

from pixal.config.paths import Paths
from pixal.errors import InputError
from pixal.io.records import read_record
from pixal.tasks.photographs.learning.accepted import AcceptedParts
from pixal.tasks.photographs.learning.expected_missed import TRIAL_RECORD
from pixal.train_model.specification import ModelRecord
from pixal.train_model.stored_model import MODEL_RECORD

CANDIDATE = "candidate"
"""Name of the folder of candidates."""


class LearningStatus(BaseModel):
    """What there is to learn for a model.

    Attributes:
        good_parts: Number of accepted training photographs.
        known_defects: Number of known defects.
        new: Number of accepted training photographs that the model in use was not trained on.
        candidate: When the candidate was trained, ISO 8601; None if there is none.
        recommendation: What the comparison recommends; None if there is no candidate, or it was not compared.
    """

    model_config = ConfigDict(frozen=True)

    good_parts: int
    known_defects: int
    new: int
    candidate: str | None = None
    recommendation: str | None = None

    @property
    def lines(self) -> list[str]:
        """The state as text; empty if there is nothing to learn."""
        lines = []
        if self.good_parts or self.known_defects:
            new = f" ({self.new} of them new to the model)" if self.new else ""
            lines.append(f"marks   accepted: {self.good_parts} good parts{new}, {self.known_defects} known defects")
        if self.candidate is not None:
            text = self.recommendation or "not compared yet"
            lines.append(f"candidate trained {self.candidate[:16].replace('T', ' ')}: {text}")
        return lines

    def command(self, label: str) -> tuple[str, str] | None:
        """What to run next, and why; None if there is nothing to do."""
        if self.candidate is not None and self.recommendation is None:
            return f"pixal promote {label} --check", f"{label} has a candidate that was not compared yet"
        if self.candidate is None and self.new:
            return "pixal train --candidate", f"{label} has {self.new} accepted parts that its model does not know"
        return None


def learning_status(
    paths: Paths, owner: str | None, types: Sequence[str], record: ModelRecord | None
) -> LearningStatus:
    """Read what there is to learn for a model.

    Args:
        paths: The folders of the component.
        owner: The type that the model is for; None: one model serves all types.
        types: The types that it serves.
        record: Its record; None if it cannot be used.
    """
    accepted = [AcceptedParts.read(paths, name) for name in types]
    good, known = (sum(len(parts.of(kind)) for parts in accepted) for kind in ("good_parts", "known_defects"))
    used: dict[str, Any] = {} if record is None else (record.model_extra or {}).get("accepted", {})
    learned = sum((sets.get("good_parts") or {}).get("parts", 0) for sets in used.values())
    candidate, recommendation = None, None
    metadata = paths.for_learning(CANDIDATE).resolve("metadata_path", owner)
    with suppress(InputError, KeyError, TypeError):
        content = read_record(metadata / MODEL_RECORD)
        candidate = str(content["created"])
        trial = read_record(metadata / TRIAL_RECORD)
        if trial["models"]["candidate"]["record_sha256"] == content.get("record_sha256"):
            recommendation = str(trial["recommendation"]["sentence"])
    return LearningStatus(
        good_parts=good,
        known_defects=known,
        new=max(0, good - learned),
        candidate=candidate,
        recommendation=recommendation,
    )
