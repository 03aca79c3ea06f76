"""Results of validate without a model, for tests of ``pixal serve``: a batch of many parts, written in a second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pixal.config import load_config
from pixal.io import ownership
from pixal.io.files import data_hash, write_bytes
from pixal.io.images import encode_image
from pixal.io.records import to_builtin
from pixal.report.document import BatchOrigin, DriftSummary, ModelSummary, PartResult, ResultsDocument, TypeSummary
from pixal.report.images import save_part_images
from pixal.tasks.photographs.parts import PhotographRecord
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.tasks.photographs.verdicts.batch_record import BatchRecord, write_batch_record
from pixal.tasks.photographs.verdicts.history import up_to_date
from pixal.tasks.photographs.verdicts.verdict_store import JOURNAL, StoredVerdict
from pixal.validation.regions import Region

WIDTH, HEIGHT = 640, 360
REGION = Region(400, 100, 60, 40, 2000.0, 9.0, "LAB_a", (90, 20, 16, 10))
PATHS = """\
component_model_path: {component: Part, base: ./out}
component_validate_path: {component: Part, base: ./validate}
"""
_STARTED = "2026-11-20T08:00:00.000+00:00"


def write_settings(folder: Path) -> PhotographConfig:
    """Write ``folder/configs``, and load it with paths below ``folder``."""
    (folder / "configs").mkdir(parents=True)
    (folder / "configs/paths.yaml").write_text(PATHS)
    config = photograph_config(load_config(folder / "configs"))
    return PhotographConfig(config.parameters, config.paths.for_component("Part", folder), folder)


def write_results(
    config: PhotographConfig, count: int, *, types: Sequence[str] = ("front",), name: str = "lot1"
) -> None:
    """Write the files of a batch of ``count`` parts: each third one fails, and the last one could not be processed."""
    root = config.paths.resolve("component_validate_path")
    ownership.claim(root)
    photographs = root.parents[1] / "photographs"
    verdicts: list[StoredVerdict] = []
    for type_name in types:
        folder = photographs / type_name
        folder.mkdir(parents=True, exist_ok=True)
        report = root / type_name / "report"
        images = {failed: _images(report, failed) for failed in (False, True)}
        data = {failed: _photograph(failed) for failed in (False, True)}
        of_type = [
            _verdict(type_name, number, folder, images[failed], data[failed], is_last=number == count - 1)
            for number in range(count)
            for failed in (number % 3 == 0,)
        ]
        lines = b"".join(json.dumps(to_builtin(verdict.as_json())).encode() + b"\n" for verdict in of_type)
        write_bytes(root / type_name / "metadata" / JOURNAL, lines)
        verdicts += of_type
    record = BatchRecord(name=name, source=str(photographs), started=_STARTED, types=tuple(types))
    write_batch_record(root, record)
    write_bytes(
        root / "results.json", _results(record, [verdict.part for verdict in verdicts]).model_dump_json().encode()
    )
    up_to_date(config.paths)


def _verdict(type_name: str, number: int, folder: Path, images: Any, data: bytes, *, is_last: bool) -> StoredVerdict:
    image = f"{number:04d}.png"
    failed = number % 3 == 0
    content = data + number.to_bytes(4, "big")  # after the end of the PNG: another hash, the same picture
    if number < 20:
        (folder / image).write_bytes(content)
    sha256 = data_hash(content)
    score = 4.0 + number / 1000 if failed else 1.0 + number / 100_000
    pose = {f"h{i}{j}": float(i == j) for i in range(3) for j in range(3)}
    size = {"width": WIDTH, "height": HEIGHT}
    record = PhotographRecord(
        **{"image": image, "source": str(folder / image), "status": "failed" if is_last else "ok"},
        **{"sha256": sha256, "name": image[:-4], "reason": "cannot be aligned" if is_last else ""},
        **size,
        **pose,
    )
    part = PartResult(
        **{"type": type_name, "image": image, "source": f"{type_name}/{image}", "overlay": None, **size},
        **{"verdict": "error" if is_last else "fail" if failed else "pass", "reason": record.reason},
        **{
            "score": None if is_last else score,
            "threshold": None if is_last else 2.0,
            "p_value": None if is_last else 0.1,
        },
        regions=(REGION,) if failed and not is_last else (),
    )
    return StoredVerdict(source=record.source, stat=None, key="k", record=record, part=part, images=images)


def _images(folder: Path, failed: bool) -> tuple[str | None, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    photo = _pixels(failed)
    shown = photo.copy()
    shown[100:140, 400:460] = (255, 0, 0)
    files = save_part_images(
        folder, photo, shown if failed else photo, name="part", regions=(REGION,) if failed else ()
    )
    return tuple(None if file is None else file.name for file in files)


def _photograph(failed: bool) -> bytes:
    return encode_image(".png", _pixels(failed))


def _pixels(failed: bool) -> Any:
    photo = np.full((HEIGHT, WIDTH, 3), (60, 120, 70), np.uint8)
    cv2.rectangle(photo, (80, 60), (560, 300), (150, 170, 120), -1)
    if failed:
        photo[100:140, 400:460] = (200, 160, 40)
    return photo


def _results(record: BatchRecord, parts: Sequence[PartResult]) -> ResultsDocument:
    types = {}
    for name in record.types:
        of_type = [part for part in parts if part.type == name]
        types[name] = TypeSummary(
            **{"threshold": 2.0, "method": "tail", "false_alarm_rate": 0.01, "training_scores": (0.6, 0.9)},
            **{"parts": len(of_type), "failed": sum(part.verdict == "fail" for part in of_type), "errors": 1},
        )
    return ResultsDocument(
        component="Part",
        batch=BatchOrigin(name=record.name, source=record.source, started=record.started),
        created="2026-11-20T09:00:00+00:00",
        pixal_version="0.1",
        model=ModelSummary(family="gaussian", name="n", trained="2026-11-01T08:00:00+00:00", good_images=12),
        drift=DriftSummary(level=0.01),
        types=types,
        parts=tuple(parts),
    )
