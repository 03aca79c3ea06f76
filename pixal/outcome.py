"""Results of commands: what was finished, what could not be processed, and tables."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pixal.errors import InputError
from pixal.extras import require_extra
from pixal.io.names import printable

if TYPE_CHECKING:
    import pandas as pd

_SHOWN_ROWS = 20  # in a notebook


@dataclass(frozen=True)
class Failure:
    """An image that could not be processed.

    Attributes:
        type_name: The image type.
        image: File name of the photograph.
        step: The step that failed, for example ``alignment``.
        reason: What was wrong.
    """

    type_name: str
    image: str
    step: str
    reason: str

    def __str__(self) -> str:
        return f"{self.type_name}/{self.image}: {self.reason}"


class ItemRecord(Protocol):
    """The record of a step for one image."""

    @property
    def image(self) -> str:
        """File name of the image."""

    @property
    def is_ok(self) -> bool:
        """Whether the step finished the image."""

    @property
    def reason(self) -> str:
        """The reason, if it did not."""


@dataclass
class Outcome:
    """The result of a step: what it finished, and what it and the steps before it could not process.

    Attributes:
        done: Number of images that the last step finished.
        failures: The images that any of the steps could not process.
    """

    done: int = 0
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def from_records(cls, type_name: str, step: str, records: Sequence[ItemRecord]) -> Outcome:
        """Outcome of a step, from one record per image."""
        failures = [Failure(type_name, record.image, step, record.reason) for record in records if not record.is_ok]
        return cls(len(records) - len(failures), failures)

    def followed_by(self, later: Outcome) -> Outcome:
        """Outcome of this step and a later one on the same images."""
        return Outcome(later.done, [*self.failures, *later.failures])

    def combined_with(self, other: Outcome) -> Outcome:
        """Outcome of this step on these images and on other images."""
        return Outcome(self.done + other.done, [*self.failures, *other.failures])

    def require_done(self, source: str | Path | None) -> Outcome:
        """Return this outcome. Raise ``InputError`` if no image was finished; the message names ``source``."""
        if not self.done:
            first = self.failures[0] if self.failures else "there was nothing to do"
            raise InputError(f"{source}: none of {len(self.failures)} images could be processed; the first: {first}")
        return self


class Results(Protocol):
    """The result of ``validate``, ``detect``, ``evaluate`` and ``benchmark``, for every task."""

    @property
    def failures(self) -> Sequence[Failure | str]:
        """The inputs that could not be processed, each with the reason."""

    @property
    def failed(self) -> int:
        """Number of items with the verdict "fail"; 0 for a task without verdicts."""

    @property
    def all_failed(self) -> bool:
        """Whether nothing could be processed."""

    def summary(self) -> str:
        """A table for the terminal."""


class WithoutVerdicts:
    """The part of ``Results`` that is the same for all commands that give no verdicts."""

    @property
    def failed(self) -> int:
        """0, because there are no verdicts."""
        return 0

    @property
    def all_failed(self) -> bool:
        """False; see ``Results``."""
        return False


class Cleaned(Protocol):
    """The result of ``clean``."""

    @property
    def size(self) -> int:
        """Size in bytes of what can be removed, or was."""

    def summary(self) -> str:
        """The items, one line each."""


class Overview(Protocol):
    """The result of ``check``, ``status`` and ``doctor``."""

    @property
    def problems(self) -> Sequence[str]:
        """The problems to solve before a run, each in one sentence."""

    def summary(self) -> str:
        """The overview as text for the terminal."""

    def as_json(self) -> dict[str, Any]:
        """The overview for ``json.dumps``."""


class Tabular:
    """Base class of results: a table, and the files that were written."""

    @property
    @abstractmethod
    def columns(self) -> Sequence[str]:
        """The columns of the table."""

    @property
    @abstractmethod
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The rows of the table, by column."""

    @property
    @abstractmethod
    def headline(self) -> str:
        """The result in one line."""

    @property
    @abstractmethod
    def written(self) -> Sequence[Path]:
        """The files to open, the most important first."""

    def to_pandas(self) -> pd.DataFrame:
        """The table as a data frame.

        Raises:
            ConfigError: pandas is not installed; the message holds the command that installs it.
        """
        require_extra("pandas", "a data frame")
        import pandas as pd

        return pd.DataFrame([dict(row) for row in self.rows], columns=list(self.columns))

    def _repr_html_(self) -> str:
        """The headline, the first rows and the files, for a notebook."""
        head = "".join(f"<th>{_text(column)}</th>" for column in self.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{_text(row.get(column))}</td>' for column in self.columns)}</tr>"
            for row in self.rows[:_SHOWN_ROWS]
        )
        hidden = len(self.rows) - _SHOWN_ROWS
        more = f"<p>{hidden} more rows: to_pandas() has all.</p>" if hidden > 0 else ""
        files = "".join(f"<li>{_text(path)}</li>" for path in self.written)
        return (
            f"<p><strong>{_text(self.headline)}</strong></p><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>{more}<ul>{files}</ul>"
        )


def _text(value: Any) -> str:
    if value is None:
        return ""
    return escape(f"{value:.4g}" if isinstance(value, float) else printable(str(value)))


def verdict_counts(total: int, failed: int, errors: int) -> str:
    """Say how many photographs passed, failed, and could not be processed."""
    noun = "photograph" if total == 1 else "photographs"
    return f"{total} {noun}: {total - failed - errors} pass, {failed} fail, {errors} could not be processed"
