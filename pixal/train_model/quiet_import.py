"""Import TensorFlow without the routine messages of its libraries, and without needless garbage collections."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_ROUTINE_MESSAGES = (b"before absl::InitializeLog()", b"oneDNN custom operations are on")


@contextmanager
def without_tensorflow_messages() -> Iterator[None]:
    """Drop the messages about oneDNN and absl from standard error; pass on all others.

    These libraries write to file descriptor 2 directly, so Python's ``sys.stderr`` and log levels do not catch them.

    TensorFlow makes about a million objects, which stay until the process ends. The garbage collector, which would go
    over them again and again, is off meanwhile, and leaves them out from then on.
    """
    collects, was_imported = gc.isenabled(), "tensorflow" in sys.modules
    gc.disable()
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            if collects:
                gc.enable()
            if not was_imported and "tensorflow" in sys.modules:
                gc.freeze()
            os.dup2(stderr, 2)
            os.close(stderr)
            captured.seek(0)
            for line in captured:
                if not any(message in line for message in _ROUTINE_MESSAGES):
                    os.write(2, line)
