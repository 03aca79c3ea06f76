"""The database of the history: its schema, what is recorded, and that nothing is lost by kills and by other writers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from pixal.database import store as store_module
from pixal.database.rates import failure_rates, grouping
from pixal.database.recording import (
    BatchContent,
    BatchFiles,
    PhotographFacts,
    forget_batches,
    record_batches,
)
from pixal.database.schema import EXPLANATIONS, MARKS, METADATA, VIEWS
from pixal.database.selection import Selection
from pixal.database.store import SCHEMA, DamagedError, Store, set_aside
from pixal.errors import InputError, StorageError
from pixal.report.document import (
    BatchOrigin,
    DriftFinding,
    DriftSummary,
    ModelOrigin,
    ModelSummary,
    PartResult,
    PartTruth,
    ResultsDocument,
    TypeSummary,
)
from pixal.validation.regions import Region

EMPTY = ("comment", "made_by", "withdrawn_by", "withdrawn_at")
TRAINED = "2026-01-01T00:00:00+00:00"
ORIGIN = ModelOrigin(
    family="gaussian", name="n", trained=TRAINED, good_images=5, record_sha256="r", data_sha256="d", frame=(24, 32)
)


def part(number: int, verdict: str, **changes: Any) -> PartResult:
    score = {"pass": 1.0, "fail": 4.0, "error": None}[verdict]
    region = Region(1, 2, 3, 4, 5.0, 6.0, "R", (0, 1, 1, 2))
    content: dict[str, Any] = {
        **{"type": "front", "image": f"{number}.jpg", "source": f"x/{number}.jpg", "score": score, "p_value": None},
        **{"threshold": None if score is None else 2.0, "verdict": verdict, "reason": "", "overlay": None},
        **{"width": 640, "height": 480, "regions": (region,) if verdict == "fail" else ()},
    }
    return PartResult.model_validate(content | changes)


def batch(name: str, parts: list[PartResult], *, day: int = 1, model: ModelOrigin | None = ORIGIN) -> BatchFiles:
    """The files of a batch. Its photographs were taken on that day of November 2026, one per hour."""
    from datetime import datetime

    origin = BatchOrigin(name=name, source=f"/in/{name}", started=f"2026-11-{day:02d}T08:00:00+00:00")
    findings = [DriftFinding("front", "score", 1.0, 2.0, 1e-9, "rank", "Scores: higher", "Look.")] * (name == "drifted")
    types = {item.type for item in parts}
    summary = TypeSummary(
        **{"threshold": 2.0, "method": "tail", "false_alarm_rate": 0.01, "training_scores": (1.0,)},
        **{"parts": len(parts), "failed": 0, "errors": 0},
        model=model,
    )
    results = ResultsDocument(
        **{"component": "Part", "batch": origin, "created": origin.started, "pixal_version": "0.1.0"},
        model=ModelSummary(family="gaussian", name="n", trained=TRAINED, good_images=5),
        drift=DriftSummary(level=0.01, findings=tuple(findings)),
        types=dict.fromkeys(types, summary),
        parts=tuple(parts),
    )
    facts = {
        (item.type, item.image): PhotographFacts(
            f"/gone/{item.image}", f"{name} {item.image}", int(datetime(2026, 11, day, 1 + i % 20).timestamp() * 1e9)
        )
        for i, item in enumerate(parts)
        if item.verdict != "error"
    }
    return BatchFiles(origin, ".", 10, 20, lambda: BatchContent(results, facts))


def lot(name: str, day: int, failed: int, passed: int = 20, **changes: Any) -> BatchFiles:
    verdicts = ["fail"] * failed + ["pass"] * passed
    return batch(name, [part(i, verdict, **changes) for i, verdict in enumerate(verdicts)], day=day)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "a b%20?" / "history.db")
    assert store.path is not None
    store.path.parent.mkdir()
    yield store
    store.close()


def write(store: Store, *batches: BatchFiles) -> int:
    with store.writing() as connection:
        return record_batches(connection, batches)


def count(store: Store, table: str) -> int:
    with store.reading() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


class TestSchema:
    def test_the_migrations_make_what_the_code_reads(self, store: Store) -> None:
        write(store)
        with store.reading() as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, METADATA) == []
            assert context.get_current_revision() == SCHEMA
        assert ScriptDirectory(str(Path(store_module.__file__).parent / "migrations")).get_heads() == [SCHEMA]

    def test_tables_columns_and_views_explain_themselves(self, store: Store) -> None:
        write(store, lot("monday", 1, 2))
        with store.reading() as connection:
            explained = {
                (row.table_name, row.column_name): row.meaning for row in connection.execute(EXPLANATIONS.select())
            }
            for table in METADATA.sorted_tables:
                for name in ("", *table.columns.keys()):
                    assert explained[table.name, name].endswith("."), (table.name, name)
            rows = {view: connection.exec_driver_sql(f"SELECT * FROM {view}").mappings().all() for view in VIEWS}
        assert [dict(row) for row in rows["failures_by_batch"]] == [
            {
                **{"batch": "monday", "type": "front", "first_photograph": "2026-11-01T01:00:00"},
                **{"last_photograph": "2026-11-01T20:00:00", "parts": 22, "failed": 2, "errors": 0},
                "failure_rate": pytest.approx(2 / 22),
            }
        ]
        assert [row["part"] for row in rows["failed_parts"]] == ["0", "1"]

    def test_a_newer_schema_is_refused_and_a_file_that_is_no_database_named(self, store: Store) -> None:
        write(store)
        with store.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(InputError, match="newer version"):
            write(Store(store.path))
        assert store.path is not None
        store.path.write_bytes(b"no database" * 100)
        with pytest.raises(DamagedError, match="--rebuild"):
            write(Store(store.path))
        aside = set_aside(store.path)
        assert aside.read_bytes().startswith(b"no database")
        assert write(Store(store.path), lot("monday", 1, 2)) == 1

    def test_a_database_of_the_first_schema_gets_the_new_tables_and_keeps_its_marks(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(store_module, "SCHEMA", "0001")
            write(store, lot("monday", 1, 2))
            with store.writing() as connection:
                values = dict.fromkeys(MARKS.c.keys()[1:], "") | dict.fromkeys(("x", "y", "width", "height"))
                connection.execute(MARKS.insert(), values | {"score": 1.0, "threshold": 2.0, "comment": "dust"})
                with pytest.raises(OperationalError, match="no such table"):
                    connection.exec_driver_sql("SELECT * FROM photographs_to_look_at")
        newer = Store(store.path)
        assert write(newer) == 0
        assert [count(newer, table) for table in ("verdicts", "marks", "inspections")] == [22, 1, 0]
        assert count(newer, "photographs_to_look_at") == 0
        with newer.reading() as connection:
            assert compare_metadata(MigrationContext.configure(connection), METADATA) == []

    def test_a_file_of_the_user_stays(self, store: Store) -> None:
        from pixal.io import ownership

        assert store.path is not None
        ownership.claim(store.path.parent)
        store.path.write_bytes(b"mine")
        with pytest.raises(InputError, match="not written by PIXAL"):
            write(store)
        assert store.path.read_bytes() == b"mine"


class TestRecording:
    def test_everything_a_batch_has(self, store: Store) -> None:
        truth = PartTruth(1, "scratch")
        parts = [
            part(0, "fail", truth=truth),
            part(0, "pass", type="back"),
            part(1, "error", reason="is truncated", width=None, height=None),
        ]
        write(store, batch("drifted", parts))
        assert [count(store, name) for name in ("batches", "parts", "verdicts", "photographs")] == [1, 2, 3, 1]
        assert [count(store, name) for name in ("regions", "models", "data_sets", "drift_findings")] == [1, 2, 1, 1]
        with store.reading() as connection:
            row = connection.exec_driver_sql("SELECT * FROM verdicts WHERE verdict = 'error'").mappings().one()
            found = connection.exec_driver_sql("SELECT reference_x, reference_height, peak FROM regions").one()
            frame = connection.exec_driver_sql("SELECT DISTINCT frame_width, frame_height FROM models").one()
        assert (row["reason"], row["photograph_id"], row["score"]) == ("is truncated", None, None)
        assert row["taken"].startswith("2026-11-01T")
        assert (tuple(found), tuple(frame)) == ((0, 2, 6.0), (32, 24))

    def test_only_batches_that_changed_are_written_and_a_repeated_one_replaces_the_first(self, store: Store) -> None:
        first, second = lot("monday", 1, 2), lot("tuesday", 2, 1)
        assert write(store, first, second) == 2
        assert write(store, replace(first, read=lambda: pytest.fail("is unchanged")), second) == 0
        again = replace(lot("monday", 1, 9), modified=21)
        assert write(store, again, second) == 1
        with store.reading() as connection:
            rates = failure_rates(connection, "batch", Selection())
        assert [(rate.group, rate.failed) for rate in rates] == [("monday", 9), ("tuesday", 1)]
        assert count(store, "regions") == 10

    def test_a_batch_that_moved_keeps_its_verdicts(self, store: Store) -> None:
        first = lot("monday", 1, 2)
        write(store, first)
        renamed = first.origin.model_copy(update={"name": "lot 7"})
        moved = replace(first, origin=renamed, folder="batches/lot 7", read=lambda: pytest.fail("is unchanged"))
        assert write(store, moved) == 0
        with store.reading() as connection:
            assert [rate.group for rate in failure_rates(connection, "batch", Selection())] == ["lot 7"]

    def test_a_damaged_batch_is_named_and_the_others_are_recorded(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        def damaged() -> BatchContent:
            raise InputError("results.json is damaged")

        assert write(store, replace(lot("monday", 1, 2), read=damaged), lot("tuesday", 2, 1)) == 1
        assert caplog.messages == ["batch monday is left out of the history: results.json is damaged"]

    def test_results_of_earlier_versions_name_one_model(self, store: Store) -> None:
        write(store, batch("old", [part(0, "pass")], model=None))
        with store.reading() as connection:
            assert [rate.group for rate in failure_rates(connection, "model", Selection())] == [f"gaussian {TRAINED}"]

    def test_to_forget_and_to_record_again_gives_the_same_and_keeps_marks(self, store: Store) -> None:
        lots = [lot("monday", 1, 2), lot("drifted", 2, 9)]
        write(store, *lots)
        mark = {"batch": "monday", "type": "front", "image": "0.jpg", "photograph": "", "verdict": "fail"}
        with store.writing() as connection:
            connection.execute(
                MARKS.insert(), mark | {"mark": "false alarm", "made_at": TRAINED} | dict.fromkeys(EMPTY, "")
            )
        before = dump(store)
        with store.writing() as connection:
            forget_batches(connection)
            record_batches(connection, lots)
        assert dump(store) == before
        assert count(store, "marks") == 1


def dump(store: Store) -> dict[str, list[Any]]:
    with store.reading() as connection:
        return {
            table.name: sorted(map(str, connection.execute(table.select()).all())) for table in METADATA.sorted_tables
        }


class TestRates:
    def test_the_batch_that_differs_is_outside_its_limits_and_its_drift_is_named(self, store: Store) -> None:
        lots = [lot(name, day, 1) for day, name in enumerate(("a", "b", "c", "d"), start=1)]
        write(store, *lots[::-1], lot("drifted", 5, 15, 6))
        with store.reading() as connection:
            rates = failure_rates(connection, "batch", Selection())
        assert [(rate.group, rate.outside) for rate in rates] == [
            *(("a", ""), ("b", ""), ("c", ""), ("d", "")),
            ("drifted", "above"),
        ]
        assert [rate.drift for rate in rates] == [(), (), (), (), ("Scores: higher",)]
        assert rates[0].centre == pytest.approx(19 / 105)
        assert rates[0].scores == pytest.approx((0.5, 0.5, 0.5, 0.5, 0.5))
        assert rates[0].highest == 2.0

    def test_groupings_and_filters(self, store: Store) -> None:
        write(store, lot("a", 1, 2), lot("b", 2, 3), lot("c", 2, 4, type="back"))

        def groups(by: str, **selected: Any) -> list[tuple[str, str, int]]:
            with store.reading() as connection:
                rates = failure_rates(connection, grouping(by), Selection.of(**selected))
            return [(rate.type, rate.group, rate.failed) for rate in rates]

        assert groups("batch") == [("back", "c", 4), ("front", "a", 2), ("front", "b", 3)]
        assert groups("day", types=["front"]) == [("front", "2026-11-01", 2), ("front", "2026-11-02", 3)]
        assert groups("type") == [("back", "back", 4), ("front", "front", 5)]
        assert groups("model", batches=["a", "b"]) == [("front", f"gaussian {TRAINED}", 5)]
        assert groups("batch", until="2026-11-01") == [("front", "a", 2)]
        assert groups("batch", since="2026-11-02", types=["front"]) == [("front", "b", 3)]
        assert groups("batch", since="2026-11-01T02:00", until="2026-11-01T02:00") == [("front", "a", 1)]
        with pytest.raises(InputError, match="--by week"):
            groups("week")

    @pytest.mark.parametrize(
        ("selected", "message"),
        [
            ({"since": "yesterday"}, "--since 'yesterday' is not a day"),
            ({"since": "2026-11-03", "until": "2026-11-01"}, "--since 2026-11-03 is after --until 2026-11-01"),
            ({"types": ["left"]}, r"--type: the history has no left \(known: front\)"),
            ({"batches": ["z"]}, r"--batch: the history has no z \(known: a\)"),
        ],
    )
    def test_a_filter_that_cannot_be_met(self, store: Store, selected: dict[str, Any], message: str) -> None:
        write(store, lot("a", 1, 2))
        with pytest.raises(InputError, match=message), store.reading() as connection:
            Selection.of(**selected).check(connection)


WRITER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_history_database import lot, write
from pixal.database.store import Store
from pixal.database.recording import record_batches

store = Store(Path(sys.argv[1]))
if sys.argv[2] == "killed":
    with store.writing() as connection:
        connection.exec_driver_sql("PRAGMA cache_size = 1")  # pages are in the file before the end of the transaction
        record_batches(connection, [lot("killed", 2, 3, 400)])
        os.kill(os.getpid(), signal.SIGKILL)
for number in range(10):
    write(store, lot(f"{sys.argv[2]}{number}", 3, 1, 3))
"""


def start_writer(path: Path, name: str) -> subprocess.Popen[bytes]:
    script = textwrap.dedent(WRITER)
    return subprocess.Popen([sys.executable, "-c", script, str(path), name, str(Path(__file__).parent)])


class TestOtherProcesses:
    @pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
    def test_a_killed_writer_leaves_a_database_that_opens(self, store: Store) -> None:
        write(store, lot("monday", 1, 2))
        before = dump(store)
        assert store.path is not None
        size = store.path.stat().st_size
        assert start_writer(store.path, "killed").wait() == -signal.SIGKILL
        assert store.path.stat().st_size > size  # something unfinished was written
        assert dump(Store(store.path)) == before
        with closing(sqlite3.connect(store.path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert write(Store(store.path), lot("tuesday", 2, 1)) == 1

    def test_two_writers_lose_no_row(self, store: Store) -> None:
        """Both also make the tables, if there are none."""
        assert store.path is not None
        writers = [start_writer(store.path, name) for name in ("first", "second")]
        assert [writer.wait() for writer in writers] == [0, 0]
        assert [count(store, table) for table in ("batches", "verdicts", "regions")] == [20, 80, 20]

    def test_a_database_that_stays_locked_is_named(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        write(store)
        monkeypatch.setattr(store_module, "_WAIT", 0.05)
        with store.writing(), pytest.raises(StorageError, match="in use by another program"):
            write(Store(store.path))


def test_a_full_disk_is_named(new_disk: Callable[[int], Path]) -> None:
    store = Store(new_disk(300_000) / "history.db")
    write(store, lot("monday", 1, 2))
    with pytest.raises(StorageError, match="full"):
        write(store, lot("tuesday", 2, 0, 4000))
    assert count(store, "batches") == 1
