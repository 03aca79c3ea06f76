"""Results of validate without a model, for tests of ``pixal serve``: a batch of many parts, written in a second."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

import pixal
from pixal.config import load_config
from pixal.io import ownership
from pixal.io.files import data_hash, write_bytes
from pixal.io.images import encode_image
from pixal.io.records import to_builtin
from pixal.report.document import BatchOrigin, DriftSummary, ModelSummary, PartResult, ResultsDocument, TypeSummary
from pixal.report.images import save_part_images
from pixal.server.app import build_app
from pixal.server.security import Access
from pixal.tasks.photographs.parts import PhotographRecord
from pixal.tasks.photographs.serving.site import PhotographSite
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.tasks.photographs.verdicts.batch_record import BatchRecord, write_batch_record
from pixal.tasks.photographs.verdicts.history import up_to_date
from pixal.tasks.photographs.verdicts.verdict_store import JOURNAL, StoredVerdict
from pixal.validation.regions import Region

WIDTH, HEIGHT = 640, 360
_BOX = (400, 100, 60, 40)
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
    config: PhotographConfig, count: int, *, types: Sequence[str] = ("front",), name: str = "lot1", scale: int = 1
) -> None:
    """Write the files of a batch of ``count`` parts: each third one fails, and the last one could not be processed.

    The photographs of the first 20 parts are written, too; they have 640x360 pixels times ``scale``.
    """
    root = config.paths.resolve("component_validate_path")
    ownership.claim(root)
    photographs = root.parents[1] / "photographs"
    verdicts: list[StoredVerdict] = []
    for type_name in types:
        folder = photographs / type_name
        folder.mkdir(parents=True, exist_ok=True)
        kinds = {failed: _Kind.make(root / type_name / "report", scale, failed=failed) for failed in (False, True)}
        of_type = [
            _verdict(type_name, number, folder, kinds[number % 3 == 0], is_last=number == count - 1)
            for number in range(count)
        ]
        lines = b"".join(json.dumps(to_builtin(verdict.as_json())).encode() + b"\n" for verdict in of_type)
        write_bytes(root / type_name / "metadata" / JOURNAL, lines)
        verdicts += of_type
    record = BatchRecord(name=name, source=str(photographs), started=_STARTED, types=tuple(types))
    write_batch_record(root, record)
    results = _results(record, [verdict.part for verdict in verdicts])
    write_bytes(root / "results.json", results.model_dump_json().encode())
    up_to_date(config.paths)


@dataclass(frozen=True)
class _Kind:
    """What all failed parts have in common, or all others: the picture, and the images of the report."""

    data: bytes
    images: tuple[str | None, ...]
    size: dict[str, int]
    regions: tuple[Region, ...]

    @classmethod
    def make(cls, report: Path, scale: int, *, failed: bool) -> _Kind:
        photo = np.full((HEIGHT, WIDTH, 3), (60, 120, 70), np.uint8)
        cv2.rectangle(photo, (80, 60), (560, 300), (150, 170, 120), -1)
        tinted = photo.copy()
        if failed:
            photo[100:140, 400:460] = (200, 160, 40)
            tinted[100:140, 400:460] = (255, 0, 0)
        photo, tinted = (np.kron(image, np.ones((scale, scale, 1), np.uint8)) for image in (photo, tinted))
        regions = (Region(*(scale * value for value in _BOX), 2400.0 * scale**2, 9.0, "LAB_a", _BOX),) if failed else ()
        report.mkdir(parents=True, exist_ok=True)
        files = save_part_images(report, photo, tinted, name="part", regions=regions)
        images = tuple(None if file is None else file.name for file in files)
        return cls(encode_image(".png", photo), images, {"width": scale * WIDTH, "height": scale * HEIGHT}, regions)


def _verdict(type_name: str, number: int, folder: Path, kind: _Kind, *, is_last: bool) -> StoredVerdict:
    image = f"{number:04d}.png"
    data = kind.data + number.to_bytes(4, "big")  # after the end of the PNG: another hash, the same picture
    if number < 20:
        (folder / image).write_bytes(data)
    pose = {f"h{i}{j}": float(i == j) for i in range(3) for j in range(3)}
    record = PhotographRecord(
        **{"image": image, "source": str(folder / image), "status": "failed" if is_last else "ok"},
        **{"sha256": data_hash(data), "name": image[:-4], "reason": "cannot be aligned" if is_last else ""},
        **kind.size,
        **pose,
    )
    score = 4.0 + number / 1000 if kind.regions else 1.0 + number / 100_000
    values = {"score": score, "threshold": 2.0, "p_value": 0.1}
    part = PartResult(
        **{"type": type_name, "image": image, "source": f"{type_name}/{image}", "overlay": None},
        **{"verdict": "error" if is_last else "fail" if kind.regions else "pass", "reason": record.reason},
        **(dict.fromkeys(values) if is_last else values),
        **kind.size,
        regions=() if is_last else kind.regions,
    )
    return StoredVerdict(source=record.source, stat=None, key="k", record=record, part=part, images=kind.images)


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


@contextmanager
def running(config: PhotographConfig, token: str = "") -> Iterator[int]:
    """Serve a component in this process, and yield the port. With a token, as if ``--host`` were given."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    access = replace(Access.to("127.0.0.1", port), token=token)
    options = {"log_config": None, "access_log": False, "lifespan": "off", "timeout_graceful_shutdown": 1}
    stopping = threading.Event()
    server = uvicorn.Server(uvicorn.Config(build_app(PhotographSite(config), access, stopping), **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        stopping.set()
        server.should_exit = True
        thread.join(5)
        listener.close()


@contextmanager
def command(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, as a user starts it; the block begins when it has printed its address."""
    line = [sys.executable, "-m", "pixal", "serve", "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": str(Path(pixal.__file__).parents[1])}
    process = subprocess.Popen(
        line, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])
