"""Write a trained model into one file, and unpack such a file after it was checked.

The file is a zip archive of uncompressed members, with fixed dates: the same model gives the same bytes. The comment of
the archive is the SHA-256 of all bytes before it.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pixal.errors import InputError
from pixal.io.arrays import ARCHIVE_ERRORS
from pixal.io.files import atomic_write, data_hash, file_hash, open_regular, reporting_storage
from pixal.io.names import comparable, printable
from pixal.train_model.model_file.licences import weights_of
from pixal.train_model.model_file.manifest import (
    LICENCES_FOLDER,
    MANIFEST,
    MODEL_FOLDER,
    RECORD,
    Manifest,
    Member,
    is_safe,
)
from pixal.train_model.stored_model import StoredModel, read_stored

MODEL_FILE_ENDING = ".pixal"

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold
_LARGEST_MANIFEST = 1 << 22  # bytes
_MOST_MEMBERS = 10_000
_DIGEST = 64  # hexadecimal digits of a SHA-256
_CHUNK = 1 << 20


def is_model_file(name: str) -> bool:
    """Whether ``--model`` names a model file, and not a type."""
    return name.endswith(MODEL_FILE_ENDING)


def write_model_file(path: Path, stored: StoredModel, *, task: str) -> Manifest:
    """Write a trained model into one file.

    Args:
        path: The file to write.
        stored: The model; its files were verified.
        task: The task that the model is for.

    Raises:
        InputError: A name in the model cannot be that of a file on other systems.
        ModelError: The model was replaced while it was read.
    """
    record = stored.record
    sources = {RECORD: stored.record_file}
    sources |= {f"{MODEL_FOLDER}/{name}": stored.folder / name for name in sorted(record.files)}
    weights, licence = weights_of(record)
    texts = {f"{LICENCES_FOLDER}/weights.txt": licence.encode()} if weights else {}
    for name in (*sources, record.component, stored.owner or record.component):
        if not is_safe(name):
            raise InputError(
                f"{printable(name)!r} cannot be the name of a file on all systems; rename the type, and train again"
            )
    members = {name: Member(size=len(data), sha256=data_hash(data)) for name, data in texts.items()}
    members |= {name: Member(size=source.stat().st_size, sha256=file_hash(source)) for name, source in sources.items()}
    manifest = Manifest.create(
        task=task,
        component=record.component,
        type=stored.owner,
        model=record.model,
        trained=record.created,
        versions=dict(getattr(record, "versions", {})),
        weights=weights,
        files={name: member.model_dump() for name, member in members.items()},
    )
    with atomic_write(path) as temporary:
        _write(temporary, {MANIFEST: manifest.as_bytes(), **texts}, sources)
    stored.check_unchanged()
    return manifest


def unpack_model_file(path: Path, folder: Path) -> tuple[Manifest, StoredModel]:
    """Check a model file, and unpack it into an empty folder.

    Args:
        path: The file.
        folder: A folder of the caller, who removes it; it may hold some files after an error.

    Returns:
        The manifest, and the model in ``folder``, whose files are verified.

    Raises:
        InputError: The file cannot be read, a newer version of PIXAL wrote it, or it is not exactly what PIXAL wrote.
        ModelError: The model in it is damaged.
    """
    with _reporting(path), open_regular(path) as file, zipfile.ZipFile(file) as archive:
        manifest = _checked_manifest(file, archive)
        for name, member in manifest.files.items():
            target = folder / name
            with reporting_storage(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy, _CHUNK)
            if file_hash(target) != member.sha256:
                raise InputError(f"its member {name} was changed")
    stored = read_stored(manifest.type, folder / RECORD, folder / MODEL_FOLDER, manifest.label)
    with _reporting(path):
        names = {f"{MODEL_FOLDER}/{name}" for name in stored.record.files}
        listed = {name for name in manifest.files if name.startswith(f"{MODEL_FOLDER}/")}
        if names != listed:
            raise InputError(f"it holds other files than its model has: {', '.join(sorted(names ^ listed))}")
        if manifest.type is not None and manifest.type not in stored.record.types:
            raise InputError(
                f"it names the type {manifest.type}, but its model is for {', '.join(stored.record.types)}"
            )
    return manifest, stored


def _write(path: Path, texts: Mapping[str, bytes], sources: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = bytes(_DIGEST)
        for name, data in texts.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data)
        for name, source in sources.items():
            member = archive.open(zipfile.ZipInfo(name, _DATE), "w", force_zip64=True)
            with source.open("rb") as file, member:
                shutil.copyfileobj(file, member, _CHUNK)
    with path.open("r+b") as file:
        digest = _digest(file)
        file.seek(-_DIGEST, 2)
        file.write(digest)


def _digest(file: BinaryIO) -> bytes:
    """The SHA-256 of all but the last bytes of a file, which hold it, as hexadecimal digits."""
    left, digest = file.seek(0, 2) - _DIGEST, hashlib.sha256()
    file.seek(0)
    while left > 0 and (data := file.read(min(_CHUNK, left))):
        digest.update(data)
        left -= len(data)
    return digest.hexdigest().encode()


def _checked_manifest(file: BinaryIO, archive: zipfile.ZipFile) -> Manifest:
    """Check everything but the hashes of the members, which are verified when they are unpacked."""
    members = archive.infolist()
    names = [member.filename for member in members]
    size = file.seek(0, 2)
    if len(names) > _MOST_MEMBERS:
        raise InputError(f"it contains {len(names)} members, more than a model can have")
    for name in names:
        if not is_safe(name):
            raise InputError(f"its member {printable(name)!r} leads out of the folder that it is unpacked in")
    if len({comparable(name) for name in names}) < len(names):
        raise InputError("it holds two members of the same name")
    if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
        raise InputError("it holds compressed or encrypted members, which pixal export does not write")
    if sum(member.file_size for member in members) > size:
        raise InputError("it claims to hold more bytes than the file has")
    if MANIFEST not in names:
        raise InputError(f"it has no {MANIFEST}")
    if archive.getinfo(MANIFEST).file_size > _LARGEST_MANIFEST:
        raise InputError(f"its {MANIFEST} is too large")
    manifest = Manifest.parse(archive.read(MANIFEST))
    expected, found = {MANIFEST, RECORD, *manifest.files}, set(names)
    if missing := sorted(expected - found):
        raise InputError(f"its member {printable(missing[0])} is missing")
    if extra := sorted(found - expected):
        raise InputError(f"its member {printable(extra[0])} is not listed in its {MANIFEST}")
    for name, member in manifest.files.items():
        if archive.getinfo(name).file_size != member.size:
            raise InputError(f"its member {name} was changed: it has another size")
    if archive.comment != _digest(file):
        raise InputError("it was changed after pixal export wrote it")
    return manifest


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Name the model file in errors, and turn those of a damaged archive into ``InputError``."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except ARCHIVE_ERRORS as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: it is not a file that pixal export wrote, or is damaged ({reason})") from error
