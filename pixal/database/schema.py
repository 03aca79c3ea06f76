"""The tables of the history. ``migrations/`` creates and changes them; ``explanations`` describes each column.

Times are text in ISO 8601: local without a zone where a photograph was taken (as in EXIF), UTC elsewhere.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint

METADATA = MetaData()


def _key() -> Column[Any]:
    return Column("id", Integer, primary_key=True, comment="Number of the row.")


def _reference(name: str, target: str, comment: str, *, required: bool = True) -> Column[Any]:
    action = "CASCADE" if required else "SET NULL"
    return Column(name, ForeignKey(f"{target}.id", ondelete=action), nullable=not required, index=True, comment=comment)


def _text(name: str, comment: str, *, required: bool = True, **options: Any) -> Column[Any]:
    return Column(name, Text, nullable=not required, comment=comment, **options)


def _number(name: str, comment: str, *, required: bool = False) -> Column[Any]:
    return Column(name, Float, nullable=not required, comment=comment)


def _count(name: str, comment: str, *, required: bool = True) -> Column[Any]:
    return Column(name, Integer, nullable=not required, comment=comment)


EXPLANATIONS = Table(
    "explanations",
    METADATA,
    _text("table_name", "A table of this database.", primary_key=True),
    _text("column_name", "A column of the table; empty for the table itself.", primary_key=True),
    _text("meaning", "What it holds, with its unit."),
    comment="What each table and column holds.",
)

BATCHES = Table(
    "batches",
    METADATA,
    _key(),
    _text("name", "Name of the batch."),
    _text("source", "Folder of its photographs, or its only photograph."),
    _text("started", "When its first run began (UTC)."),
    _text("written", "When its results were written (UTC)."),
    _text("pixal_version", "Version of PIXAL that wrote them."),
    _text("folder", "Folder of its results, relative to that of this file; absolute if it is elsewhere."),
    _count("results_size", "Size of results.json in bytes, to notice that it has changed."),
    _count("results_modified", "Time of its modification in nanoseconds."),
    UniqueConstraint("source", "started"),
    comment="One row per batch.",
)

DATA_SETS = Table(
    "data_sets",
    METADATA,
    _key(),
    _text("sha256", "SHA-256 of the file of the model inputs, out.npz.", unique=True),
    _count("photographs", "Number of photographs of good parts."),
    comment="What models were trained on.",
)

MODELS = Table(
    "models",
    METADATA,
    _key(),
    _reference("data_set_id", "data_sets", "What it was trained on; empty if not known.", required=False),
    _text("type", "The image type whose parts it was used for."),
    _text("family", "Model family."),
    _text("name", "Name of its files."),
    _text("trained", "When it was trained (UTC)."),
    _text("sha256", "Hash of its record (record_sha256); empty if not known."),
    _count("frame_width", "Width of its input in pixels.", required=False),
    _count("frame_height", "Height of its input in pixels.", required=False),
    UniqueConstraint("type", "family", "name", "trained", "sha256"),
    comment="The models that gave the verdicts.",
)

PHOTOGRAPHS = Table(
    "photographs",
    METADATA,
    _key(),
    _text("sha256", "SHA-256 of the file.", unique=True),
    _count("width", "Width in pixels.", required=False),
    _count("height", "Height in pixels.", required=False),
    comment="One row per different photograph, by its content.",
)

PARTS = Table(
    "parts",
    METADATA,
    _key(),
    _reference("batch_id", "batches", "The batch."),
    _text("name", "Name of the part: the file name of its photographs without extension, the same for all views."),
    UniqueConstraint("batch_id", "name"),
    comment="The parts of a batch. Photographs of several types with the same name are views of one part.",
)

VERDICTS = Table(
    "verdicts",
    METADATA,
    _key(),
    _reference("batch_id", "batches", "The batch."),
    _reference("part_id", "parts", "The part."),
    _reference("photograph_id", "photographs", "The photograph; empty if it could not be read.", required=False),
    _reference("model_id", "models", "The model."),
    _text("type", "Image type: the view of the part."),
    _text("image", "Name of the photograph."),
    _text("source", "Path of the photograph."),
    _text("taken", "When it was taken (local time): from EXIF, else of its file."),
    _text("verdict", "pass, fail, or error: it could not be processed."),
    _number("score", "Largest value of the anomaly map."),
    _number("threshold", "A part fails above this score."),
    _number("p_value", "How often a good part would score this high."),
    Column("p_value_extrapolated", Boolean, nullable=False, comment="Whether it is below what ranks can give."),
    _text("reason", "Why it could not be processed; else remarks."),
    _text("overlay", "File of the overlay, relative to the folder of the batch.", required=False),
    _count("true_label", "0 good, 1 defective; empty without --truth.", required=False),
    _text("true_kind", "Kind of the defect by --truth.", required=False),
    UniqueConstraint("batch_id", "type", "image"),
    comment="One row per photograph of a batch: what results.csv has.",
)

REGIONS = Table(
    "regions",
    METADATA,
    _key(),
    _reference("verdict_id", "verdicts", "The verdict."),
    _count("rank", "1 is the worst region of the part."),
    *(_count(name, f"{name} of the box in pixels of the photograph.") for name in ("x", "y", "width", "height")),
    _number("area_px", "Area in pixels of the photograph.", required=True),
    _number("peak", "Largest value of the anomaly map.", required=True),
    _text("channel", "Channel that deviates most."),
    *(
        _count(f"reference_{name}", f"{name} of the box in pixels of the model input.")
        for name in ("x", "y", "width", "height")
    ),
    comment="The regions above the threshold. The same place on a part has the same reference box.",
)

DRIFT_FINDINGS = Table(
    "drift_findings",
    METADATA,
    _key(),
    _reference("batch_id", "batches", "The batch."),
    _text("type", "Image type."),
    _text("quantity", "Quantity that differs, such as brightness."),
    _number("training", "Median over the good parts of training.", required=True),
    _number("batch", "Median over the batch.", required=True),
    _number("p_value", "Probability of so large a difference by chance.", required=True),
    _text("message", "The finding in words."),
    _text("advice", "What to do about it."),
    comment="How batches differ from training.",
)

MARKS = Table(
    "marks",
    METADATA,
    _key(),
    _text("batch", "Name of the batch."),
    _text("type", "Image type."),
    _text("image", "Name of the photograph."),
    _text("photograph", "SHA-256 of the photograph; empty if not known."),
    _text("verdict", "The verdict that was marked."),
    _number("score", "Its score."),
    _number("threshold", "Its threshold."),
    _text("mark", "confirmed, false alarm, missed, or comment: a comment alone."),
    *(
        _count(name, f"{name} of a box around the defect, in pixels of the photograph.", required=False)
        for name in ("x", "y", "width", "height")
    ),
    _text("comment", "What the inspector wrote."),
    _text("made_by", "Who marked it; empty if not known."),
    _text("made_at", "When the mark was stored (UTC)."),
    _text("withdrawn_by", "Who took the mark back; empty while it holds, or if not known."),
    _text("withdrawn_at", "When the mark was taken back (UTC); empty while it holds."),
    Index("ix_marks_photograph", "type", "image", "photograph"),
    comment="What inspectors said about verdicts. This table has no other source: keep a copy of the file.",
)

INSPECTIONS = Table(
    "inspections",
    METADATA,
    _key(),
    _text("name", "Name of the folder of its results."),
    _text("source", "Folder of the photographs."),
    _text("against", "Folder that they were compared with; empty without one."),
    _text("created", "When it was made (UTC)."),
    _text("pixal_version", "Version of PIXAL that made it."),
    _text("folder", "Folder of its page and table.", unique=True),
    _count("record_size", "Size of inspection.yaml in bytes, to notice that it has changed."),
    _count("record_modified", "Time of its modification in nanoseconds."),
    comment="One row per folder of photographs that pixal inspect has measured.",
)

INSPECTED_PHOTOGRAPHS = Table(
    "inspected_photographs",
    METADATA,
    _key(),
    _reference("inspection_id", "inspections", "The inspection."),
    _reference("photograph_id", "photographs", "The photograph; empty if it could not be read.", required=False),
    _text("type", "Image type."),
    _text("image", "Name of the photograph."),
    _text("source", "Path of the photograph."),
    _text("format", "Format by the first bytes; empty if the file is no image."),
    _count("bytes", "Size of the file.", required=False),
    _count("bits", "Bits per channel.", required=False),
    _number("mean", "Mean grey level, in [0, 1]."),
    _number("spread", "Standard deviation of the grey levels: the contrast."),
    _number("minimum", "Smallest grey level."),
    _number("maximum", "Largest grey level."),
    *(_number(name, f"Mean of the {name} channel, in [0, 1].") for name in ("red", "green", "blue")),
    _number("noise", "Standard deviation of the noise, in [0, 1]."),
    _number("sharpness", "Standard deviation of the Laplacian divided by that of the grey levels, at half size."),
    _number("clipped_dark", "Fraction of the pixels that are black."),
    _number("clipped_bright", "Fraction of the pixels with a saturated channel."),
    _text("hash", "Perceptual hash, 256 bits as hexadecimal digits; empty if it could not be read."),
    _text("findings", "Kinds of findings that name the photograph, joined by +."),
    _text("use", "Suggested use: train, check or leave out."),
    _text("reason", "Why it is left out, or cannot be read."),
    comment="The figures of each inspected photograph: what photographs.csv has.",
)

INSPECTION_FINDINGS = Table(
    "inspection_findings",
    METADATA,
    _key(),
    _reference("inspection_id", "inspections", "The inspection."),
    _text("type", "Image type."),
    _text("kind", "Short name, such as blurred."),
    _text("message", "The finding in words."),
    _text("advice", "What to do about it."),
    _count("photographs", "Number of photographs that it names; 0 if it is about all."),
    comment="What pixal inspect found, the most important first.",
)

DERIVED = (
    *(BATCHES, DATA_SETS, MODELS, PHOTOGRAPHS, PARTS, VERDICTS, REGIONS, DRIFT_FINDINGS),
    *(INSPECTIONS, INSPECTED_PHOTOGRAPHS, INSPECTION_FINDINGS),
)
"""The tables that are made from files, in an order in which rows can be inserted."""

_RATES = """sum(v.verdict != 'error') AS parts, sum(v.verdict = 'fail') AS failed,
            sum(v.verdict = 'error') AS errors,
            1.0 * sum(v.verdict = 'fail') / nullif(sum(v.verdict != 'error'), 0) AS failure_rate"""

VIEWS = {
    "failures_by_batch": f"""
        SELECT b.name AS batch, v.type AS type, min(v.taken) AS first_photograph, max(v.taken) AS last_photograph,
            {_RATES}
        FROM verdicts v JOIN batches b ON b.id = v.batch_id GROUP BY b.id, v.type ORDER BY first_photograph""",
    "failures_by_day": f"""
        SELECT substr(v.taken, 1, 10) AS day, v.type AS type,
            {_RATES}
        FROM verdicts v GROUP BY day, v.type ORDER BY day""",
    "failed_parts": """
        SELECT b.name AS batch, p.name AS part, v.type AS type, v.image AS image, v.taken AS taken, v.score AS score,
               v.threshold AS threshold, v.p_value AS p_value, count(r.id) AS regions, m.family AS model,
               m.trained AS model_trained
        FROM verdicts v JOIN batches b ON b.id = v.batch_id JOIN parts p ON p.id = v.part_id
        JOIN models m ON m.id = v.model_id LEFT JOIN regions r ON r.verdict_id = v.id
        WHERE v.verdict = 'fail' GROUP BY v.id ORDER BY v.taken""",
    "photographs_to_look_at": """
        SELECT i.name AS inspection, i.created AS created, p.type AS type, p.image AS image, p.findings AS findings,
               p.use AS use, p.reason AS reason, p.source AS source
        FROM inspected_photographs p JOIN inspections i ON i.id = p.inspection_id
        WHERE p.findings != '' ORDER BY i.created, p.id""",
}
"""Views for people who open the file: name, and what it selects."""


def explanation_rows() -> list[dict[str, str]]:
    """The rows of ``explanations``."""
    rows = []
    for table in METADATA.sorted_tables:
        rows.append({"table_name": table.name, "column_name": "", "meaning": table.comment or ""})
        rows += [
            {"table_name": table.name, "column_name": column.name, "meaning": column.comment or ""}
            for column in table.columns
        ]
    return rows
