"""Record the versions that made a result, and compute fingerprints of what it was made from."""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from typing import Any

from pixal.io.records import to_builtin
from pixal.version import __version__

# Libraries whose version can change a result.
_LIBRARIES = ("numpy", "opencv-python-headless", "scikit-image", "keras", "rembg", "onnxruntime")


def provenance() -> dict[str, Any]:
    """The current time, and the versions of PIXAL, Python and the libraries, for a metadata file."""
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "pixal_version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": dict(_versions()),
    }


def fingerprint(*parts: Any) -> str:
    """SHA-256 of everything that a result depends on. A stored result with the same fingerprint still holds.

    Args:
        parts: Hashes, settings and names. The versions of PIXAL and its libraries are included automatically.
    """
    text = json.dumps([__version__, _versions(), to_builtin(parts)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
