"""Choose the model family that finds most planted defects, within a budget of time (``model_training.model: auto``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pixal.config.schema import AUTO_MODEL
from pixal.config.section import result_settings
from pixal.errors import ConfigError, InputError
from pixal.io.provenance import fingerprint
from pixal.io.records import read_record
from pixal.tasks.photographs.comparison.candidates import make_candidates
from pixal.tasks.photographs.comparison.results import ComparisonFiles, TypeComparison, difference_sentence
from pixal.tasks.photographs.comparison.run import (
    BUDGET,
    Comparison,
    compare_types,
    exclusive_comparison,
    left_out_if_it_fails,
    write_comparison,
)
from pixal.tasks.photographs.comparison.scoring import CandidateRun, CandidateScores, Prepared
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tracking import untracked
from pixal.validation.paired import compare_paired, pool_paired

_log = logging.getLogger(__name__)

# The families from cheap to costly, with the time that training and scoring take relative to the first one.
FAMILIES = {"gaussian": 1.0, "padim": 3.0, "autoencoder": 4.0, "combined": 7.0, "patchcore": 20.0}


def with_chosen_family(
    input_path: str | Path | None, config: PhotographConfig, *, resume: bool, quiet: bool
) -> PhotographConfig:
    """Return the settings with the family that finds most planted defects in place of ``auto``; others unchanged.

    The families are tried from cheap to costly, until the next one would probably exceed ``model_training.budget_s``.
    A family replaces the best one so far only if it finds significantly more; so a tie goes to the cheaper one. The
    tables, and why the family was chosen, are in ``metadata/comparison.yaml``. Only good parts are used.

    Args:
        input_path: As for ``train``.
        config: The settings.
        resume: Keep the choice of an earlier run on the same good parts with the same settings.
        quiet: Show no progress bars.

    Raises:
        ConfigError: No family can be trained.
        InputError: There are no prepared good parts.
    """
    if config.model_training.model != AUTO_MODEL:
        return config
    prepared = Prepared.find(input_path, config)
    key = fingerprint("choice", prepared.sha256, result_settings(config.parameters), FAMILIES)
    family = _stored_choice(prepared, key) if resume else None
    if family is not None:
        _log.info("model family: %s, as chosen before", family)
    else:
        family = _choose(prepared, key, quiet=quiet)
    training = config.model_training
    name = None if training.model_name == f"pixal_{training.model}" else training.model_name
    content = training.model_dump() | {"model": family, "model_name": name}
    parameters = config.parameters.model_copy(update={"model_training": type(training).model_validate(content)})
    return replace(config, parameters=parameters)


def _stored_choice(prepared: Prepared, key: str) -> str | None:
    """The family that an earlier run has chosen; None if there is none, or it was for something else."""
    choices = set()
    for name in prepared.types:
        try:
            choice = read_record(ComparisonFiles.of_type(prepared.config, name).record).get("choice")
        except InputError:
            return None
        if not isinstance(choice, dict) or choice.get("key") != key or choice.get("family") not in FAMILIES:
            return None
        choices.add(choice["family"])
    return choices.pop() if len(choices) == 1 else None


def _choose(prepared: Prepared, key: str, *, quiet: bool) -> str:
    config = prepared.config
    candidates = make_candidates(list(FAMILIES), config, prepared.preprocessor)
    result = Comparison()
    scored: dict[str, dict[str, CandidateScores]] = {}
    reasons: list[str] = []
    clock = _Clock(config.model_training.budget_s)
    with exclusive_comparison(prepared) as tracker:
        for candidate in candidates:
            run, name = CandidateRun(candidate, prepared), candidate.name
            if (problem := clock.problem(name)) is not None:
                result.left_out.append(f"{name}: {problem}")
                _log.info("model family %s is not tried: %s", name, problem)
                continue
            with (
                left_out_if_it_fails(run, result.left_out, must_work=False),
                untracked(),
                clock.timing(name),
            ):
                _log.info("trying the model family %s", name)
                run.train(quiet=quiet)
                if run.needs_one_fold:
                    raise ConfigError("with these settings its fits are costly, so that it holds out other parts")
                scored[name] = run.score(BUDGET, run.gap, force=False, quiet=quiet)
        if not scored:
            raise ConfigError(f"model_training.model: auto finds no family to train: {'; '.join(result.left_out)}")
        family = _best(compare_types(prepared, scored), reasons)
        choice = {"family": family, "reasons": reasons, "budget_s": config.model_training.budget_s, "key": key}
        write_comparison(prepared, scored, BUDGET, result, tracker, choice=choice)
    for reason in reasons:
        _log.info("%s", reason)
    _log.info("model family: %s (%s)", family, ", ".join(map(str, result.records.values())))
    return family


def _best(comparisons: Sequence[TypeComparison], reasons: list[str]) -> str:
    """The family that finds significantly more than cheaper ones; add one sentence per comparison to ``reasons``."""
    best, *others = comparisons[0].scored
    pooled = {
        family: pool_paired([comparison.paired[family] for comparison in comparisons]) for family in (best, *others)
    }
    for family in others:
        difference = compare_paired(pooled[family], pooled[best], comparisons=len(others))
        reasons.append(difference_sentence(family, best, difference))
        if difference.verdict == "better":
            best = family
    return best


class _Clock:
    """Whether there is time for another family: it is assumed to take as much longer as ``FAMILIES`` says."""

    def __init__(self, budget: float) -> None:
        self._budget, self._start = budget, time.monotonic()
        self._unit: float | None = None  # seconds of a family whose relative time is 1

    def problem(self, family: str) -> str | None:
        """Why there is no time for a family; None if there is. The first one is always tried."""
        expected = (self._unit or 0.0) * FAMILIES[family]
        used = time.monotonic() - self._start
        if used + expected <= self._budget or self._unit is None:
            return None
        return (
            f"it would take about {expected:.0f} s, and {used:.0f} of {self._budget:g} s are used "
            "(model_training.budget_s)"
        )

    @contextmanager
    def timing(self, family: str) -> Iterator[None]:
        """Measure the time of a family, from which that of others is estimated."""
        start = time.monotonic()
        yield
        self._unit = max(self._unit or 0.0, (time.monotonic() - start) / FAMILIES[family])
