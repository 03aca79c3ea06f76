"""What ``accept`` did, as the user reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from pixal.outcome import Failure
from pixal.tasks.photographs.learning.accepted import AcceptedPart, AcceptedParts, Kind


@dataclass
class Acceptance:
    """What ``accept`` did.

    Attributes:
        added: The parts that were added, by type.
        removed: The parts that were removed, by type.
        totals: The accepted parts of each type afterwards.
        failures: The marked photographs that could not be taken over.
        component: Name of the component.
    """

    component: str
    added: dict[str, list[AcceptedPart]] = field(default_factory=dict)
    removed: dict[str, list[AcceptedPart]] = field(default_factory=dict)
    totals: dict[str, AcceptedParts] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """See ``Results``; there are no verdicts."""
        return 0

    @property
    def all_failed(self) -> bool:
        """Whether no marked photograph could be taken over."""
        return bool(self.failures) and not any(self.totals[name].record.parts for name in self.totals)

    def summary(self) -> str:
        """What changed, and what there is now, one line per type."""
        lines = []
        for name, accepted in self.totals.items():
            good, known = len(accepted.of("good_parts")), len(accepted.of("known_defects"))
            changes = [
                f"{sign}{count} {label}"
                for label, kind in (("training photographs", "good_parts"), ("known defects", "known_defects"))
                for sign, parts in (("+", self.added.get(name, [])), ("-", self.removed.get(name, [])))
                if (count := sum(part.kind == kind for part in parts))
            ]
            lines.append(
                f"{name}: {', '.join(changes) or 'nothing new'}; now {good} accepted training photographs"
                f"{_version_text(accepted, 'good_parts')} and {known} known defects"
                f"{_version_text(accepted, 'known_defects')}"
            )
        if any(self.added.values()):
            lines.append("next: pixal train --candidate; to take this back: pixal accept --undo")
        return "\n".join(lines) or "there are no marks; mark verdicts in pixal serve or in report.html first"


def _version_text(accepted: AcceptedParts, kind: Kind) -> str:
    version = accepted.version(kind)
    return "" if version is None else f" (version {version.version})"
