"""Leave a type out if most of its photographs were refused: a model of the others would not know the good parts."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence

from pixal.outcome import Failure, ItemRecord, Outcome
from pixal.tasks.photographs.preprocessing.records import BackgroundRecord

_log = logging.getLogger(__name__)


def is_refused(records: Sequence[ItemRecord]) -> bool:
    """Whether a type is left out: more than half of its photographs were refused."""
    return 2 * sum(not record.is_ok for record in records) > len(records)


def decoded(records: Sequence[BackgroundRecord]) -> list[BackgroundRecord]:
    """The records of the photographs that were decoded: a file that is no photograph says nothing about the others."""
    return [record for record in records if record.size is not None]


def leave_out_if_refused(type_name: str, step: str, records: Sequence[ItemRecord], advice: str) -> Outcome | None:
    """Return the outcome of a type that is left out, and log why; None if at least half of its photographs are fine.

    Args:
        type_name: The type.
        step: The step, such as "alignment".
        records: One record per photograph.
        advice: What the user can do.
    """
    if not is_refused(records):
        return None
    refused = [record for record in records if not record.is_ok]
    if len(refused) == len(records):  # each of them is reported, and nothing was made of the type
        return Outcome.from_records(type_name, step, records)
    kinds = [re.sub(r"[\d.]+", "", record.reason) for record in refused]  # reasons differ in their numbers
    kind, count = Counter(kinds).most_common(1)[0]
    example = refused[kinds.index(kind)]
    _log.error(
        "%s: %d of %d photographs were refused (%s), and the type is left out. The most frequent reason (%d times), "
        "here of %s: %s. %s",
        *(type_name, len(refused), len(records), step, count, example.image, example.reason, advice),
    )
    rest = f"its type is left out, because most photographs were refused ({step})"
    failures = [Failure(type_name, record.image, step, record.reason or rest) for record in records]
    return Outcome(0, failures)
