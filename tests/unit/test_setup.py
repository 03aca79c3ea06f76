"""Run setup.sh in a sandbox, where Python, uv and nvidia-smi are stubs that log how they are called."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from pixal import extras

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "cat", "chmod", "cksum", "cp", "dirname", "grep", "mkdir", "rm", "sed", "sort", "zsh")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="needs bash and POSIX stubs")

PYTHON = """#!/bin/sh
case "$1" in
-c)
    case "$2" in *ensurepip*) exit "${STUB_NO_VENV:-0}" ;; esac
    exit "${STUB_UNSUPPORTED:-0}" ;;
esac
echo "python $*" >>"$STUB_LOG"
case "$2" in
venv)
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    echo "VIRTUAL_ENV='$3'; PATH=\\"$3/bin:\\$PATH\\"; deactivate() { :; }" >"$3/bin/activate" ;;
pip) exit "${STUB_PIP_FAILS:-0}" ;;
esac
"""
UV = """#!/bin/sh
case "$1" in --version) exit 0 ;; esac
echo "uv $*" >>"$STUB_LOG"
case "$1" in venv)
    for last; do :; done
    python3.11 -m venv "$last" ;;
esac
"""
NVIDIA_SMI = "#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-0)'\n"
UNAME = '#!/bin/sh\ncase "$1" in -s) echo "${STUB_SYSTEM:-Linux}" ;; *) echo "${STUB_MACHINE:-x86_64}" ;; esac\n'


@dataclass
class Sandbox:
    """A copy of the files that setup.sh reads, in a folder with a space in its name, and a PATH with stubs only."""

    root: Path
    bin: Path
    log: Path

    def stub(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def shell(
        self, script: str, *, shell: str = "bash", cwd: Path | None = None, **stubs: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": str(self.bin),
            "STUB_LOG": str(self.log),
            "S": str(self.root / "setup.sh"),
            **stubs,
        }
        flags = ["--norc", "--noprofile"] if shell == "bash" else ["-f"]
        return subprocess.run(
            [shutil.which(shell) or shell, *flags, "-c", script],
            env=environment,
            cwd=cwd or self.root.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def asked(self) -> str:
        """The calls of the stubs since the last call of this method."""
        text = self.log.read_text() if self.log.exists() else ""
        self.log.unlink(missing_ok=True)
        return text


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    root = tmp_path / "a folder" / "pixal checkout"
    defaults = root / "pixal" / "config" / "defaults"
    defaults.mkdir(parents=True)
    (defaults / "parameters.yaml").write_text("default: parameters\n")
    (defaults / "paths.yaml").write_text("default: paths\n")
    for name in ("setup.sh", "pyproject.toml", *(path.name for path in ROOT.glob("requirements*.txt"))):
        shutil.copy(ROOT / name, root / name)
    made = Sandbox(root, tmp_path / "bin", tmp_path / "asked.log")
    made.bin.mkdir()
    for tool in TOOLS:
        if actual := shutil.which(tool):
            (made.bin / tool).symlink_to(actual)
    made.stub("python3.11", PYTHON)
    made.stub("uname", UNAME)
    return made


SNAPSHOT = {
    "bash": "snapshot() { set +o; shopt -p; trap; pwd; declare -F; compgen -v | sort; }",
    "zsh": "snapshot() { setopt; trap; pwd; print -l ${(ok)functions} ${(ok)parameters}; }",
}
# Names that activating an environment adds, and names that the shells themselves change.
EXPECTED_NEW = re.compile(r"VIRTUAL_ENV\w*|_OLD_VIRTUAL\w*|(declare -f )?deactivate|BASH_\w+|PIPESTATUS|_|FUNCNAME")


@needs_bash
@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize("options", ["set -u", "set -eu", "set +u"])
@pytest.mark.parametrize("fails", ["0", "1"])
def test_the_callers_shell_does_not_change(sandbox: Sandbox, shell: str, options: str, fails: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    script = f"""{SNAPSHOT[shell]}
        before=; after=; rc=0
        {options}
        before=$(snapshot); source "$S" || rc=$?; after=$(snapshot)
        printf '%s\\n' "rc=$rc" "$before" ---- "$after"
    """
    done = sandbox.shell(script, shell=shell, STUB_PIP_FAILS=fails)
    assert done.returncode == 0, done.stderr
    assert f"rc={fails}\n" in done.stdout
    head, after = done.stdout.split("----\n")
    before = head.split("rc=", 1)[1].split("\n", 1)[1]
    changed = set(before.splitlines()) ^ set(after.splitlines())
    assert not {line for line in changed if not EXPECTED_NEW.fullmatch(line)}


@needs_bash
def test_the_environment_is_activated(sandbox: Sandbox) -> None:
    done = sandbox.shell('source "$S" >/dev/null && command -v python')
    assert done.stdout.strip() == str(sandbox.root / ".venv" / "bin" / "python")


@needs_bash
def test_it_works_from_its_own_folder_and_when_executed(sandbox: Sandbox) -> None:
    assert sandbox.shell('source setup.sh && [ "$VIRTUAL_ENV" ]', cwd=sandbox.root).returncode == 0
    shutil.rmtree(sandbox.root / ".venv")
    executed = sandbox.shell('bash "$S"')
    assert executed.returncode == 0
    assert "source setup.sh" in executed.stdout
    assert (sandbox.root / ".venv").is_dir()


@needs_bash
@pytest.mark.parametrize(
    ("arguments", "gpu", "stubs", "expected"),
    [
        ("", True, {}, "requirements.txt"),
        ("", False, {}, "requirements-cpu.txt"),
        ("--cpu", True, {}, "requirements-cpu.txt"),
        ("--gpu", False, {}, "requirements.txt"),
        ("", True, {"STUB_MACHINE": "aarch64"}, "requirements-cpu.txt"),
        ("", False, {"STUB_SYSTEM": "Darwin", "STUB_MACHINE": "arm64"}, "requirements-cpu.txt"),
        ("", True, {"STUB_SYSTEM": "MINGW64_NT-10.0"}, "requirements-cpu.txt"),
    ],
)
def test_the_machine_selects_the_requirements(
    sandbox: Sandbox, arguments: str, gpu: bool, stubs: dict[str, str], expected: str
) -> None:
    if gpu:
        sandbox.stub("nvidia-smi", NVIDIA_SMI)
    done = sandbox.shell(f'source "$S" {arguments}', **stubs)
    assert done.returncode == 0, done.stderr
    asked = sandbox.asked()
    assert re.findall(r"-r (\S+)", asked) == [expected]
    assert "pip install --quiet --disable-pip-version-check --no-input --no-deps -e ." in asked


@needs_bash
@pytest.mark.parametrize(
    ("arguments", "stubs", "message"),
    [
        ("--gpu", {"STUB_SYSTEM": "Darwin", "STUB_MACHINE": "arm64"}, "no GPU build"),
        ("", {"STUB_SYSTEM": "Darwin"}, "Intel Macs"),
        ("", {"STUB_UNSUPPORTED": "1"}, "no Python 3.10 to 3.13"),
        ("", {"STUB_NO_VENV": "1"}, "sudo apt install python3.11-venv"),
        ("", {"STUB_PIP_FAILS": "1"}, "cannot install requirements-cpu.txt"),
        ("--dve", {}, "unknown option '--dve'"),
        ("--cpu --gpu", {}, "choose one"),
    ],
)
def test_failures_are_one_clear_line(sandbox: Sandbox, arguments: str, stubs: dict[str, str], message: str) -> None:
    done = sandbox.shell(f'source "$S" {arguments}; echo "survived $?"', **stubs)
    assert done.stdout.splitlines()[-1] == "survived 1"
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("setup.sh: ")
    assert message in done.stderr


@needs_bash
def test_a_second_run_installs_nothing_until_something_changes(sandbox: Sandbox) -> None:
    sandbox.shell('source "$S" --dev')
    assert re.findall(r"-r (\S+)", sandbox.asked()) == ["requirements-cpu.txt", "requirements-dev.txt"]
    assert sandbox.shell('source "$S"').returncode == 0
    assert sandbox.asked() == ""
    with (sandbox.root / "requirements-dev.txt").open("a") as file:
        file.write("another==1.0\n")
    sandbox.shell('source "$S"')
    assert re.findall(r"-r (\S+)", sandbox.asked()) == ["requirements-cpu.txt", "requirements-dev.txt"]


@needs_bash
def test_an_interrupted_installation_is_resumed(sandbox: Sandbox) -> None:
    sandbox.shell('source "$S"', STUB_PIP_FAILS="1")
    sandbox.asked()
    assert sandbox.shell('source "$S"').returncode == 0
    asked = sandbox.asked()
    assert "-r requirements-cpu.txt" in asked
    assert "-m venv" not in asked


@needs_bash
@pytest.mark.parametrize("arguments", ["--gpu", "--recreate"])
def test_the_other_variant_gets_an_environment_of_its_own(sandbox: Sandbox, arguments: str) -> None:
    sandbox.shell('source "$S"')
    (sandbox.root / ".venv" / "old").touch()
    sandbox.asked()
    assert sandbox.shell(f'source "$S" {arguments}').returncode == 0
    assert "-m venv" in sandbox.asked()
    assert not (sandbox.root / ".venv" / "old").exists()


@needs_bash
def test_a_moved_checkout_gets_a_new_environment(sandbox: Sandbox) -> None:
    sandbox.shell('source "$S"')
    sandbox.asked()
    sandbox.root = sandbox.root.rename(sandbox.root.with_name("moved"))
    assert sandbox.shell('source "$S"').returncode == 0
    assert f"-m venv {sandbox.root}" in sandbox.asked()


@needs_bash
def test_uv_is_used_if_installed(sandbox: Sandbox) -> None:
    sandbox.stub("uv", UV)
    assert sandbox.shell('source "$S"').returncode == 0
    asked = sandbox.asked()
    assert "uv pip install" in asked
    assert "-r requirements-cpu.txt" in asked
    assert "-m pip" not in asked


@needs_bash
def test_missing_configs_are_copied_and_existing_ones_kept(sandbox: Sandbox) -> None:
    configs = sandbox.root / "configs"
    configs.mkdir()
    (configs / "paths.yaml").write_text("edited: yes\n")
    for _ in range(2):
        assert sandbox.shell('source "$S"').returncode == 0
        assert (configs / "paths.yaml").read_text() == "edited: yes\n"
        assert (configs / "parameters.yaml").read_text() == "default: parameters\n"


@needs_bash
def test_the_arguments_of_a_calling_script_can_be_ignored(sandbox: Sandbox) -> None:
    assert sandbox.shell('set -- mine; source "$S"').returncode == 1
    assert sandbox.shell('set -- mine; source "$S" -- && [ "$1" = mine ]').returncode == 0


@needs_bash
def test_help_shows_every_option_and_installs_nothing(sandbox: Sandbox) -> None:
    done = sandbox.shell('source "$S" --help')
    assert done.returncode == 0
    assert all(option in done.stdout for option in ("--dev", "--cpu", "--gpu", "--recreate"))
    assert sandbox.asked() == ""
    assert not (sandbox.root / ".venv").exists()


def test_configs_in_git_are_the_shipped_defaults() -> None:
    shipped = {path.name: path.read_text() for path in (ROOT / "pixal" / "config" / "defaults").glob("*.yaml")}
    assert {"parameters.yaml", "paths.yaml"} <= shipped.keys()
    assert {path.name: path.read_text() for path in (ROOT / "configs").glob("*.yaml")} == shipped


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("file", "extra"),
    [
        ("requirements.txt", "gpu"),
        ("requirements-cpu.txt", "cpu"),
        ("requirements-dev.txt", "dev"),
        ("requirements-docs.txt", "docs"),
    ],
)
def test_pinned_versions_are_within_the_declared_bounds(file: str, extra: str) -> None:
    """The commands at the top of each file create it."""
    pinned: dict[str, list[Version]] = {}
    for line in (ROOT / file).read_text().splitlines():
        if re.match(r"[a-z]", line):
            pin = Requirement(line)
            pinned.setdefault(pin.name, []).append(Version(next(iter(pin.specifier)).version))
    declared = pyproject()
    groups = declared["project"]["optional-dependencies"] | declared["dependency-groups"]
    wanted = groups[extra]
    if extra not in ("dev", "docs"):
        wanted = [*wanted, "pixal[rembg,tracking,serve,tables,clusters]", *declared["project"]["dependencies"]]
    for requirement in _without_extras(wanted, groups):
        versions = pinned.get(requirement.name.lower())
        assert versions, f"{requirement.name} is not in {file}: create it again"
        assert all(version in requirement.specifier for version in versions), f"{requirement}: {versions}"


def _without_extras(wanted: list[str], groups: dict[str, list[str]]) -> list[Requirement]:
    """The requirements, with those of PIXAL's own extras in place of ``pixal[EXTRA]``."""
    found: list[Requirement] = []
    for requirement in map(Requirement, wanted):
        if requirement.name == "pixal":
            found += _without_extras([entry for extra in requirement.extras for entry in groups[extra]], groups)
        else:
            found.append(requirement)
    return found


PACKAGE_OF = {"distributed": "dask", "sklearn": "scikit-learn", "skimage": "scikit-image"}


def test_a_missing_package_is_named_with_an_extra_that_brings_it() -> None:
    groups = pyproject()["project"]["optional-dependencies"]
    for module, (_, command) in extras._EXTRAS.items():
        names = re.findall(r"pixal\[(\w+)\]", command)
        assert names
        for name in names:
            brought = {requirement.name.lower() for requirement in _without_extras(groups[name], groups)}
            assert {PACKAGE_OF.get(module, module), f"{module}-cpu"} & brought, module


def test_the_readme_names_every_extra() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([\w`, ]+)` \|", readme, re.MULTILINE))
    extras_of_table = {extra for row in named for extra in row.replace("`", "").split(", ")}
    assert set(pyproject()["project"]["optional-dependencies"]) <= extras_of_table


def test_no_requirement_file_names_an_index_or_a_folder() -> None:
    for path in ROOT.glob("requirements*.txt"):
        assert not re.search(r"://|--(extra-)?index|--find-links|^\s*/", path.read_text(), re.MULTILINE)
