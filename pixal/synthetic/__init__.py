"""Renders a small flex circuit, its defects and its photographs: data for the demo and the tests."""

from __future__ import annotations

from pixal.synthetic.batch import Batch, write_batch
from pixal.synthetic.component import TYPES, draw_component
from pixal.synthetic.defects import KINDS, add_defect
from pixal.synthetic.photograph import Photograph, render_photograph

__all__ = [
    "KINDS",
    "TYPES",
    "Batch",
    "Photograph",
    "add_defect",
    "draw_component",
    "render_photograph",
    "write_batch",
]
