"""Sessions for developers: ``nox --list``. Each runs in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    _install(session, "requirements-dev.txt")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "pixal")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after ``--`` go to pytest."""
    _install(session, "requirements-dev.txt")
    session.run("pytest", *(session.posargs or ["-n", "auto"]))


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure which lines the quick tests run; the result is in ``htmlcov/index.html``."""
    _install(session, "requirements-dev.txt", "coverage>=7.10,<8")
    arguments = session.posargs or ["tests/unit", "tests/integration"]
    session.run("coverage", "run", "-m", "pytest", "-m", "not slow", *arguments)
    session.run("coverage", "combine")
    session.run("coverage", "html", "--skip-covered")
    session.run("coverage", "report")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation in ``docs/_build/html``; warnings are errors.

    The notebooks are run, which takes some minutes the first time; ``-- -D nb_execution_mode=off`` shows them without
    output.
    """
    _install(session, "requirements-docs.txt")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", *session.posargs, "docs", "docs/_build/html")


@nox.session
def package(session: nox.Session) -> None:
    """Build wheel and sdist, install the wheel, and run the command from another folder."""
    session.install("build")
    dist = Path(session.create_tmp())
    for old in (*dist.glob("*.whl"), *dist.glob("*.tar.gz")):
        old.unlink()
    session.run("python", "-m", "build", "--outdir", str(dist))
    [wheel] = dist.glob("*.whl")
    session.install(str(wheel))
    session.chdir(dist)
    session.run("python", "-m", "pixal", "--version")
    session.run("python", "-m", "pixal", "init", "PART")
    # The wheel alone has no TensorFlow, which is an extra; doctor says so with status 2.
    session.run("python", "-m", "pixal", "doctor", success_codes=[0, 2])


def _install(session: nox.Session, *more: str) -> None:
    """Install the pinned packages, further files of pins or packages, and this copy of PIXAL."""
    files = [word for name in more for word in (("-r", name) if name.endswith(".txt") else (name,))]
    session.install("-r", "requirements-cpu.txt", *files)
    session.install("--no-deps", "-e", ".")
