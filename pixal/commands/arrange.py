"""The command ``arrange``: tables and folders become an input folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixal.outcome import Results


def arrange(
    tables: Sequence[str | Path],
    photographs: Sequence[str | Path],
    out: str | Path,
    *,
    file: str = "file",
    type: str | None = None,
    label: str | None = None,
    kind: str | None = None,
    split: str | None = None,
    truth: bool = False,
    link: bool = False,
    steps: Sequence[str] = (),
    test_ratio: float = 0.0,
) -> Results:
    """Make an input folder, or the truth of a batch, from tables that say what photographs show.

    Good parts go to ``OUT/[TYPE/]train/good``, others to ``OUT/[TYPE/]test/KIND``, in the layout of MVTec AD, which
    ``preprocess``, ``validate`` and ``benchmark`` read. ``arranged.yaml`` says where each file comes from. Nothing is
    overwritten.

    Args:
        tables: CSV or XLSX files. Their rows are combined.
        photographs: Folders of photographs; those below them are searched, too.
        out: The folder to make.
        file: The column with the file name or path.
        type: The column with the image type. Default: all photographs are of one type.
        label: The column that says whether a part is good (0, good, ok) or defective (1, bad, nok). Default: those
            without a kind are good.
        kind: The column with the kind of the defect.
        split: The column that says whether a photograph is for ``train`` or ``test``. Default: good ones are for
            training, except ``test_ratio``.
        truth: Write ``OUT/[TYPE/]labels.csv``, for ``validate --truth``, instead of photographs.
        link: Make symbolic links instead of copies.
        steps: What to do with each photograph, in this order: ``grey``, ``equalize`` (the histogram of its brightness),
            ``canny`` (its edges).
        test_ratio: Share of the good parts that go to ``test/good``.

    Returns:
        The number of photographs in each folder; rows that match no photograph are its ``failures``.

    Raises:
        InputError: A table cannot be read or lacks a column, or nothing matches.
        ConfigError: An XLSX table is given, and openpyxl is not installed.
    """
    from pixal.tasks.photographs.arranging.run import arrange as run
    from pixal.tasks.photographs.arranging.tables import Columns

    return run(
        [Path(table) for table in tables],
        [Path(folder) for folder in photographs],
        Path(out),
        Columns(file, type, label, kind, split),
        truth=truth,
        link=link,
        steps=steps,
        test_ratio=test_ratio,
    )
