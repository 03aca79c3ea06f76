"""The command ``compare``: train candidates on the same good parts, and compare them on the same planted defects."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pixal.errors import ConfigError, PixalError, StorageError
from pixal.io.locking import lock_folder
from pixal.io.logs import log_to_file
from pixal.io.names import printable
from pixal.io.output_folders import check_outputs, claim_outputs
from pixal.outcome import WithoutVerdicts
from pixal.tasks.photographs.comparison.candidates import default_candidates, make_candidates
from pixal.tasks.photographs.comparison.results import ComparisonFiles, TypeComparison
from pixal.tasks.photographs.comparison.scoring import CandidateRun, CandidateScores, Prepared
from pixal.tasks.photographs.sensitivity.plan import SMALL, Budget
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tracking import Tracker, tracked_run, untracked

_log = logging.getLogger(__name__)

BUDGET = replace(SMALL, folds=None)
"""The planted defects: four sizes and a contrast of 0.2, on all held-out parts."""


@dataclass
class Comparison(WithoutVerdicts):
    """The result of ``compare``.

    Attributes:
        types: The comparison of each type.
        records: The record ``comparison.yaml`` of each type.
        failures: The candidates that were asked for and could not be trained or scored, each with the reason.
        left_out: The same for candidates that were chosen by default.
    """

    types: list[TypeComparison] = field(default_factory=list)
    records: dict[str, Path] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return the table of each type, and where its record is."""
        return "\n\n".join(f"{each.summary()}\n  {self.records[each.name]}" for each in self.types)


def compare(
    input_path: str | Path | None,
    config: PhotographConfig,
    candidates: Sequence[str] = (),
    budget: Budget = BUDGET,
    *,
    force: bool = False,
    quiet: bool = False,
) -> Comparison:
    """Train and compare the candidates; see ``pixal.compare``.

    Args:
        input_path: As for ``train``.
        config: The settings.
        candidates: The candidates; the first is the baseline. Default: the configured family and the cheap ones.
        budget: Which defects to plant.
        force: Plant and score the defects again.
        quiet: Show no progress bars.

    Raises:
        ConfigError: A candidate is not valid, or fewer than two are given.
        InputError: There are no prepared good parts.
    """
    prepared = Prepared.find(input_path, config)
    if len(candidates) == 1:
        raise ConfigError(f"--candidate {candidates[0]} is the only one; name at least two, or none for the usual ones")
    texts = candidates or default_candidates(config.model_training.model)
    runs = [CandidateRun(candidate, prepared) for candidate in make_candidates(texts, config, prepared.preprocessor)]
    result = Comparison()
    with exclusive_comparison(prepared) as tracker:
        scored = _score_all(runs, budget, result, is_default=not candidates, force=force, quiet=quiet)
        write_comparison(prepared, scored, budget, result, tracker)
    return result


@contextmanager
def exclusive_comparison(prepared: Prepared) -> Iterator[Tracker]:
    """Lock and claim the folders of the types, and track the block as a run of ``compare``.

    Raises:
        InputError: Another run holds a lock, or the output folders cannot be used.
    """
    config, types = prepared.config, prepared.types
    planned = [path for name in types for path in ComparisonFiles.of_type(config, name)]
    check_outputs(config.paths, "component_model_path", types, planned=planned)
    with ExitStack() as stack:
        for name in types:
            stack.enter_context(lock_folder(config.paths.resolve("component_model_path", name)))
        claim_outputs(config.paths, "component_model_path", types)
        for name in types:
            stack.enter_context(log_to_file(config.paths.resolve("log_path", name), "compare"))
        yield stack.enter_context(tracked_run(config, config.paths.component, "compare"))


def compare_types(prepared: Prepared, scored: Mapping[str, Mapping[str, CandidateScores]]) -> list[TypeComparison]:
    """The comparison of each type, from the scores by candidate and type."""
    rate = prepared.config.validation.false_alarm_rate
    return [
        TypeComparison(name, rate, {candidate: of_types[name] for candidate, of_types in scored.items()})
        for name in prepared.types
    ]


def write_comparison(
    prepared: Prepared,
    scored: Mapping[str, Mapping[str, CandidateScores]],
    budget: Budget,
    result: Comparison,
    tracker: Tracker,
    **entries: Any,
) -> None:
    """Write the files of each type, and add them to ``result`` and to the tracked run.

    Args:
        prepared: The prepared good parts.
        scored: The scores by candidate and type.
        budget: Which defects were planted.
        result: The result of the command, with the candidates that are left out.
        tracker: The tracked run.
        entries: Further entries of the records.
    """
    config = prepared.config
    tracker.log_params({"compare": budget.as_record()})
    for comparison in compare_types(prepared, scored):
        name = comparison.name
        files = ComparisonFiles.of_type(config, name)
        origin = {
            "component": config.paths.component,
            "type": name,
            "seed": config.model_training.seed,
            "budget": budget.as_record(),
            "left_out": [*result.left_out, *result.failures],
        }
        comparison.write(files, origin | entries)
        result.types.append(comparison)
        result.records[name] = files.record
        for metric, value in comparison.metrics().items():
            tracker.log_metric(metric, value)
        tracker.log_artifacts({f"metadata/{name}": [files.record, files.table], f"figures/{name}": [files.figure]})


def _score_all(
    runs: Sequence[CandidateRun], budget: Budget, result: Comparison, *, is_default: bool, force: bool, quiet: bool
) -> dict[str, dict[str, CandidateScores]]:
    """Train all candidates, then score those that could be trained; return their scores by name and type.

    Raises:
        PixalError: The first candidate cannot be trained or scored, or no other one can.
    """
    problems = result.left_out if is_default else result.failures
    trained: list[CandidateRun] = []
    for number, run in enumerate(runs, 1):
        _log.info("candidate %s, %d of %d", run.candidate.name, number, len(runs))
        with left_out_if_it_fails(run, problems, must_work=number == 1), untracked():
            run.train(quiet=quiet)
            trained.append(run)
    if any(run.needs_one_fold for run in trained):
        budget = replace(budget, folds=1)
    gap = max(run.gap for run in trained)
    scored: dict[str, dict[str, CandidateScores]] = {}
    for run in trained:
        with left_out_if_it_fails(run, problems, must_work=run is runs[0]):
            scored[run.candidate.name] = run.score(budget, gap, force=force, quiet=quiet)
    if len(scored) < 2:
        raise ConfigError(f"there is nothing to compare {runs[0].candidate.name} with: {'; '.join(problems)}")
    return scored


@contextmanager
def left_out_if_it_fails(run: CandidateRun, problems: list[str], *, must_work: bool) -> Iterator[None]:
    """Note the reason in ``problems`` if the work on a candidate fails. A full disk is no fault of the candidate."""
    try:
        yield
    except StorageError:
        raise
    except PixalError as error:
        if must_work:
            raise
        problems.append(f"{printable(run.candidate.name)}: {error}")
        _log.warning("candidate %s is left out: %s", run.candidate.name, error)
