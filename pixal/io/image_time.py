"""When a photograph was taken."""

from __future__ import annotations

import warnings
from datetime import datetime, timezone
from pathlib import Path

import PIL.ExifTags
import PIL.Image

_EXIF_FORMAT = "%Y:%m:%d %H:%M:%S"  # Exif 2.3, section 4.6.4


def time_taken(path: Path) -> datetime:
    """The local time at which a photograph was taken, without a time zone.

    This is the time in its EXIF data; without one, the modification time of the file; without a file, now.
    """
    stated = _exif_time(path)
    if stated is not None:
        return stated
    try:
        return datetime.fromtimestamp(path.stat().st_mtime)  # local, like EXIF
    except (OSError, OverflowError, ValueError):
        return datetime.now(timezone.utc).astimezone().replace(tzinfo=None)


def _exif_time(path: Path) -> datetime | None:
    try:
        if not path.is_file():  # opening a named pipe would wait for ever
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on damaged EXIF data, and large images, which are not decoded here
            with PIL.Image.open(path) as file:
                # For a PNG without EXIF in its header, getexif would decode the whole image to search after the pixels.
                if "exif" not in file.info and file.format != "TIFF":
                    return None
                exif = file.getexif()
                original = exif.get_ifd(PIL.ExifTags.IFD.Exif).get(PIL.ExifTags.Base.DateTimeOriginal)
                text = original or exif.get(PIL.ExifTags.Base.DateTime)
        return datetime.strptime(str(text).strip("\0 "), _EXIF_FORMAT)
    except Exception:  # whatever Pillow raises for a file that is no image; ``read_image`` reports it
        return None
