"""What made a result: versions and settings, and fingerprints of them."""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from pixal.io.records import to_builtin
from pixal.version import __version__

_LIBRARIES = ("numpy", "opencv-python-headless", "scikit-image", "keras", "rembg", "onnxruntime")


def provenance() -> dict[str, Any]:
    """When and with which versions something was made."""
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "pixal_version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": _versions(),
    }


def fingerprint(*parts: Any) -> str:
    """A key for what is made of ``parts`` (hashes, settings, names) by these versions of PIXAL and its libraries."""
    text = json.dumps([__version__, _versions(), to_builtin(parts)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
