"""``pixal demo`` with few, small photographs, as a command."""

from __future__ import annotations

from functools import partial

import pixal
from pixal import cli
from pixal.commands.demo import demo


def main() -> int:
    pixal.demo = partial(demo, train_images=4, parts=1, frame_size=(240, 135))  # type: ignore[assignment]
    return cli.main()
