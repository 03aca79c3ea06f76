"""Compare the photographs of two folders: light, contrast, noise and sharpness, and photographs that are in both."""

from __future__ import annotations

from collections.abc import Mapping

from pixal.report.inspection_document import Finding
from pixal.report.page import format_p_value
from pixal.tasks.photographs.inspection.duplicates import NEAR
from pixal.tasks.photographs.inspection.findings import duplicate_groups, numbered
from pixal.tasks.photographs.inspection.photographs import InspectedType, joined
from pixal.tasks.photographs.verdicts.drift import Counts, Difference, find_differences

_WORDS = {  # quantity: kind, what is smaller, what is larger, advice
    "brightness": ("light", "darker", "brighter", "Set lamp and exposure alike"),
    "warmth": ("colour", "more blue", "more red", "Set the white balance and the lamp's colour alike"),
    "tint": ("colour", "less green", "greener", "Set the white balance and the lamp's colour alike"),
    "sharpness": ("focus", "softer", "sharper", "Focus again and clean the lens, because blur hides small defects"),
    "noise": ("noise", "less noisy", "noisier", "Set gain (ISO) and exposure alike"),
    "spread": ("contrast", "of lower contrast", "of higher contrast", "Set lamp and exposure alike"),
}
_CAUSES = {"spread": ("brightness",), "noise": ("brightness",)}
_ELSE = "or train on photographs of both"


def matching_types(types: Mapping[str, InspectedType], others: Mapping[str, InspectedType]) -> dict[str, str]:
    """Return for each type the type of the other folder to compare with: that of the same name.

    Where both folders have one type only, these are compared, whatever their names are.
    """
    if len(types) == len(others) == 1:
        return dict(zip(types, others, strict=True))
    return {name: name for name in types if name in others}


def compare_folders(
    pairs: Mapping[str, tuple[InspectedType, InspectedType]], other: str, level: float
) -> list[Finding]:
    """Return in what the photographs differ from those of the other folder.

    Args:
        pairs: The photographs of both folders, by type.
        other: Name of the other folder, for the messages.
        level: The probability of any finding, over all types and quantities, for photographs that were taken alike
            (see ``drift.find_drift``).
    """
    values = {name: (theirs.values(), ours.values()) for name, (ours, theirs) in pairs.items()}
    counts = {name: (_counts(theirs), _counts(ours)) for name, (ours, theirs) in pairs.items()}
    differences = find_differences(values, counts, level)
    found = {(difference.type, difference.quantity) for difference in differences}
    findings = [
        _difference_finding(difference, other)
        for difference in differences
        if not any((difference.type, cause) in found for cause in _CAUSES.get(difference.quantity, ()))
    ]
    for name, (ours, theirs) in pairs.items():
        findings += _in_both(name, ours, theirs, other)
    return findings


def _counts(inspected: InspectedType) -> Counts:
    return Counts(len(inspected.photographs), len(inspected.readable))


def _difference_finding(difference: Difference, other: str) -> Finding:
    theirs, ours = difference.training, difference.batch
    if difference.quantity == "unprocessed":
        message = f"{ours:.0%} of the files cannot be read; in {other} {theirs:.0%}"
        return Finding(difference.type, "differs_unreadable", message, "Copy them from the camera again.")
    kind, less, more, advice = _WORDS[difference.quantity]
    change = abs(ours / theirs - 1)
    words = f"the photographs are {more if ours > theirs else less} than in {other}, by {change:.0%}"
    return Finding(
        difference.type, f"differs_{kind}", f"{words} (p {format_p_value(difference.p_value)})", f"{advice}, {_ELSE}."
    )


def _in_both(name: str, ours: InspectedType, theirs: InspectedType, other: str) -> list[Finding]:
    """Photographs that are in both folders."""
    both = joined(ours, theirs)
    photographs, groups = both.readable, duplicate_groups(both)
    count = len(ours.readable)
    shared = [group for group in groups if group.members[0] < count <= group.members[-1]]
    names = tuple(photographs[index].image for group in shared for index in group.members if index < count)
    if not names:
        return []
    nearly = "nearly " if all(group.kind == NEAR for group in shared) else ""
    message = f"{numbered(len(names))} {'is' if len(names) == 1 else 'are'} {nearly}the same as in {other}"
    advice = "Parts that a model was trained on cannot test it: remove them from one folder."
    return [Finding(name, "in_both", message, advice, names)]
