"""Write Keras models to files: complete or not at all, and the same model as the same bytes."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from pixal.io.files import atomic_write

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold


def save_weights(model: Any, path: Path) -> None:
    """Write the weights; ``path`` ends in ``.weights.h5``."""
    with atomic_write(path) as temporary:
        model.save_weights(temporary)


def save_model(model: Any, path: Path) -> None:
    """Write the whole model; ``path`` ends in ``.keras`` or ``.h5``."""
    with atomic_write(path) as temporary:
        model.save(temporary)
        if path.suffix == ".keras":
            _make_reproducible(temporary)


def _make_reproducible(path: Path) -> None:
    """Rewrite a ``.keras`` archive without dates and addresses of objects in memory."""
    original = path.with_name(f"original_{path.name}")
    path.replace(original)
    try:
        with zipfile.ZipFile(original) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
            for name in source.namelist():
                with source.open(name) as old, target.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=True) as new:
                    if name.endswith(".json"):
                        new.write(_without_run_details(old.read()))
                    else:
                        shutil.copyfileobj(old, new, 1 << 20)
    finally:
        original.unlink()


def _without_run_details(text: bytes) -> bytes:
    def clean(node: dict[str, Any]) -> dict[str, Any]:
        # An object's address, by which layers share one precision policy; one policy per layer is equivalent.
        node.pop("shared_object_id", None)
        return node | {"date_saved": "1980-01-01@00:00:00"} if "date_saved" in node else node

    return json.dumps(json.loads(text, object_hook=clean)).encode()
