"""The report of a validated batch: one HTML page that works without a network."""

from __future__ import annotations

from pixal.report.document import ResultsDocument
from pixal.report.render import write_report

__all__ = ["ResultsDocument", "write_report"]
