"""How many times an attack is repeated."""

from __future__ import annotations

import os

SWITCH = "PIXAL_ATTACKS"
"""Environment variable: ``full`` runs each attack as often as ``docs/reliability.md`` states."""


def tries(fast: int, full: int) -> int:
    """Return ``fast``, the number for the test suite, or ``full`` where ``PIXAL_ATTACKS=full``."""
    return full if os.environ.get(SWITCH) == "full" else fast
