"""Read the rows of tables that say what photographs show: CSV and XLSX, with columns by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pixal.errors import InputError, nearest_hint
from pixal.extras import require_extra
from pixal.io.names import printable

if TYPE_CHECKING:
    import pandas as pd

_GOOD = frozenset({"0", "good", "ok", "pass", "passed", "i.o.", "io", "normal"})
_BAD = frozenset({"1", "bad", "defective", "nok", "n.i.o.", "nio", "fail", "failed", "reject", "anomaly"})
_TRAIN, _TEST = frozenset({"train", "training"}), frozenset({"test", "testing", "validation", "val"})


@dataclass(frozen=True)
class Columns:
    """The names of the columns.

    Attributes:
        file: The file name or path of the photograph.
        type: The image type; None: all photographs are of one type.
        label: Whether the part is good or defective; None: all are good, unless they have a kind.
        kind: The kind of the defect; None: not known.
        split: Whether the photograph is for training or for a test; None: good ones are for training.
    """

    file: str
    type: str | None = None
    label: str | None = None
    kind: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Row:
    """The row of a table for a photograph.

    Attributes:
        where: The table and the line, for messages.
        file: The file name or path.
        type: The image type; "" if the tables name none.
        is_good: Whether the part is good.
        kind: The kind of the defect; "" for a good part, or if it is not known.
        split: "train", "test", or "" if the tables do not say it.
    """

    where: str
    file: str
    type: str
    is_good: bool
    kind: str
    split: str


def read_rows(tables: Sequence[Path], columns: Columns) -> list[Row]:
    """Read the rows of all tables, in their order.

    Raises:
        InputError: A table cannot be read, lacks a column, or has a value that cannot be understood.
        ConfigError: An XLSX table is given, and openpyxl is not installed.
    """
    rows = []
    for table in tables:
        frame = _read(table)
        names = {str(name).strip(): str(name) for name in frame.columns}
        wanted = {key: value for key, value in vars(columns).items() if value is not None}
        for name in wanted.values():
            if name not in names:
                known = ", ".join(map(printable, names))
                raise InputError(f"{table} has no column {name} (columns: {known}){nearest_hint(name, names)}")
        for number, values in enumerate(frame.to_dict("records"), start=2):
            cells = {key: str(values[names[name]]).strip() for key, name in wanted.items()}
            if cells["file"]:
                rows.append(_row(f"{table}, line {number}", cells))
    if not rows:
        raise InputError(f"{', '.join(map(str, tables))}: no row names a file in the column {columns.file}")
    return rows


def _read(table: Path) -> pd.DataFrame:
    require_extra("pandas", f"{table}")
    import pandas as pd

    if not table.is_file():
        raise InputError(f"{table} does not exist")
    try:
        if table.suffix.lower() in (".xlsx", ".xlsm"):
            require_extra("openpyxl", f"{table}")
            return pd.read_excel(table, dtype=str, keep_default_na=False)
        with table.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max((",", ";", "\t"), key=header.count)
        return pd.read_csv(table, dtype=str, keep_default_na=False, sep=separator, encoding="utf-8-sig")
    except (ValueError, OSError, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{table} cannot be read as a table: {' '.join(str(error).split())}") from error
    except Exception as error:  # zipfile.BadZipFile and others that openpyxl lets through
        raise InputError(f"{table} is not a table that can be read: {' '.join(str(error).split())}") from error


def _row(where: str, cells: dict[str, str]) -> Row:
    kind, label = cells.get("kind", ""), cells.get("label", "").lower()
    if kind.lower() in _GOOD:
        kind = ""
    if label in _GOOD:
        is_good = True
    elif label in _BAD:
        is_good = False
    elif not label:
        is_good = not kind
    else:
        raise InputError(f"{where}: the label {printable(label)!r} is neither good (0, good, ok) nor bad (1, bad, nok)")
    split = cells.get("split", "").lower()
    if split and split not in _TRAIN | _TEST:
        raise InputError(f"{where}: {printable(split)!r} is neither train nor test")
    type_name = cells.get("type", "")
    for name in (type_name, kind):
        if Path(name).name != name or name in (".", "..") or printable(name) != name:
            raise InputError(f"{where}: {printable(name)!r} cannot be the name of a folder")
    use = "train" if split in _TRAIN else "test" if split else ""
    return Row(where, cells["file"], type_name, is_good, "" if is_good else kind, use)
