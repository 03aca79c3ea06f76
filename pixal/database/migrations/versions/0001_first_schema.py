"""The first schema."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE batches (
        id INTEGER NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL, started TEXT NOT NULL,
        written TEXT NOT NULL, pixal_version TEXT NOT NULL, folder TEXT NOT NULL,
        results_size INTEGER NOT NULL, results_modified INTEGER NOT NULL, PRIMARY KEY (id),
        UNIQUE (source, started)
    )""",
    """
    CREATE TABLE data_sets (
        id INTEGER NOT NULL, sha256 TEXT NOT NULL, photographs INTEGER NOT NULL, PRIMARY KEY (id),
        UNIQUE (sha256)
    )""",
    """
    CREATE TABLE explanations (
        table_name TEXT NOT NULL, column_name TEXT NOT NULL, meaning TEXT NOT NULL,
        PRIMARY KEY (table_name, column_name)
    )""",
    """
    CREATE TABLE marks (
        id INTEGER NOT NULL, batch TEXT NOT NULL, type TEXT NOT NULL, image TEXT NOT NULL,
        photograph TEXT NOT NULL, verdict TEXT NOT NULL, score FLOAT, threshold FLOAT, mark TEXT NOT NULL,
        x INTEGER, y INTEGER, width INTEGER, height INTEGER, comment TEXT NOT NULL, made_by TEXT NOT NULL,
        made_at TEXT NOT NULL, withdrawn_by TEXT NOT NULL, withdrawn_at TEXT NOT NULL, PRIMARY KEY (id)
    )""",
    "CREATE INDEX ix_marks_photograph ON marks (type, image, photograph)",
    """
    CREATE TABLE photographs (
        id INTEGER NOT NULL, sha256 TEXT NOT NULL, width INTEGER, height INTEGER, PRIMARY KEY (id),
        UNIQUE (sha256)
    )""",
    """
    CREATE TABLE drift_findings (
        id INTEGER NOT NULL, batch_id INTEGER NOT NULL, type TEXT NOT NULL, quantity TEXT NOT NULL,
        training FLOAT NOT NULL, batch FLOAT NOT NULL, p_value FLOAT NOT NULL, message TEXT NOT NULL,
        advice TEXT NOT NULL, PRIMARY KEY (id),
        FOREIGN KEY(batch_id) REFERENCES batches (id) ON DELETE CASCADE
    )""",
    "CREATE INDEX ix_drift_findings_batch_id ON drift_findings (batch_id)",
    """
    CREATE TABLE models (
        id INTEGER NOT NULL, data_set_id INTEGER, type TEXT NOT NULL, family TEXT NOT NULL, name TEXT NOT NULL,
        trained TEXT NOT NULL, sha256 TEXT NOT NULL, frame_width INTEGER, frame_height INTEGER,
        PRIMARY KEY (id), UNIQUE (type, family, name, trained, sha256),
        FOREIGN KEY(data_set_id) REFERENCES data_sets (id) ON DELETE SET NULL
    )""",
    "CREATE INDEX ix_models_data_set_id ON models (data_set_id)",
    """
    CREATE TABLE parts (
        id INTEGER NOT NULL, batch_id INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (id),
        UNIQUE (batch_id, name), FOREIGN KEY(batch_id) REFERENCES batches (id) ON DELETE CASCADE
    )""",
    "CREATE INDEX ix_parts_batch_id ON parts (batch_id)",
    """
    CREATE TABLE verdicts (
        id INTEGER NOT NULL, batch_id INTEGER NOT NULL, part_id INTEGER NOT NULL, photograph_id INTEGER,
        model_id INTEGER NOT NULL, type TEXT NOT NULL, image TEXT NOT NULL, source TEXT NOT NULL,
        taken TEXT NOT NULL, verdict TEXT NOT NULL, score FLOAT, threshold FLOAT, p_value FLOAT,
        p_value_extrapolated BOOLEAN NOT NULL, reason TEXT NOT NULL, overlay TEXT, true_label INTEGER,
        true_kind TEXT, PRIMARY KEY (id), UNIQUE (batch_id, type, image),
        FOREIGN KEY(batch_id) REFERENCES batches (id) ON DELETE CASCADE,
        FOREIGN KEY(part_id) REFERENCES parts (id) ON DELETE CASCADE,
        FOREIGN KEY(photograph_id) REFERENCES photographs (id) ON DELETE SET NULL,
        FOREIGN KEY(model_id) REFERENCES models (id) ON DELETE CASCADE
    )""",
    "CREATE INDEX ix_verdicts_batch_id ON verdicts (batch_id)",
    "CREATE INDEX ix_verdicts_model_id ON verdicts (model_id)",
    "CREATE INDEX ix_verdicts_part_id ON verdicts (part_id)",
    "CREATE INDEX ix_verdicts_photograph_id ON verdicts (photograph_id)",
    """
    CREATE TABLE regions (
        id INTEGER NOT NULL, verdict_id INTEGER NOT NULL, rank INTEGER NOT NULL, x INTEGER NOT NULL,
        y INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, area_px FLOAT NOT NULL,
        peak FLOAT NOT NULL, channel TEXT NOT NULL, reference_x INTEGER NOT NULL, reference_y INTEGER NOT NULL,
        reference_width INTEGER NOT NULL, reference_height INTEGER NOT NULL, PRIMARY KEY (id),
        FOREIGN KEY(verdict_id) REFERENCES verdicts (id) ON DELETE CASCADE
    )""",
    "CREATE INDEX ix_regions_verdict_id ON regions (verdict_id)",
)


def upgrade() -> None:
    """Create all tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
