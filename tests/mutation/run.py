"""Mutation testing: change the source of scoring, calibration and thresholds, and see that a test notices.

    python tests/mutation/run.py                    # all modules
    python tests/mutation/run.py validation.scoring # some

Each mutant runs the tests of its module in a process of its own, forked from one that has the libraries loaded: a tenth
of a second for most. Mutants that no test notices are listed. Those in ``equivalent.yaml`` change nothing that a test
could see, each for the reason given there; any other is a fault, and the exit status 1.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import yaml

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

from mutants import Mutant, mutants  # noqa: E402

_CALIBRATION = ("test_loss_cut", "test_calibration")
TESTS: dict[str, tuple[str, ...]] = {
    "calibration.calibration": _CALIBRATION,
    "calibration.maps": ("test_scoring", "test_calibration"),
    "calibration.odd_parts": ("test_odd_parts",),
    "calibration.settings": _CALIBRATION,
    "calibration.single_image": _CALIBRATION,
    "calibration.spread": _CALIBRATION,
    "calibration.thresholds": _CALIBRATION,
    "validation.intervals": ("test_metrics",),
    "validation.loss_cut": ("test_loss_cut", "test_scoring"),
    "validation.metrics": ("test_metrics",),
    "validation.pixel_metrics": ("test_pixel_metrics", "test_metrics"),
    "validation.regions": ("test_regions", "test_scoring"),
    "validation.scoring": ("test_scoring",),
}
"""The modules, and the unit tests of each."""

EQUIVALENT = Path(__file__).with_name("equivalent.yaml")
_SECONDS = 60  # of processor time; the unchanged tests of a module take at most 15
_LIBRARIES = ("numpy", "cv2", "scipy.stats", "scipy.ndimage", "sklearn.metrics", "hypothesis", "pydantic", "pytest")


def main(names: Sequence[str]) -> int:
    """Run the mutants of some modules, or all; return the exit status."""
    for library in (*_LIBRARIES, "pixal.tasks.photographs.settings", *(f"pixal.{name}" for name in TESTS)):
        importlib.import_module(library)
    os.chdir(ROOT)
    known: dict[str, dict[str, str]] = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8"))
    total = killed = equivalent = faults = 0
    for name in names or TESTS:
        source = (ROOT / "pixal" / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
        importers = _importers(name)
        if _status(name, ast.parse(source), importers) != 0:
            sys.stdout.write(f"{name}: the tests fail without a change\n")
            return 2
        start, survivors, count = time.monotonic(), list[Mutant](), 0
        for mutant in mutants(source):
            count += 1
            if _status(name, mutant.tree, importers) == 0:
                survivors.append(mutant)
                if str(mutant) not in known.get(name, {}):
                    sys.stdout.write(f"{name}:{mutant.line}: {mutant}\n")
                    sys.stdout.flush()
        listed = [mutant for mutant in survivors if str(mutant) in known.get(name, {})]
        sys.stdout.write(
            f"{name}: {count} mutants, {count - len(survivors)} noticed, {len(listed)} equivalent, "
            f"{len(survivors) - len(listed)} not noticed ({time.monotonic() - start:.0f} s)\n"
        )
        total, killed, equivalent = total + count, killed + count - len(survivors), equivalent + len(listed)
        faults += len(survivors) - len(listed)
    sys.stdout.write(f"{total} mutants, {killed} noticed, {equivalent} equivalent, {faults} not noticed\n")
    return int(faults > 0)


class _Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the changed module in place of the file."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self._name, self._tree = f"pixal.{name}", tree
        self._file = str(ROOT / f"{self._name.replace('.', '/')}.py")

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """See ``MetaPathFinder``."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._file, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        """See ``Loader``."""
        exec(compile(self._tree, self._file, "exec"), module.__dict__)


def _importers(name: str) -> set[str]:
    """A module of PIXAL, and those loaded that import it, also through others: they are imported again."""
    imports = {}
    for other, module in sys.modules.items():
        if other.startswith("pixal") and module.__file__:
            nodes = list(ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))))
            imports[other] = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    found = {f"pixal.{name}"}
    while more := {other for other, used in imports.items() if used & found} - found:
        found |= more
    return found


def _status(name: str, tree: ast.Module, importers: set[str]) -> int:
    """The exit status of the tests of a module with this source; not 0 if they fail, crash or take too long."""
    process = os.fork()
    if process == 0:
        _run_tests(name, tree, importers)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _run_tests(name: str, tree: ast.Module, importers: set[str]) -> None:
    """Run the tests, and end the process."""
    status = 70
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        sys.meta_path.insert(0, _Loader(name, tree))
        for module in importers:
            sys.modules.pop(module, None)
            package, _, attribute = module.rpartition(".")  # from package import attribute would give the old module
            vars(sys.modules.get(package, sys)).pop(attribute, None)
        import pytest

        files = [f"tests/unit/{test}.py" for test in TESTS[name]]
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        options = ("-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "ignore:Module already imported")
        status = int(pytest.main([*options, *files]))
    finally:
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
