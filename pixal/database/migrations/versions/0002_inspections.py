"""What ``pixal inspect`` found."""

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    """
    CREATE TABLE inspections (
        id INTEGER NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL, against TEXT NOT NULL, created TEXT NOT NULL,
        pixal_version TEXT NOT NULL, folder TEXT NOT NULL, record_size INTEGER NOT NULL,
        record_modified INTEGER NOT NULL, PRIMARY KEY (id), UNIQUE (folder)
    )""",
    """
    CREATE TABLE inspected_photographs (
        id INTEGER NOT NULL, inspection_id INTEGER NOT NULL, photograph_id INTEGER, type TEXT NOT NULL,
        image TEXT NOT NULL, source TEXT NOT NULL, format TEXT NOT NULL, bytes INTEGER, bits INTEGER, mean FLOAT,
        spread FLOAT, minimum FLOAT, maximum FLOAT, red FLOAT, green FLOAT, blue FLOAT, noise FLOAT, sharpness FLOAT,
        clipped_dark FLOAT, clipped_bright FLOAT, hash TEXT NOT NULL, findings TEXT NOT NULL, use TEXT NOT NULL,
        reason TEXT NOT NULL, PRIMARY KEY (id),
        FOREIGN KEY(inspection_id) REFERENCES inspections (id) ON DELETE CASCADE,
        FOREIGN KEY(photograph_id) REFERENCES photographs (id) ON DELETE SET NULL
    )""",
    "CREATE INDEX ix_inspected_photographs_inspection_id ON inspected_photographs (inspection_id)",
    "CREATE INDEX ix_inspected_photographs_photograph_id ON inspected_photographs (photograph_id)",
    """
    CREATE TABLE inspection_findings (
        id INTEGER NOT NULL, inspection_id INTEGER NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL,
        message TEXT NOT NULL, advice TEXT NOT NULL, photographs INTEGER NOT NULL, PRIMARY KEY (id),
        FOREIGN KEY(inspection_id) REFERENCES inspections (id) ON DELETE CASCADE
    )""",
    "CREATE INDEX ix_inspection_findings_inspection_id ON inspection_findings (inspection_id)",
)


def upgrade() -> None:
    """Create the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
