"""Valid files for each reader, written by PIXAL's own writers where there is one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from checkpoints import checkpoint
from helpers import PATHS
from PIL import ExifTags, Image

from pixal.calibration.calibration import Calibration
from pixal.config.loading import DEFAULTS
from pixal.inputs import InputSetWriter
from pixal.io.arrays import save_arrays
from pixal.io.png import encode_png
from pixal.io.records import to_builtin, with_hash, write_record
from pixal.io.written_files import WrittenFile
from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.parts import PhotographRecord
from pixal.tasks.photographs.preprocessing.records import (
    AlignmentRecord,
    AlignmentStep,
    BackgroundRecord,
    BackgroundStep,
    InputFileRecord,
    InputRecord,
    InputStep,
    Layout,
    SharedRecord,
    StepRecord,
    TypeRecord,
    ValidationInputs,
)
from pixal.tasks.photographs.preprocessing.reference_file import ReferenceFile
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import AlignmentSettings, Preprocessing, RemoveBackground
from pixal.tracking.waiting_runs import RunEnd, RunStart, UnsentFile
from pixal.train_model.state_file import write_state

HASH = "0123456789abcdef" * 4
FRAME = (24, 32)
TENSORS = {"conv.weight": np.ones((2, 3), np.float32), "count": np.array(7, np.int64)}


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Valid files, by the name of their reader; ``folder`` is used to write them."""
    parameters, paths = ((DEFAULTS / f"{name}.yaml").read_bytes() for name in ("parameters", "paths"))
    section = yaml.safe_dump({"preprocessing": yaml.safe_load(parameters)["preprocessing"]}).encode()
    anchors = b"own: &own {pool_size: 1, zero_pruning: False}\npreprocessing:\n  preprocessor: *own\n"
    return {
        "image": _images(),
        "size": _images(),
        "fingerprint": [encode_png(_photograph(), fingerprint=HASH)],
        "parameters": [parameters, anchors.partition(b"\n")[2].replace(b"*own", b"{<<: &a {pool_size: 1}}")],
        "paths": [paths, PATHS.encode()],
        "preprocessing": [section],
        "override": [b"model_training.n_epochs=100", b"preprocessing.preprocessor.channels=[R, G]"],
        **_records(folder),
        "labels": [b"name,label,kind\na.png,1,scratch\nb.png,0,\n"],
        "unsent_run": [_unsent_run(folder)],
        **_archives(folder),
        "checkpoint": [checkpoint(TENSORS, old=old) for old in (False, True)],
    }


def _photograph() -> np.ndarray:
    y, x = np.mgrid[: FRAME[0], : FRAME[1]]
    return np.stack([8 * y, 7 * x, 4 * (x + y)], -1).astype(np.uint8)


def _images() -> list[bytes]:
    rgb = _photograph()
    alpha, deep = np.dstack([rgb, rgb[..., 0]]), rgb.astype(np.uint16) << 8
    images = [encode_png(values) for values in (rgb, rgb[..., 0], alpha, deep, np.dstack([deep, deep[..., 0]]))]
    images.append(cv2.imencode(".tif", deep)[1].tobytes())
    for kind in ("JPEG", "WEBP", "BMP"):
        images.append(_encoded(kind, Image.fromarray(rgb)))
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        images.append(_encoded("TIFF", Image.fromarray(rgb), compression=compression))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    images.append(_encoded("JPEG", Image.fromarray(rgb), exif=exif))
    for kind in ("PNG", "WEBP", "TIFF"):
        images.append(_encoded(kind, Image.fromarray(alpha), exif=exif))
    return [*images, _encoded("PNG", Image.fromarray(rgb).quantize(16), transparency=3)]


def _encoded(kind: str, image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _records(folder: Path) -> dict[str, list[bytes]]:
    photo: dict[str, Any] = {"image": "a.png", "source": "in/a.png", "status": "ok", "sha256": HASH, "name": "a"}
    failed: dict[str, Any] = {"image": "é b.png", "source": "in/é b.png", "status": "failed", "reason": "is truncated"}
    made: dict[str, Any] = {"file": "a_no_bg.png", "key": HASH, "file_sha256": HASH}
    pose = {"inliers": 40, "inlier_ratio": 0.5, "ssim": 0.9, "mse": 20.5} | {
        f"h{i}{j}": float(i == j) for i in range(3) for j in range(3)
    }
    light = {"red": 0.1, "green": 0.2, "blue": 0.3, "sharpness": 0.4}
    box = Box(2, 3, 10, 8)
    background = BackgroundRecord(**photo, **made, size=(32, 24), foreground=0.4, others=(box,))
    aligned = AlignmentRecord(**photo, **made, **pose)
    shared = SharedRecord(
        file="reference.npz",
        key=HASH,
        file_sha256=HASH,
        left_out_of_consensus=(("b", 0.5),),
        choice=HASH,
        reference="a",
    )
    figures = {"a_matches.jpg": WrittenFile(sha256=HASH, stat=(10, 20, 30))}
    seen: dict[str, Any] = {"stat": (10, 20, 30), "width": 32, "height": 24, "notes": ("a note",)}
    prepared = PhotographRecord(**photo, **pose, **light, **seen, figures=figures, input_sha256=HASH)
    settings = Preprocessing()
    of_type = TypeRecord(
        background_method="border", pool_size=1, crop_box=box, shape=(4, 5, 4), part_pixels=9, state_sha256=HASH
    )
    input_row = InputRecord(**{key: value for key, value in photo.items() if key != "name"}, **light, ssim=0.9)
    shape: dict[str, Any] = {"channels": ("LAB_L", "LAB_a", "LAB_b", "GradMag"), "shape": (4, 5, 4)}
    steps: dict[str, StepRecord] = {
        "background_record": BackgroundStep(
            method="border",
            layout=Layout(method="border", apply_alignment=True, reason="masks after alignment", key=HASH),
            model_sha256=None,
            settings=RemoveBackground(),
            images=(background, BackgroundRecord(**failed, name="b")),
        ),
        "alignment_record": AlignmentStep(
            reference="a.png", settings=AlignmentSettings(), images=(aligned,), made=(shared,)
        ),
        "input_record": InputStep(
            component="Part",
            input="out.npz",
            input_dim=80,
            **shape,
            n_images=1,
            sha256=HASH,
            photographs={"front": 2},
            types={"front": of_type},
            settings=settings,
            made=(InputFileRecord(file="out.npz", key=HASH, file_sha256=HASH, images={"front": (input_row,)}),),
        ),
        "validation_record": ValidationInputs(
            type="front",
            model="front",
            key=HASH,
            preprocessing_sha256=HASH,
            background_method="border",
            **shape,
            settings=settings,
            images=(prepared, PhotographRecord(**failed, name="b")),
        ),
    }
    written = {}
    for name, step in steps.items():
        step.write(folder / "record.yaml")
        written[name] = [(folder / "record.yaml").read_bytes()]
    write_record(folder / "record.yaml", with_hash(_model_record(shape)))
    written["model_record"] = [(folder / "record.yaml").read_bytes()]
    part: dict[str, Any] = {"type": "front", "image": "a.png", "source": "in/a.png", "score": 2.5, "p_value": 0.5}
    part |= {"threshold": 3.0, "verdict": "pass", "reason": "", "overlay": None, "width": 32, "height": 24}
    region = {"x": 1, "y": 2, "width": 3, "height": 4, "area_px": 9.5, "peak": 3.5, "channel": "R"}
    part |= {"regions": [region | {"reference": [1, 2, 3, 4]}]}
    verdict = {"source": "/in/a.png", "stat": [10, 20, 30], "key": HASH, "part": part, "row": 0}
    verdict |= {"record": prepared.as_row(), "files": {"a.tiff": {"sha256": HASH, "stat": [10, 20, 30]}}}
    lines = [record.model_dump(exclude_none=True) for record in (background, aligned, shared)]
    written["journal"] = [b"".join(_line(line) for line in lines)]
    written["verdicts"] = [_line(verdict | {"latent": [0.5, -1.0], "images": ["a.jpg", None, "b.jpg", None]})]
    written["manifest"] = [b'pixal files 1 0123\n+"a.png"\n+"b/c.png"\n-"a.png"\n']
    return written


def _model_record(shape: dict[str, Any]) -> dict[str, Any]:
    specification = {"model": "gaussian", "model_name": "pixal_gaussian", "one_hot_encoding": False, "input_dim": 80}
    specification |= {"autoencoder_architecture": [8, 4], "types": ["front"], "memory_limit": 4.0, **shape}
    specification |= {"channel_weights": [1.0, 1.0, 2.0, 1.0], "map_smoothing": 1.0, "hardware": {"device": "cpu"}}
    record = {"created": "2026-01-01T00:00:00+00:00", "pixal_version": "0.1.0", "component": "Part", "n_images": 5}
    record |= {"input": "out/Part/front/out.npz", "input_sha256": HASH, "fingerprint": HASH, "epochs_trained": 0}
    record |= {"final_loss": None, "training_seconds": 1.5, "settings": {"seed": 42}, "files": {"a.npz": HASH}}
    threshold = {"threshold": 2.5, "method": "conformal", "false_alarm_rate": 0.01}
    return specification | record | {"calibration": {"front": threshold}}


def _unsent_run(folder: Path) -> bytes:
    file = folder / "notes.txt"
    file.write_text("of the user")
    described = UnsentFile.of(file, "model")
    assert described is not None
    start = RunStart(
        id="a",
        store="local",
        session="",
        experiment="PIXAL",
        name="front",
        command="train",
        start_time=1,
        register_model=False,
    )
    end = RunEnd(status="FINISHED", time=2, name="front")
    entries = [{"start": start.model_dump()}, {"metrics": [["loss", 0.5, 1, 2]]}, {"params": {"seed": "42"}}]
    entries += [{"file": described.model_dump(mode="json")}, {"end": end.model_dump()}]
    return "".join(f"{json.dumps(entry)}\n" for entry in entries).encode()


def _archives(folder: Path) -> dict[str, list[bytes]]:
    rgb = _photograph()
    mask = np.zeros(FRAME, bool)
    mask[4:20, 4:28] = True
    reference = Reference.from_photograph(rgb, mask, 20)
    path = folder / "a.npz"
    settings = Preprocessing.model_validate({"preprocessor": {"edge_margin": 0}})
    PreprocessingState("front", reference, mask, ~mask & mask, Box(4, 4, 24, 16), None, settings).save(path)
    state = path.read_bytes()
    ReferenceFile(reference, mask.astype(np.float32), np.ones(FRAME, np.float32)).save(path)
    reference_file = path.read_bytes()
    with InputSetWriter(path, (2, 2, 3), ("R", "G", "B"), ("front", "back")) as writer:
        for name in ("front", "back"):
            writer.append(np.ones((2, 2, 3), np.float32), f"{name}.png", name)
    inputs = path.read_bytes()
    calibration = Calibration(np.ones((2, 2, 3), np.float32), np.array([1.0, 2.0]))
    save_arrays(path, variance_0=calibration.variance, scores_0=calibration.scores, stand_ins_0=np.array(False))
    arrays = path.read_bytes()
    write_state(path, [("weights", np.ones(3, np.float32))], {"epoch": 3})
    return {
        "state": [state],
        "reference": [reference_file],
        "inputs": [inputs],
        "rows": [inputs],
        "arrays": [arrays],
        "training_state": [path.read_bytes()],
    }


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(to_builtin(content)).encode() + b"\n"
