"""Files on disk: bytes, images, arrays, records, journals and locks."""
