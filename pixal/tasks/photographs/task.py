"""The task ``photographs``: the functions that do the work of each command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixal.config import Config
from pixal.extras import require_analysis
from pixal.outcome import Outcome
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters, photograph_config
from pixal.tasks.task import Task

if TYPE_CHECKING:
    from pixal.database.history import History
    from pixal.database.rates import Grouping
    from pixal.database.selection import Selection
    from pixal.defects.options import DefectOptions
    from pixal.tasks.photographs.comparison.run import Comparison
    from pixal.tasks.photographs.inspection.results import Inspection
    from pixal.tasks.photographs.learning.acceptance import Acceptance
    from pixal.tasks.photographs.learning.promotion import Promotion
    from pixal.tasks.photographs.learning.recalibration import Recalibration
    from pixal.tasks.photographs.overview.check import Check
    from pixal.tasks.photographs.overview.clean import Cleaning
    from pixal.tasks.photographs.overview.status import Status
    from pixal.tasks.photographs.probing.evaluation import Evaluation
    from pixal.tasks.photographs.sensitivity.run import Sensitivity
    from pixal.tasks.photographs.serving.site import PhotographSite
    from pixal.tasks.photographs.verdicts.benchmark_results import MasterResults
    from pixal.tasks.photographs.verdicts.results import Batch
    from pixal.tracking.run import TrackedModel
    from pixal.train_model.stored_model import StoredModel


class Photographs(Task):
    """Learn from photographs of good parts, and find parts that deviate.

    The methods import what they need, so each command loads only what it uses.
    """

    name = "photographs"
    parameters_type = PhotographParameters
    config_type = PhotographConfig
    worker_settings = ("execution.workers", "preprocessing.remove_background.max_workers")

    def inspect(
        self,
        source: str | Path,
        config: Config,
        *,
        against: str | Path | None,
        sample: int | None,
        out: str | Path | None,
        quiet: bool,
    ) -> Inspection:
        """Measure the photographs, and say what is remarkable."""
        require_analysis("pixal inspect")
        from pixal.tasks.photographs.inspection.run import inspect

        settings = photograph_config(config)
        return inspect(source, against=against, sample=sample, out=out, config=settings, quiet=quiet)

    def preprocess(self, source: str | Path, config: Config, *, force: bool, quiet: bool) -> Outcome:
        """Remove the background, align, crop, and write ``out.npz``."""
        from pixal.tasks.photographs.preprocessing.pipeline import preprocess

        return preprocess(source, config=photograph_config(config), force=force, quiet=quiet)

    def remove_bg(self, source: str | Path, config: Config, *, force: bool, quiet: bool) -> Outcome:
        """Find the part on each photograph."""
        from pixal.tasks.photographs.preprocessing.pipeline import remove_bg

        return remove_bg(source, config=photograph_config(config), force=force, quiet=quiet)

    def align(self, source: str | Path | None, config: Config, *, force: bool, quiet: bool) -> Outcome:
        """Align each photograph to the reference of its type."""
        from pixal.tasks.photographs.preprocessing.pipeline import align

        return align(source, config=photograph_config(config), force=force, quiet=quiet)

    def make_input(self, source: str | Path | None, config: Config, *, force: bool, quiet: bool) -> Outcome:
        """Write ``out.npz`` from the aligned photographs."""
        from pixal.tasks.photographs.preprocessing.pipeline import make_input

        return make_input(source, config=photograph_config(config), force=force, quiet=quiet)

    def train(
        self, source: str | Path | None, config: Config, *, resume: bool, epochs: int | None, quiet: bool
    ) -> Outcome:
        """Fit and calibrate one model per type, or one model for all types."""
        require_analysis("pixal train")
        from pixal.tasks.photographs.comparison.choice import with_chosen_family
        from pixal.tasks.photographs.sensitivity.run import measure_after_training
        from pixal.tasks.photographs.training.train import train

        settings = with_chosen_family(source, photograph_config(config), resume=resume, quiet=quiet)
        outcome = train(source, settings, resume=resume, epochs=epochs, quiet=quiet)
        measure_after_training(source, settings, quiet=quiet)
        return outcome

    def validate(
        self,
        source: str | Path | None,
        config: Config,
        *,
        batch: str | None,
        truth: str | Path | None,
        model: str | None,
        force: bool,
        quiet: bool,
    ) -> Batch:
        """Validate each photograph."""
        from pixal.tasks.photographs.verdicts.validate import validate

        settings = photograph_config(config)
        return validate(source, batch=batch, truth=truth, model=model, config=settings, force=force, quiet=quiet)

    def watch(
        self, source: str | Path | None, config: Config, *, batch: str | None, model: str | None, force: bool
    ) -> Batch:
        """Validate each photograph when it arrives."""
        from pixal.tasks.photographs.verdicts.watch import watch

        return watch(source, batch=batch, model=model, config=photograph_config(config), force=force)

    def detect(
        self,
        source: str | Path | None,
        config: Config,
        *,
        batch: str | None,
        truth: str | Path | None,
        quiet: bool,
    ) -> Batch:
        """Repeat the verdicts with the inputs that ``validate`` stored."""
        from pixal.tasks.photographs.verdicts.validate import detect

        return detect(source, batch=batch, truth=truth, config=photograph_config(config), quiet=quiet)

    def encode(self, source: str | Path, config: Config, *, out: str | Path | None, quiet: bool) -> Outcome:
        """Write the latent vector of each photograph."""
        from pixal.tasks.photographs.probing.encoding import encode

        return encode(source, out=out, config=photograph_config(config), quiet=quiet)

    def evaluate(
        self,
        source: str | Path | None,
        config: Config,
        *,
        checkpoint: int | str | Path | None,
        samples: int,
        quiet: bool,
    ) -> Evaluation:
        """Measure how well good parts are reconstructed."""
        require_analysis("pixal evaluate")
        from pixal.tasks.photographs.probing.evaluation import evaluate

        photograph_settings = photograph_config(config)
        return evaluate(source, checkpoint=checkpoint, samples=samples, config=photograph_settings, quiet=quiet)

    def sensitivity(
        self,
        source: str | Path | None,
        config: Config,
        *,
        planted: DefectOptions,
        rates: Sequence[float],
        force: bool,
        quiet: bool,
    ) -> Sensitivity:
        """Plant defects on held-out good parts, and score them."""
        require_analysis("pixal sensitivity")
        from pixal.tasks.photographs.sensitivity.plan import FULL
        from pixal.tasks.photographs.sensitivity.run import measure_sensitivity

        budget = FULL.with_options(**planted)
        return measure_sensitivity(source, photograph_config(config), budget, rates=rates, force=force, quiet=quiet)

    def compare(
        self,
        source: str | Path | None,
        config: Config,
        *,
        candidates: Sequence[str],
        planted: DefectOptions,
        force: bool,
        quiet: bool,
    ) -> Comparison:
        """Train candidates, plant the same defects for all of them, and score them."""
        require_analysis("pixal compare")
        from pixal.tasks.photographs.comparison.run import BUDGET, compare

        budget = BUDGET.with_options(**planted)
        return compare(source, photograph_config(config), candidates, budget, force=force, quiet=quiet)

    def check_model(self, stored: StoredModel) -> None:
        """Check the preprocessing and the calibration stored with a model."""
        from pixal.tasks.photographs.training.stored import trained_model

        trained_model(stored)

    def log_model(
        self, client: Any, run_id: str, model: TrackedModel, tags: Mapping[str, str], *, register: bool, trusted: bool
    ) -> None:
        """Log the model as one that ``mlflow.pyfunc.load_model`` applies to photographs."""
        from pixal.tasks.photographs.mlflow_model import log_model

        log_model(client, run_id, model, tags, register=register, trusted=trusted)

    def check(self, source: str | Path | None, config: Config) -> Check:
        """Check photographs and settings."""
        from pixal.tasks.photographs.overview.check import check

        return check(source, photograph_config(config))

    def status(self, config: Config) -> Status:
        """Read the state of the component."""
        from pixal.tasks.photographs.overview.status import status

        return status(photograph_config(config))

    def clean(self, config: Config, *, maps: bool, remove: bool) -> Cleaning:
        """Find what can be made again, and remove it if asked."""
        from pixal.tasks.photographs.overview.clean import clean

        return clean(photograph_config(config), maps=maps, remove=remove)

    def history(
        self, config: Config, *, by: Grouping, selection: Selection, marks: str | Path | None, rebuild: bool
    ) -> History:
        """Read the failure rates of all batches."""
        from pixal.tasks.photographs.verdicts.history import history

        settings = photograph_config(config)
        return history(settings, by=by, selection=selection, marks=marks, rebuild=rebuild)

    def train_candidate(self, config: Config, *, resume: bool, quiet: bool) -> Outcome:
        """Train on the good parts of the model in use and the accepted ones."""
        require_analysis("pixal train --candidate")
        from pixal.tasks.photographs.learning.candidate import train_candidate

        return train_candidate(photograph_config(config), resume=resume, quiet=quiet)

    def promote(
        self,
        config: Config,
        *,
        types: Sequence[str] | None,
        check: bool,
        back: bool | str,
        overview: bool,
        force: bool,
        planted: DefectOptions,
        quiet: bool,
    ) -> Promotion:
        """Score the same parts by both models, and move the files of models."""
        require_analysis("pixal promote")
        from pixal.tasks.photographs.comparison.run import BUDGET
        from pixal.tasks.photographs.learning import promotion

        settings = photograph_config(config)
        if overview:
            return promotion.list_models(types, settings)
        if back is not False:
            return promotion.go_back(types, None if back is True else back, settings)
        budget = BUDGET.with_options(**planted)
        return promotion.promote(types, settings, budget, check=check, force=force, quiet=quiet)

    def recalibrate(
        self, config: Config, *, types: Sequence[str] | None, batch: str | None, quiet: bool
    ) -> Recalibration:
        """Calibrate on confirmed good parts; the fit stays."""
        require_analysis("pixal recalibrate")
        from pixal.tasks.photographs.learning.recalibration import recalibrate

        return recalibrate(types, batch, photograph_config(config), quiet=quiet)

    def accept(
        self,
        config: Config,
        *,
        marks: str | Path | None,
        types: Sequence[str] | None,
        confirmed: bool,
        undo: bool | int,
    ) -> Acceptance:
        """Copy marked photographs, and cut out their defects."""
        from pixal.tasks.photographs.learning import accepting

        settings = photograph_config(config)
        if undo is not False:
            return accepting.undo(None if undo is True else undo, types, config=settings)
        return accepting.accept(marks, types, confirmed=confirmed, config=settings)

    def site(self, config: Config) -> PhotographSite:
        """The components with their results."""
        from pixal.tasks.photographs.serving.site import PhotographSite

        return PhotographSite(photograph_config(config))

    def benchmark(
        self,
        source: str | Path,
        config: Config,
        *,
        out: str | Path,
        classes: Sequence[str] | None,
        force: bool,
        quiet: bool,
    ) -> MasterResults:
        """Preprocess, train and validate each class of a data set."""
        require_analysis("pixal benchmark")
        from pixal.tasks.photographs.verdicts.benchmark import benchmark

        photograph_settings = photograph_config(config)
        return benchmark(source, out=out, classes=classes, config=photograph_settings, force=force, quiet=quiet)
