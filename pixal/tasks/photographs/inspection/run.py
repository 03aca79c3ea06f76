"""The ``inspect`` command: measure photographs before any training, and say what is wrong with them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pixal.config.loading import DEFAULTS
from pixal.config.paths import INSPECTIONS_FOLDER
from pixal.errors import InputError
from pixal.execution import check_cluster
from pixal.io.names import printable
from pixal.io.provenance import provenance
from pixal.outcome import Failure
from pixal.report.inspection_document import Distribution, Finding, InspectedTypeSummary, InspectionDocument
from pixal.tasks.photographs.discovery import Photograph, list_photographs
from pixal.tasks.photographs.inspection.comparison import compare_folders, matching_types
from pixal.tasks.photographs.inspection.findings import UNREADABLE, duplicate_groups, find_problems
from pixal.tasks.photographs.inspection.outliers import Z_LIMIT, Values, robust_scores
from pixal.tasks.photographs.inspection.photographs import InspectedType, inspect_type
from pixal.tasks.photographs.inspection.results import (
    Inspection,
    InspectionFiles,
    photograph_rows,
    write_files,
)
from pixal.tasks.photographs.inspection.split import USES, Use, suggest_split
from pixal.tasks.photographs.inspection.thumbnails import make_thumbnails
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.history import record_inspection

_log = logging.getLogger(__name__)

_SEED = 0
_GREY_LEVELS = 255
_SHOWN = {  # figures of the page, their labels, and the factor from the stored unit
    "brightness": ("Brightness (mean level of 255)", _GREY_LEVELS),
    "spread": ("Contrast (standard deviation, levels of 255)", _GREY_LEVELS),
    "sharpness": ("Sharpness (detail divided by contrast)", 1),
    "noise": ("Noise (standard deviation, levels of 255)", _GREY_LEVELS),
    "warmth": ("Warmth (red divided by blue, with grey added)", 1),
    "tint": ("Tint (green divided by red and blue, with grey added)", 1),
    "clipped_bright": ("Saturated pixels (%)", 100),
    "clipped_dark": ("Black pixels (%)", 100),
}


def inspect(
    source: str | Path,
    *,
    against: str | Path | None = None,
    sample: int | None = None,
    out: str | Path | None = None,
    config: PhotographConfig,
    quiet: bool = False,
) -> Inspection:
    """Inspect the photographs of a folder; see ``pixal.inspect``."""
    listed = list_photographs(source)
    listed_others = {} if against is None else list_photographs(against)
    files = InspectionFiles(Path(INSPECTIONS_FOLDER, _name(source)) if out is None else Path(out))
    files.check([Path(folder) for folder in (source, against) if folder is not None])
    check_cluster(config.execution, reads=[Path(folder) for folder in (source, against) if folder is not None])
    measure = partial(_inspect_types, sample=sample, config=config, quiet=quiet)
    with files.locked():
        types = measure(listed, step="inspect")
        others = measure(listed_others, step="inspect the other folder")
        if not any(inspected.readable for inspected in types.values()):
            first = next(photo for inspected in types.values() for photo in inspected.photographs)
            raise InputError(f"{source}: no photograph can be read; the first is {first.image}: {first.problem}")
        examined = _examine(types, others, _label(against), config.validation.drift_level)
        document = _document(types, examined, source, against, sum(map(len, listed.values())))
        inspection = Inspection(
            files, document, _failures(types), tuple(photograph_rows(types, examined.findings, examined.uses))
        )
        component = "" if config.source == DEFAULTS else config.paths.component
        write_files(inspection, make_thumbnails(types, document, config.execution, quiet=quiet), component)
    if component or config.paths.resolve("component_validate_path").is_dir():
        record_inspection(config.paths, files.folder)
    for finding in (finding for finding in inspection.findings if finding.kind != UNREADABLE):  # these are failures
        _log.info("%s", finding)
    _log.info("%s: open %s", inspection.headline, files.page)
    return inspection


def _inspect_types(
    listed: Mapping[str, list[Photograph]], *, step: str, sample: int | None, config: PhotographConfig, quiet: bool
) -> dict[str, InspectedType]:
    return {
        name: inspect_type(name, _sample(photographs, sample), config.execution, step=f"{name}: {step}", quiet=quiet)
        for name, photographs in listed.items()
    }


def _sample(photographs: Sequence[Photograph], count: int | None) -> list[Photograph]:
    """At most ``count`` of the photographs, at random with a fixed seed, in their order; None: all."""
    if count is None or count >= len(photographs):
        return list(photographs)
    if count < 1:
        raise InputError(f"--sample {count}: inspect at least 1 photograph of each type")
    chosen = np.random.default_rng(_SEED).choice(len(photographs), count, replace=False)
    return [photographs[index] for index in sorted(chosen)]


@dataclass(frozen=True)
class _Examined:
    """The findings on all photographs.

    Attributes:
        findings: The findings, the most important first.
        uses: The suggested use of each photograph, by type and name.
        others: The photographs that each type was compared with.
        notes: Comparisons that could not be made.
    """

    findings: tuple[Finding, ...]
    uses: dict[str, dict[str, Use]]
    others: dict[str, InspectedType]
    notes: tuple[str, ...]


def _examine(
    types: Mapping[str, InspectedType], others: Mapping[str, InspectedType], other: str, level: float
) -> _Examined:
    """Find problems, and suggest a split. ``other`` is the name of the other folder; "" without one."""
    matching = {name: others[same] for name, same in matching_types(types, others).items() if others[same].readable}
    pairs = {name: (types[name], same) for name, same in matching.items()}
    findings = compare_folders(pairs, other, level) if pairs else []
    uses: dict[str, dict[str, Use]] = {}
    for name, inspected in types.items():
        duplicates = duplicate_groups(inspected)
        problems = find_problems(inspected, duplicates)
        findings += problems
        uses[name] = suggest_split(inspected, problems, duplicates)
    missing = [name for name in types if name not in matching] if other else []
    notes = tuple(f"{name} was not compared, because {other} has no photographs of this type" for name in missing)
    return _Examined(tuple(findings), uses, matching, notes)


def _document(
    types: Mapping[str, InspectedType],
    inspected: _Examined,
    source: str | Path,
    against: str | Path | None,
    found: int,
) -> InspectionDocument:
    written = provenance()
    return InspectionDocument(
        source=printable(str(source)),
        against=None if against is None else printable(str(against)),
        created=written["created"],
        pixal_version=written["pixal_version"],
        found=found,
        findings=inspected.findings,
        types=tuple(_summary(types[name], inspected.uses[name], inspected.others.get(name)) for name in types),
        notes=inspected.notes,
    )


def _failures(types: Mapping[str, InspectedType]) -> tuple[Failure, ...]:
    return tuple(
        Failure(name, photo.image, "inspect", photo.problem)
        for name, inspected in types.items()
        for photo in inspected.photographs
        if photo.problem
    )


def _summary(inspected: InspectedType, uses: Mapping[str, Use], other: InspectedType | None) -> InspectedTypeSummary:
    values = inspected.values()
    scores = robust_scores(values)
    reference = None if other is None else other.values()
    sizes = Counter(f"{photo.width} × {photo.height}" for photo in inspected.readable)
    formats = Counter(f"{photo.format}, {photo.bits} bits" for photo in inspected.readable)
    chosen = Counter(use.use for use in uses.values())
    return InspectedTypeSummary(
        name=inspected.name,
        photographs=len(inspected.photographs),
        unreadable=len(inspected.photographs) - len(inspected.readable),
        sizes=dict(sizes.most_common()),
        formats=dict(formats.most_common()),
        split={use: chosen[use] for use in USES},
        typical=_typical(inspected, scores),
        distributions=tuple(
            _distribution(name, values[name], scores[name], None if reference is None else reference[name])
            for name in _SHOWN
        ),
    )


def _typical(inspected: InspectedType, scores: Mapping[str, Values]) -> str:
    if not inspected.readable:
        return ""
    return inspected.readable[int(np.argmin(np.max(np.abs(list(scores.values())), axis=0)))].image


def _distribution(name: str, values: Values, scores: Values, reference: Values | None) -> Distribution:
    label, factor = _SHOWN[name]
    return Distribution(
        label,
        values * factor,
        values[np.abs(scores) > Z_LIMIT] * factor,
        None if reference is None else reference * factor,
    )


def _name(source: str | Path) -> str:
    """Name of the folder of the results: that of the folder of the photographs, or of the photograph."""
    return printable(Path(source).resolve().stem if Path(source).is_file() else Path(source).resolve().name)


def _label(folder: str | Path | None) -> str:
    return "" if folder is None else printable(Path(folder).name or str(folder))
