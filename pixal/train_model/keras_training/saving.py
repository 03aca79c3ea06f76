"""Keras models as files: written whole or not at all, and the same model as the same bytes."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from pixal.io.files import atomic_write

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can name


def save_weights(model: Any, path: Path) -> None:
    """Write the weights, ``path`` ending in ``.weights.h5``."""
    with atomic_write(path) as temporary:
        model.save_weights(temporary)


def save_whole(model: Any, path: Path) -> None:
    """Write the whole model, ``path`` ending in ``.keras`` or ``.h5``."""
    with atomic_write(path) as temporary:
        model.save(temporary)
        if path.suffix == ".keras":
            _as_by_anyone(temporary)


def _as_by_anyone(path: Path) -> None:
    """Write a ``.keras`` archive anew without what is only of this run: dates, and addresses of objects in memory."""
    theirs = path.with_name(f"theirs_{path.name}")
    path.replace(theirs)
    try:
        with zipfile.ZipFile(theirs) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
            for name in source.namelist():
                with source.open(name) as old, target.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=True) as new:
                    if name.endswith(".json"):
                        new.write(_plain_json(old.read()))
                    else:
                        shutil.copyfileobj(old, new, 1 << 20)
    finally:
        theirs.unlink()


def _plain_json(text: bytes) -> bytes:
    def plain(found: dict[str, Any]) -> dict[str, Any]:
        # An object's address, by which layers share their precision's policy; a policy each is as good.
        found.pop("shared_object_id", None)
        return found | {"date_saved": "1980-01-01@00:00:00"} if "date_saved" in found else found

    return json.dumps(json.loads(text, object_hook=plain)).encode()
