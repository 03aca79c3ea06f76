"""Sessions for developers: ``nox --list``. Each runs in an environment of its own."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "tests"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    session.install("-r", "requirements-cpu.txt", "-r", "requirements-dev.txt", "-e", ".")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "pixal")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests; arguments after ``--`` go to pytest."""
    session.install("-r", "requirements-cpu.txt", "-r", "requirements-dev.txt", "-e", ".")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """Build wheel and sdist, install the wheel, and run the command from another folder."""
    session.install("build")
    dist = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", dist)
    wheels = session.run("python", "-c", f"import glob; print(glob.glob({dist!r} + '/*.whl')[-1])", silent=True)
    session.install(str(wheels).strip())
    session.chdir(dist)
    session.run("python", "-m", "pixal", "--version")
    session.run("python", "-m", "pixal", "init", "PART")
