"""Results as data frames, and in notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pixal.errors import ConfigError
from pixal.outcome import Tabular
from pixal.report.document import PartResult
from pixal.tasks.photographs.probing.evaluation import Evaluation, TypeEvaluation
from pixal.tasks.photographs.probing.reconstruction import MeasureStatistics
from pixal.tasks.photographs.sensitivity.run import Sensitivity
from pixal.tasks.photographs.verdicts.benchmark_results import MASTER_COLUMNS, ClassResult, MasterResults
from pixal.tasks.photographs.verdicts.results import RESULT_COLUMNS, Batch


@dataclass(frozen=True)
class Table(Tabular):
    rows_: Sequence[Mapping[str, Any]]
    columns = ("name", "score")
    headline = "<two> rows"
    written = (Path("out/a & b.csv"),)

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        return self.rows_


def test_a_notebook_shows_the_first_rows_and_escapes_names() -> None:
    rows = [{"name": "<img src=x>", "score": 0.123456}, {"name": "b"}, *({"name": f"n{i}"} for i in range(25))]
    text = Table(rows)._repr_html_()
    assert "<p><strong>&lt;two&gt; rows</strong></p>" in text
    assert "<th>name</th><th>score</th>" in text
    assert "<td>&lt;img src=x&gt;</td><td>0.1235</td>" in text
    assert "<td>b</td><td></td>" in text
    assert "<td>n17</td>" in text
    assert "n18" not in text
    assert "7 more rows" in text
    assert "<li>out/a &amp; b.csv</li>" in text


def test_a_data_frame_has_all_rows_and_columns() -> None:
    pytest.importorskip("pandas")
    frame = Table([{"name": "a", "score": 1.5}, {"name": "b"}]).to_pandas()
    assert list(frame.columns) == ["name", "score"]
    assert frame["score"].isna().tolist() == [False, True]


def test_a_data_frame_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"pandas, which is not installed: pip install 'pixal\[tables\]'"):
        Table([]).to_pandas()


def part(image: str, verdict: str, score: float | None) -> PartResult:
    content = {"type": "front", "image": image, "source": image, "score": score, "p_value": 0.5, "threshold": 3.0}
    content |= {"verdict": verdict, "reason": "", "overlay": None, "width": 32, "height": 24}
    return PartResult.model_validate(content)


def test_the_table_of_a_batch_is_its_results_csv(tmp_path: Path) -> None:
    (tmp_path / "results.csv").touch()
    batch = Batch(tmp_path, parts=(part("a.png", "pass", 1.0), part("b.png", "fail", 4.0)))
    assert batch.columns == RESULT_COLUMNS
    assert [(row["image"], row["score"], row["verdict"]) for row in batch.rows] == [
        ("a.png", 1.0, "pass"),
        ("b.png", 4.0, "fail"),
    ]
    assert batch.headline == "2 photographs: 1 pass, 1 fail, 0 could not be processed"
    assert batch.written == (tmp_path / "results.csv",)


def test_the_table_of_a_benchmark_ends_with_the_mean(tmp_path: Path) -> None:
    classes = [
        ClassResult.model_validate({"class": name, "model": "gaussian", "image_auroc": value, "status": "ok"})
        for name, value in (("a", 0.8), ("b", 0.6))
    ]
    results = MasterResults(tmp_path / "t.csv", classes)
    assert results.columns == MASTER_COLUMNS
    assert [(row["class"], row["image_auroc"]) for row in results.rows] == [
        ("a", 0.8),
        ("b", 0.6),
        ("mean", pytest.approx(0.7)),
    ]
    assert results.written == ()
    assert MasterResults(tmp_path / "t.csv").rows == []


def test_the_tables_of_evaluation_and_sensitivity(tmp_path: Path) -> None:
    of_type = TypeEvaluation(
        "Part", "front", "gaussian", None, None, 4, (), {"mse": MeasureStatistics(0.1, 0.02, {})}, ()
    )
    evaluation = Evaluation({"front": of_type}, files=[tmp_path / "evaluation.yaml"])
    assert evaluation.rows == [{"type": "front", "images": 4, "measure": "mse", "mean": 0.1, "std": 0.02}]
    assert evaluation.written == (tmp_path / "evaluation.yaml",)
    sensitivity = Sensitivity({"front": ["scratches: 2 px", "spots: 4 px"]}, {"front": tmp_path / "s.yaml"})
    assert sensitivity.rows == [
        {"type": "front", "finding": "scratches: 2 px"},
        {"type": "front", "finding": "spots: 4 px"},
    ]
    assert sensitivity.headline == "1 type measured with planted defects"
