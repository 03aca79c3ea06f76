"""The false-alarm rate of a batch, adapted to what inspectors said about earlier ones (``validation.adapt``)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pixal.calibration.adaptation import adapt_rate
from pixal.errors import PixalError
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel
from pixal.tasks.photographs.verdicts.history import up_to_date

if TYPE_CHECKING:
    from pixal.database.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adaptation:
    """The rate that the threshold of a type is set for.

    Attributes:
        requested: The requested false-alarm rate of a photograph.
        rate: The adapted one.
        good: Number of earlier good parts.
        failed: Number of those that failed.
        unmarked: The first batch with a part that failed and has no mark, or "".
        problem: Why nothing is known about earlier parts, or "".
    """

    requested: float
    rate: float
    good: int = 0
    failed: int = 0
    unmarked: str = ""
    problem: str = ""

    @property
    def sentence(self) -> str:
        """A sentence on the adaptation, for the results."""
        if self.problem:
            return f"the false-alarm rate could not be adapted ({self.problem}), so it is {100 * self.requested:.3g} %"
        sentence = (
            f"{self.failed} of {self.good} good parts of earlier batches failed; the threshold is set for a rate of "
            f"{100 * self.rate:.3g} % instead of {100 * self.requested:.3g} % (validation.adapt)"
            if self.good
            else "no good parts of earlier batches are known, so the false-alarm rate is not adapted (validation.adapt)"
        )
        if self.unmarked:
            sentence += (
                f"; batch {self.unmarked} and later ones do not count, because parts of it that failed have no mark"
            )
        return sentence


class RateAdapter:
    """Adapts the false-alarm rates of the types of one command; the history is brought up to date once for all."""

    def __init__(self, config: PhotographConfig, source: str) -> None:
        """Read nothing yet.

        Args:
            config: The settings.
            source: The source of the batch that is validated now, see ``source_text``; earlier verdicts on it do not
                count.
        """
        self._config, self._source = config, source

    def adapt(self, type_name: str, model: TrainedModel) -> Adaptation | None:
        """Adapt the rate of a type; None if ``validation.adapt`` is off.

        Args:
            type_name: The type.
            model: Its model; verdicts of other models do not count.
        """
        if not self._config.validation.adapt:
            return None
        from pixal.database.reviewed_parts import reviewed_good_parts

        requested = self._config.validation.rate_per_photograph
        if not self._config.paths.resolve("component_validate_path").is_dir():
            return Adaptation(requested, requested)
        try:
            with self._history.reading() as connection:
                parts = reviewed_good_parts(connection, type_name, model.record.record_sha256, self._source)
        except (PixalError, OSError) as error:
            _log.warning("%s: the false-alarm rate is not adapted: %s", type_name, error)
            return Adaptation(requested, requested, problem=str(error))
        rate = adapt_rate(requested, parts.failed)
        return Adaptation(requested, rate, len(parts.failed), sum(parts.failed), parts.unmarked)

    @cached_property
    def _history(self) -> Store:
        return up_to_date(self._config.paths)
