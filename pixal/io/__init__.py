"""Files on disk: bytes, images, arrays, records, tables, journals, logs and locks."""
