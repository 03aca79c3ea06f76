"""A coverage-guided fuzz target for the readers, with atheris (libFuzzer for Python).

    pip install "atheris>=3,<4"
    python tests/fuzz/fuzz_readers.py image 300

runs the reader ``image`` for 300 seconds on changed copies of the files of ``seeds.py`` and of ``corpus/image``. The
names of the readers are the keys of ``READERS``; ``all`` shares the time among them. A file that causes anything but
the errors of its reader is written to ``corpus/NAME/``, where ``tests/unit/test_fuzz_corpus.py`` replays it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
_ROOT = Path(__file__).parents[2]
_SECONDS_PER_TRY = 5
_MEGABYTES = 1500  # of the process; importing the libraries takes 300
_MAX_LENGTH = 20_000  # bytes of a file


def main(name: str, seconds: str = "60", only: str = "") -> int:
    """Fuzz one reader, or all; return 1 if a fault was found."""
    sys.path[:0] = [str(_ROOT), str(_ROOT / "tests")]
    if only:
        _fuzz(name, int(seconds))
    from fuzz.readers import READERS

    before = set(CORPUS.rglob("*"))
    names = list(READERS) if name == "all" else [name]
    share, broken = str(max(1, int(seconds) // len(names))), False
    for reader in names:  # libFuzzer ends the process
        broken |= bool(subprocess.run([sys.executable, __file__, reader, share, "only"], check=False).returncode)
    found = sorted(path for path in set(CORPUS.rglob("*")) - before if path.is_file())
    sys.stdout.write("".join(f"fault: {path}\n" for path in found))
    return int(broken or bool(found))


def _fuzz(name: str, seconds: int) -> None:
    """Fuzz a reader, and end the process."""
    import atheris

    with atheris.instrument_imports(include=["pixal", "PIL", "tifffile", "yaml"]):
        from fuzz.readers import accepts
        from fuzz.seeds import seeds

    found = CORPUS / name
    found.mkdir(parents=True, exist_ok=True)
    os.environ["OPENCV_LOG_LEVEL"] = "SILENT"
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as root:
        inputs, work = Path(root, "inputs"), Path(root, "work")
        inputs.mkdir()
        work.mkdir()
        for number, data in enumerate(seeds(work)[name]):
            (inputs / str(number)).write_bytes(data)

        faults: set[tuple[object, ...]] = set()

        def test(data: bytes) -> None:
            with tempfile.TemporaryDirectory(dir=work) as folder:
                try:
                    accepts(name, data, Path(folder))
                except Exception as error:
                    place = tuple(frame.line for frame in traceback.extract_tb(error.__traceback__)[-3:])
                    if (type(error), place) not in faults:  # go on, to find others
                        faults.add((type(error), place))
                        traceback.print_exc()
                        (found / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

        options = (f"-max_total_time={seconds}", f"-timeout={_SECONDS_PER_TRY}", f"-rss_limit_mb={_MEGABYTES}")
        options += (
            f"-max_len={_MAX_LENGTH}",
            f"-artifact_prefix={found}/",
            "-len_control=0",
            "-print_final_stats=1",
            "-seed=1",
        )
        atheris.Setup([sys.argv[0], *options, str(inputs), str(found)], test)
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
