"""The report of a validated batch: one HTML page that opens anywhere, without network."""

from __future__ import annotations

from pixal.report.render import write_report

__all__ = ["write_report"]
