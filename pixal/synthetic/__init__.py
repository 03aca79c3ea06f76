"""Render a small flex circuit, its defects and photographs of it, for the demo and the tests."""

from __future__ import annotations

from pixal.synthetic.batch import RenderedBatch, write_batch
from pixal.synthetic.component import TYPES, draw_component
from pixal.synthetic.defects import KINDS, add_defect
from pixal.synthetic.photograph import RenderedPhotograph, render_photograph

__all__ = [
    "KINDS",
    "TYPES",
    "RenderedBatch",
    "RenderedPhotograph",
    "add_defect",
    "draw_component",
    "render_photograph",
    "write_batch",
]
