"""Turn the figures of the photographs into findings: sentences that say what to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pixal.report.inspection_document import Finding
from pixal.tasks.photographs.inspection.duplicates import NEAR, Duplicates, find_duplicates
from pixal.tasks.photographs.inspection.outliers import Z_LIMIT, Values, robust_scores, unusual_together
from pixal.tasks.photographs.inspection.photographs import InspectedPhotograph, InspectedType

FEW_PHOTOGRAPHS = 8
"""Number of good photographs per type from which on training is recommended."""

UNREADABLE = "unreadable"
"""Kind of the findings about files that cannot be used."""

BRIGHTEST, DARKEST = 0.92, 0.06  # mean levels beyond which a photograph shows little, whatever the others are
_MUCH_CLIPPED = 0.25  # fraction of saturated pixels that is mentioned where most photographs have it
_GROUPS_NAMED = 5  # groups of the same photographs that are findings of their own
_COPIES = "copies make the training set look larger than it is."
_KEEP_ONE = (f"Keep one: {_COPIES}", f"Keep one, unless they show different parts: {_COPIES}")
_TAKE_AGAIN = "Take {them} again, or leave {them} out of the training."
_LOOK = "Look at {them}; leave {them} out of the training if the part or the set-up differs."


@dataclass(frozen=True)
class _Deviation:
    """The meaning of an outlier in a figure of the photographs.

    Attributes:
        figure: The figure.
        sign: 1 where the figure is larger, -1 where it is smaller.
        kind: Kind of the finding.
        words: What follows "the photograph is" or "3 photographs are".
        advice: What to do.
        causes: Kinds that explain it: a photograph that has one of these is not named again.
    """

    figure: str
    sign: int
    kind: str
    words: str
    advice: str
    causes: tuple[str, ...] = ()


_WHITE = f"Check the white balance. {_LOOK}"
_LIGHT = ("dark", "bright", "overexposed")
_DEVIATIONS = (
    _Deviation("brightness", -1, "dark", "darker than the others", f"Check lamp and exposure. {_TAKE_AGAIN}"),
    _Deviation(
        *("clipped_bright", 1, "overexposed", "overexposed (more saturated pixels than the others)"),
        f"Expose shorter. {_TAKE_AGAIN}",
    ),
    _Deviation(
        *("brightness", 1, "bright", "brighter than the others"),
        *(f"Check lamp and exposure. {_TAKE_AGAIN}", ("overexposed",)),
    ),
    _Deviation(
        *("sharpness", -1, "blurred", "out of focus (softer than the others)"),
        *(f"Focus again. {_TAKE_AGAIN}", ("bright", "overexposed")),
    ),
    _Deviation(
        *("clipped_dark", 1, "underexposed", "underexposed (more black pixels than the others)"),
        *(f"Expose longer. {_TAKE_AGAIN}", _LIGHT),
    ),
    _Deviation("warmth", 1, "warm", "more red than the others", _WHITE, _LIGHT),
    _Deviation("warmth", -1, "cool", "more blue than the others", _WHITE, _LIGHT),
    _Deviation("tint", 1, "green", "greener than the others", _WHITE, _LIGHT),
    _Deviation("tint", -1, "magenta", "less green than the others", _WHITE, _LIGHT),
    _Deviation(
        *("noise", 1, "noisy", "noisier than the others"),
        *(f"Check gain (ISO) and light. {_TAKE_AGAIN}", _LIGHT),
    ),
    _Deviation("spread", -1, "low_contrast", "of lower contrast than the others", _LOOK, ("blurred", *_LIGHT)),
    _Deviation("sharpness", 1, "sharp", "sharper than the others", f"Are the others out of focus? {_LOOK}", ("noisy",)),
    _Deviation("spread", 1, "high_contrast", "of higher contrast than the others", _LOOK, _LIGHT),
    _Deviation(
        *("noise", -1, "smooth", "smoother than the others (less noise)"),
        *(f"Another camera, or a program that has processed {{them}}? {_LOOK}", ("blurred", *_LIGHT)),
    ),
)
TOO_GOOD = frozenset({"sharp", "high_contrast", "smooth"})
"""Kinds that are worth a look and no reason to leave a photograph out."""


def find_problems(inspected: InspectedType, duplicates: Sequence[Duplicates]) -> list[Finding]:
    """The findings on the photographs of one type, the most important first.

    Args:
        inspected: The photographs.
        duplicates: Groups of the same photographs; see ``duplicate_groups``.
    """
    values, photographs = inspected.values(), inspected.readable
    findings = [*_unreadable(inspected), *_other_sizes(inspected)]
    named = _deviations(values, photographs)
    findings += [
        _finding(inspected.name, deviation.kind, deviation.words, deviation.advice, named[deviation.kind])
        for deviation in _DEVIATIONS
        if named[deviation.kind]
    ]
    known = {name for names in named.values() for name in names}
    together = [
        photo.image
        for photo, unusual in zip(photographs, unusual_together(values), strict=True)
        if unusual and photo.image not in known
    ]
    if together:
        words = "unusual in the combination of light, contrast, noise and sharpness"
        findings.append(_finding(inspected.name, "unusual", words, _LOOK, together))
    return [*findings, *_duplicates(inspected, duplicates), *_of_all(inspected)]


def duplicate_groups(inspected: InspectedType) -> list[Duplicates]:
    """The groups of photographs of one type that are the same, by their positions among the readable ones."""
    photographs = inspected.readable
    return find_duplicates(
        [photo.file_hash for photo in photographs],
        [photo.pixel_hash for photo in photographs],
        inspected.bits,
        inspected.structures,
    )


def numbered(count: int) -> str:
    """Return for example ``one photograph``, ``two photographs`` or ``13 photographs``."""
    words = ("no photograph", "one photograph", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    if count < 2:
        return words[count]
    return f"{words[count] if count < len(words) else count} photographs"


def _finding(type_name: str, kind: str, words: str, advice: str, names: Sequence[str]) -> Finding:
    verb, pronoun = ("is", "it") if len(names) == 1 else ("are", "them")
    message = f"{numbered(len(names))} {verb} {words}"
    return Finding(type_name, kind, message, advice.format(them=pronoun), tuple(names))


def _deviations(values: dict[str, Values], photographs: Sequence[InspectedPhotograph]) -> dict[str, list[str]]:
    """The names of the photographs that deviate, by kind."""
    scores = robust_scores(values)
    named: dict[str, list[str]] = defaultdict(list)
    for index, photo in enumerate(photographs):
        kinds: set[str] = set()
        if values["brightness"][index] < DARKEST:
            kinds.add("dark")
        elif values["brightness"][index] > BRIGHTEST:
            kinds.add("bright")
        for deviation in _DEVIATIONS:
            if deviation.sign * scores[deviation.figure][index] > Z_LIMIT and not kinds.intersection(deviation.causes):
                kinds.add(deviation.kind)
        for kind in kinds:
            named[kind].append(photo.image)
    return named


def _unreadable(inspected: InspectedType) -> Iterator[Finding]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for photo in inspected.photographs:
        if photo.problem:
            reasons[photo.problem].append(photo.image)
    for reason, names in reasons.items():
        count = "one file" if len(names) == 1 else numbered(len(names)).replace("photographs", "files")
        advice = "Copy {} from the camera again, or remove {}.".format(*(["it"] if len(names) == 1 else ["them"]) * 2)
        yield Finding(inspected.name, UNREADABLE, f"{count} cannot be used ({reason})", advice, tuple(names))


def _other_sizes(inspected: InspectedType) -> Iterator[Finding]:
    sizes = Counter((photo.width, photo.height) for photo in inspected.readable)
    if len(sizes) < 2:
        return
    usual = sizes.most_common(1)[0][0]
    names = [photo.image for photo in inspected.readable if (photo.width, photo.height) != usual]
    words = f"of another size than {usual[0]} × {usual[1]} pixels, which most have"
    advice = "PIXAL needs one size per type: take {them} again with the same camera settings, or remove {them}."
    yield _finding(inspected.name, "size", words, advice, names)


def _duplicates(inspected: InspectedType, duplicates: Sequence[Duplicates]) -> Iterator[Finding]:
    for group in duplicates[:_GROUPS_NAMED]:
        names = _names(inspected, [group])
        how = "nearly the same" if group.kind == NEAR else f"the same ({group.kind})"
        yield Finding(
            inspected.name, "duplicate", f"{numbered(len(names))} are {how}", _KEEP_ONE[group.kind == NEAR], names
        )
    if rest := duplicates[_GROUPS_NAMED:]:
        names = _names(inspected, rest)
        message = f"{len(names)} further photographs are in {len(rest)} groups that are the same"
        yield Finding(inspected.name, "duplicate", message, _KEEP_ONE[any(group.kind == NEAR for group in rest)], names)


def _names(inspected: InspectedType, groups: Sequence[Duplicates]) -> tuple[str, ...]:
    return tuple(inspected.readable[index].image for group in groups for index in group.members)


def _of_all(inspected: InspectedType) -> Iterator[Finding]:
    """The findings on most photographs of the type, or on their number."""
    count = len(inspected.readable)
    formats = Counter(f"{photo.format} with {photo.bits} bits" for photo in inspected.readable)
    if len(formats) > 1:
        text = ", ".join(f"{number} × {name}" for name, number in formats.most_common())
        advice = "Use one format: compression changes noise and sharpness, which a model learns."
        yield Finding(inspected.name, "formats", f"the photographs have several formats ({text})", advice)
    if count:
        clipped = float(np.median(inspected.column("clipped_bright")))
        if clipped >= _MUCH_CLIPPED:
            message = f"a colour channel is saturated in {clipped:.0%} of a typical photograph"
            advice = "Expose shorter if this is on the part: what is saturated there cannot be inspected."
            yield Finding(inspected.name, "saturated", message, advice)
    if count < FEW_PHOTOGRAPHS:
        message = f"there {'is' if count == 1 else 'are'} {numbered(count)} to learn from"
        advice = f"Training needs at least 2 good parts; {FEW_PHOTOGRAPHS} or more recommended, and 20 or more is good."
        yield Finding(inspected.name, "few", message, advice)
