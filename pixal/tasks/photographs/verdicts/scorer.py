"""Verdicts on photographs in memory: a model file is applied, and nothing is written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

from pixal.config import Paths
from pixal.io.names import printable
from pixal.report.document import PartResult
from pixal.tasks.photographs.discovery import Photograph, list_photographs
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters
from pixal.tasks.photographs.verdicts.models import Models
from pixal.tasks.photographs.verdicts.preparation import Preparation
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts

_PARTS = 4  # in memory at a time


class Scorer:
    """Gives photographs the verdicts of ``pixal validate --model FILE``, with the settings of training.

    Attributes:
        types: The types that the model is for.
    """

    def __init__(self, file: str | Path) -> None:
        """Check and load a model file.

        Args:
            file: The file that ``pixal export`` wrote.

        Raises:
            InputError: It is not exactly what ``pixal export`` wrote.
            ModelError: The model in it is damaged.
        """
        nowhere = {"component": "Part", "base": str(Path(tempfile.gettempdir()) / "pixal_writes_nothing")}
        paths = Paths({"component_model_path": nowhere, "component_validate_path": nowhere})
        self._models = Models(PhotographConfig(PhotographParameters(), paths, Path()), str(file))
        record = self._models.load("").record
        parameters = PhotographParameters.model_validate(record.settings)
        self._config = PhotographConfig(parameters, paths, Path())
        self.types = tuple(record.types)
        self._own_type = None if parameters.model_training.one_hot_encoding else self.types[0]
        self._of_type = cache(self._load_type)

    def score(self, sources: Sequence[str | Path]) -> list[PartResult]:
        """Score photographs.

        Args:
            sources: Photographs, or folders of them, which stand for the photographs in them, sorted by name.

        Returns:
            One result per photograph, in the order of ``sources``. One that cannot be processed has the verdict
            ``error`` and the reason.
        """
        photographs = self._with_types([photo for source in sources for photo in _photographs(Path(source))])
        results: dict[int, PartResult] = {}
        for name in dict.fromkeys(photo.type_name for photo in photographs):
            rows = [row for row, photo in enumerate(photographs) if photo.type_name == name]
            of_type = [photographs[row] for row in rows]
            results |= dict(zip(rows, self._score(name, of_type), strict=True))
        return [results[row] for row in range(len(photographs))]

    def _score(self, name: str, photographs: list[Photograph]) -> Iterator[PartResult]:
        prepare, verdicts = self._of_type(name)
        parts = prepare(photographs)
        while chunk := list(islice(parts, _PARTS)):
            for scored in verdicts.score(chunk, verdicts.new_summary()):
                yield verdicts.result(scored)

    def _load_type(self, name: str) -> tuple[Preparation, TypeVerdicts]:
        model = self._models.load(name)
        prepare = Preparation(name, model, self._config, draw_figures=False)
        return prepare, TypeVerdicts(name, model, None, self._config)

    def _with_types(self, photographs: list[Photograph]) -> list[Photograph]:
        """Name the type of each photograph: the model's, that of its folder, or the one that it aligns to best."""
        if self._own_type is not None:
            return [replace(photo, type_name=self._own_type) for photo in photographs]
        types = {}
        for photo in photographs:
            if photo.path.parent.name in self.types:
                types[photo.path] = photo.path.parent.name
        others = [photo for photo in photographs if photo.path not in types]
        for name, chosen in (self._models.choose_types(others, quiet=True) if others else {}).items():
            types |= {photo.path: name for photo in chosen}
        return [replace(photo, type_name=types[photo.path]) for photo in photographs]


def _photographs(source: Path) -> list[Photograph]:
    if source.is_dir():
        return [photo for photos in list_photographs(source, test=True).values() for photo in photos]
    return [Photograph("", source, printable(source.name), printable(source.stem))]
