"""The interface of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from pixal.config import Config
from pixal.config.schema import Parameters
from pixal.errors import InputError
from pixal.outcome import Cleaned, Outcome, Overview, Results

if TYPE_CHECKING:
    from pixal.database.history import History
    from pixal.database.rates import Grouping
    from pixal.database.selection import Selection
    from pixal.defects.options import DefectOptions
    from pixal.server.site import Site
    from pixal.tracking.run import TrackedModel
    from pixal.train_model.stored_model import StoredModel


class Task(ABC):
    """A kind of input. Each command asks the configured task (``task`` in ``parameters.yaml``) to do the work.

    A task is a class in a folder of its own, and one line in ``pixal.registry``. Or it is a class in another package,
    which registers it as an entry point of the group ``pixal.tasks``. ``docs/extending.md`` shows a complete task.

    A task must implement ``preprocess``, ``train`` and ``validate``. Any other command that it does not implement
    raises ``InputError``. The functions in ``pixal/commands`` describe the arguments.
    """

    name: ClassVar[str]
    """The value of the setting ``task`` that selects this task."""
    parameters_type: ClassVar[type[Parameters]] = Parameters
    """The schema of ``parameters.yaml``: the common sections and those of the task."""
    config_type: ClassVar[type[Config]] = Config
    """The type of the loaded settings, with one attribute per section."""
    worker_settings: ClassVar[tuple[str, ...]] = ("execution.workers",)
    """The settings that ``--workers`` overrides."""

    @abstractmethod
    def preprocess(self, source: str | Path, config: Config, *, force: bool, quiet: bool) -> Outcome:
        """Make the model input of the files in ``source``."""

    @abstractmethod
    def train(
        self, source: str | Path | None, config: Config, *, resume: bool, epochs: int | None, quiet: bool
    ) -> Outcome:
        """Train on the model input in ``source``. None: on all model input of the component."""

    @abstractmethod
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
    ) -> Results:
        """Apply the trained models to the files in ``source``, and write the results.

        ``source`` is None if only the name of a ``batch`` is given, whose files are known.
        """

    def inspect(
        self,
        source: str | Path,
        config: Config,
        *,
        against: str | Path | None,
        sample: int | None,
        out: str | Path | None,
        quiet: bool,
    ) -> Results:
        """Find problems with the files in ``source`` before training."""
        self._does_not_apply("inspect")

    def remove_bg(self, source: str | Path, config: Config, *, force: bool, quiet: bool) -> Outcome:
        """Run only the first step of ``preprocess``."""
        self._does_not_apply("remove_bg")

    def align(self, source: str | Path | None, config: Config, *, force: bool, quiet: bool) -> Outcome:
        """Run only the second step of ``preprocess``."""
        self._does_not_apply("align")

    def make_input(self, source: str | Path | None, config: Config, *, force: bool, quiet: bool) -> Outcome:
        """Run only the last step of ``preprocess``."""
        self._does_not_apply("make_input")

    def watch(
        self, source: str | Path | None, config: Config, *, batch: str | None, model: str | None, force: bool
    ) -> Results:
        """Validate new files in ``source`` as they arrive, until a ``KeyboardInterrupt``."""
        self._does_not_apply("validate --watch")

    def detect(
        self,
        source: str | Path | None,
        config: Config,
        *,
        batch: str | None,
        truth: str | Path | None,
        quiet: bool,
    ) -> Results:
        """Repeat the verdicts on the model input that ``validate`` made."""
        self._does_not_apply("detect")

    def encode(self, source: str | Path, config: Config, *, out: str | Path | None, quiet: bool) -> Outcome:
        """Write the latent vectors of the files in ``source``."""
        self._does_not_apply("encode")

    def evaluate(
        self,
        source: str | Path | None,
        config: Config,
        *,
        checkpoint: int | str | Path | None,
        samples: int,
        quiet: bool,
    ) -> Results:
        """Measure how well the models reconstruct good input."""
        self._does_not_apply("evaluate")

    def sensitivity(
        self,
        source: str | Path | None,
        config: Config,
        *,
        planted: DefectOptions,
        rates: Sequence[float],
        force: bool,
        quiet: bool,
    ) -> Results:
        """Measure which planted defects the models find."""
        self._does_not_apply("sensitivity")

    def compare(
        self,
        source: str | Path | None,
        config: Config,
        *,
        candidates: Sequence[str],
        planted: DefectOptions,
        force: bool,
        quiet: bool,
    ) -> Results:
        """Train several models, and compare which planted defects they find."""
        self._does_not_apply("compare")

    def history(
        self, config: Config, *, by: Grouping, selection: Selection, marks: str | Path | None, rebuild: bool
    ) -> History:
        """Read the failure rates of all batches from the database, after what is missing there was added."""
        self._does_not_apply("history")

    def train_candidate(self, config: Config, *, resume: bool, quiet: bool) -> Outcome:
        """Train a candidate beside each model in use."""
        self._does_not_apply("train --candidate")

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
    ) -> Results:
        """Compare candidates with the models in use, and put them in place, or put earlier models back."""
        self._does_not_apply("promote")

    def recalibrate(self, config: Config, *, types: Sequence[str] | None, batch: str | None, quiet: bool) -> Results:
        """Adapt the calibration of models to confirmed good parts."""
        self._does_not_apply("recalibrate")

    def accept(
        self,
        config: Config,
        *,
        marks: str | Path | None,
        types: Sequence[str] | None,
        confirmed: bool,
        undo: bool | int,
    ) -> Results:
        """Make training data and known defects from the marks of inspectors, or take back what a run has made."""
        self._does_not_apply("accept")

    def site(self, config: Config) -> Site:
        """The content of the pages of ``pixal serve``."""
        self._does_not_apply("serve")

    def benchmark(
        self,
        source: str | Path,
        config: Config,
        *,
        out: str | Path,
        classes: Sequence[str] | None,
        force: bool,
        quiet: bool,
    ) -> Results:
        """Train and validate each class of the data set in ``source``."""
        self._does_not_apply("benchmark")

    def check_model(self, stored: StoredModel) -> None:
        """Raise ``ModelError`` if a stored model, whose files were verified, cannot be used."""
        return

    def log_model(
        self, client: Any, run_id: str, model: TrackedModel, tags: Mapping[str, str], *, register: bool, trusted: bool
    ) -> None:
        """Log a stored model as a model of MLflow. By default, only the files of the run are logged.

        Args:
            client: A client of the store (``mlflow.MlflowClient``).
            run_id: The run that trained the model.
            model: The stored model.
            tags: The tags of the run.
            register: Whether to add a version to the registered model of that name.
            trusted: Whether the run comes from the process that trained the model. Otherwise it comes from a file that
                anyone may have written, and only files that PIXAL wrote may be logged.
        """
        return

    def check(self, source: str | Path | None, config: Config) -> Overview:
        """Find problems of a run on the files in ``source``. None: check only the settings."""
        self._does_not_apply("check")

    def status(self, config: Config) -> Overview:
        """Read what has been done, what is out of date, and what to run next."""
        self._does_not_apply("status")

    def clean(self, config: Config, *, maps: bool, remove: bool) -> Cleaned:
        """Find what can be made again, and remove it if asked."""
        self._does_not_apply("clean")

    def demo(self, folder: Path, *, config: str | Path | None, overrides: Sequence[str], quiet: bool) -> Results:
        """Make a small input in ``folder``, and run ``preprocess``, ``train`` and ``validate`` on it.

        ``config`` is the folder of the settings; None: the defaults of the task. ``photographs`` has a function of its
        own in ``pixal.commands.demo``, because it takes more arguments.
        """
        self._does_not_apply("demo")

    def _does_not_apply(self, command: str) -> NoReturn:
        raise InputError(f"pixal {command} does not apply to task {self.name}")
