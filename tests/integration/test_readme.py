"""The README and docs/ agree with the code: keys, columns, commands, options, files and links."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import cv2
import pytest
import yaml
from pydantic import BaseModel

import pixal
from pixal import cli
from pixal.commands.parser import build_parser
from pixal.config import load_config
from pixal.config.loading import DEFAULTS
from pixal.config.paths import COMPONENT_ENTRIES, DEFAULT_ENTRIES
from pixal.tasks.photographs.network_input.channels import CHANNELS
from pixal.tasks.photographs.preprocessing.alignment_step import ALIGNMENT_COLUMNS
from pixal.tasks.photographs.probing.encoding import MANIFEST_COLUMNS
from pixal.tasks.photographs.settings import PhotographParameters
from pixal.tasks.photographs.verdicts.benchmark_results import MASTER_COLUMNS
from pixal.tasks.photographs.verdicts.results import RESULT_COLUMNS, RESULT_FILES
from pixal.train_model.family import AnomalyModel, ModelFamily
from pixal.validation.regions import Region

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pixal"
DOCS = ROOT / "docs"
MADE = {"_build", "_figures", "gallery_pages", "notebooks"}  # by Sphinx
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(path for path in DOCS.rglob("*.md") if not MADE & set(path.relative_to(DOCS).parts)),
]
IMAGES = ROOT / "docs" / "images"
README, USAGE, CONFIGURATION, OUTPUTS, ARCHITECTURE, EXTENDING = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in (
        "README.md",
        *(f"docs/{name}.md" for name in ("usage", "configuration", "outputs", "architecture", "extending")),
    )
)


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_every_page_is_two_links_from_the_readme() -> None:
    near = _linked(ROOT / "README.md")
    assert {DOCS / f"{name}.md" for name in ("usage", "pipeline", "configuration", "outputs", "howto/index")} <= near
    on_the_site_only = set((DOCS / "project").glob("*.md"))  # stand for CHANGELOG.md and others
    assert set(PAGES) - near - on_the_site_only <= {ROOT / "README.md"}.union(*map(_linked, near & set(PAGES)))


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 210


def test_the_readme_has_the_two_commands_that_ci_runs() -> None:
    lines = {line.split("#")[0].strip() for block in _blocks(README, "bash") for line in block.splitlines()}
    checks = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("source setup.sh && pixal demo", "source setup.sh --dev && pytest -n auto"):
        assert command in lines
        assert f"({command})" in checks


def test_the_version_is_the_same_everywhere_and_releases_have_dates() -> None:
    texts = {
        name: (ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md")
    }
    assert f'\nversion = "{pixal.__version__}"\n' in texts["pyproject.toml"]
    assert f"\nversion: {pixal.__version__}\n" in texts["CITATION.cff"]
    assert f"version = {{{pixal.__version__}}}" in README
    unreleased, *releases = re.findall(r"^## (.+)$", texts["CHANGELOG.md"], re.MULTILINE)
    assert unreleased == "[Unreleased]"
    assert releases[0].startswith(f"[{pixal.__version__}] - ")
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", release) for release in releases)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_resolve(page: Path) -> None:
    text = _without_code(page.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"<img [^>]*src=\"([^\"]+)\"", text)
    for link in links:
        if re.match(r"https?://", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.is_relative_to(ROOT), f"{page.name}: {link} leads out of the repository"
        assert file.exists(), f"{page.name}: {link} leads nowhere"
        assert not anchor or anchor in _anchors(file), f"{page.name}: {link}: no such heading"


def test_every_image_is_shown_described_and_small() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    described = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)
    described += [(alt, src) for src, alt in re.findall(r"<img src=\"([^\"]+)\" alt=\"([^\"]*)\"", text)]
    assert all(alt for alt, _ in described)
    files = sorted(IMAGES.iterdir())
    assert {Path(source).name for _, source in described} == {file.name for file in files}
    assert sum(file.stat().st_size for file in files) < 1.5e6
    for file in files:
        image = cv2.imread(str(file))
        assert image is not None, file
        assert image.shape[1] <= 900, file


def test_the_parser_accepts_every_command() -> None:
    commands = [words for page in PAGES for words in _commands(page.read_text(encoding="utf-8"))]
    verbs = _verbs()
    assert {words[0] for words in commands if words} == set(verbs), (
        "every command has an example, and no other is shown"
    )
    for words in commands:
        try:
            options = build_parser().parse_args(words)
        except SystemExit as stop:
            pytest.fail(f"pixal {shlex.join(words)}: exit status {stop.code}")
        load_config(DEFAULTS, options.overrides)


def test_every_option_is_described() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for verb, parser in _verbs().items():
        for action in parser._actions:
            if action.option_strings and action.dest not in ("help", "input"):
                assert any(f"`{name}" in text or f" {name} " in text for name in action.option_strings), (
                    f"{verb}: {action.option_strings}"
                )


def test_exit_statuses() -> None:
    table = [row for row in _rows(USAGE) if row[0].isdigit()]
    assert [int(row[0]) for row in table] == [
        cli.ExitStatus.DONE,
        cli.ExitStatus.FAILED,
        cli.ExitStatus.BAD_INPUT,
        cli.ExitStatus.INCOMPLETE,
        cli.ExitStatus.ANOMALY,
    ]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_python_examples_parse_and_name_existing_objects(page: Path) -> None:
    for code in _blocks(page.read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pixal":
                assert node.attr in pixal.__all__, node.attr
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pixal"):
                module = import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), node.module


def test_channels_are_listed_once_in_order() -> None:
    section = CONFIGURATION.split("\n## Channels")[1].split("\n## ")[0]
    listed = [name for row in _rows(section) for name in re.findall(r"`(\w+)`", row[0])]
    assert listed == list(CHANNELS)
    assert len(CHANNELS) == 23


def test_every_key_of_the_schema_is_documented_with_its_default() -> None:
    documented = {row[0].strip("`"): row for row in _rows(CONFIGURATION) if len(row) == 4 and row[0].startswith("`")}
    keys = dict(_fields(PhotographParameters))
    assert sorted(documented) == sorted(keys)
    for key, field in keys.items():
        kind, default, meaning = documented[key][1:]
        assert yaml.safe_load(default.strip("`")) == field.default, key
        assert meaning, key
        for value in _literals(field.annotation):
            assert f"`{value}`" in kind, f"{key}: {value} is not in its type"
        assert ("null" in kind) == (type(None) in get_args(field.annotation)), key


def test_the_shipped_file_holds_every_key_with_its_default() -> None:
    shipped = yaml.safe_load((DEFAULTS / "parameters.yaml").read_text(encoding="utf-8"))
    # These may stand in either place; the file has them in the outer one.
    nearer = {"remove_background.rename_images"} | {
        f"alignment.{key}" for key in ("draw_matches", "save_metrics", "save_overlays")
    }
    for key, field in _fields(PhotographParameters):
        value: Any = shipped
        if key.removeprefix("preprocessing.") in nearer:
            continue
        for part in key.split("."):
            assert part in value, f"{key} is missing"
            value = value[part]
        assert value == field.default, key


def test_every_key_that_a_page_names_exists() -> None:
    keys = dict(_fields(PhotographParameters))
    sections = "|".join(
        name for name, field in PhotographParameters.model_fields.items() if field.annotation is not str
    )
    for page in PAGES:
        for name in re.findall(rf"`((?:{sections})\.[\w.]+)", page.read_text(encoding="utf-8")):
            if not name.endswith((".yaml", ".py")):
                assert name in keys or any(key.startswith(f"{name}.") for key in keys), f"{page.name}: {name}"
    section = CONFIGURATION.split("## Settings that are changed most often")[1].split("\n## ")[0]
    rows = [row for row in _rows(section) if row[0].startswith("`")]
    assert len(rows) > 5
    for key, default, _ in rows:
        assert yaml.safe_load(default.strip("`")) == keys[key.strip("`")].default, key


def test_every_entry_of_paths_is_documented() -> None:
    section = CONFIGURATION.split("## paths.yaml")[1]
    rows = {row[0].strip("`"): row[1:] for row in _rows(section) if row[0].startswith("`")}
    paths = load_config(DEFAULTS).paths
    assert list(rows) == [*COMPONENT_ENTRIES, *DEFAULT_ENTRIES]
    for name, (base, place) in rows.items():
        root = paths.resolve(base.strip("`")) if base else Path()
        assert paths.resolve(name) == root / place.strip("`"), name


def test_columns_fields_and_files_of_the_results() -> None:
    blocks = [block.strip() for block in _blocks(OUTPUTS, "")]
    assert ",".join(RESULT_COLUMNS) in blocks
    assert ",".join(ALIGNMENT_COLUMNS) in blocks
    assert ",".join(MASTER_COLUMNS) in blocks
    assert ",".join(MANIFEST_COLUMNS) in OUTPUTS
    assert ",".join(RESULT_COLUMNS) in [block.strip() for block in _blocks(README, "")]
    columns = OUTPUTS.split("### results.csv")[1].split("### results.json")[0]
    assert _first_names(columns) == list(RESULT_COLUMNS)
    region = OUTPUTS.split("A region:")[1].split("### metrics.json")[0]
    assert sorted(_first_names(region)) == sorted(Region.__dataclass_fields__)
    assert all(name in README and name in OUTPUTS for name in RESULT_FILES)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    paths = r"`(?:python )?((?:pixal|tests|docs)/[\w/.]*|configs/|configs/[\w]*\.yaml|\.ci/\w+)[ `]"
    for name in re.findall(paths, page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or MADE & set(Path(name).parts), f"{page.name}: {name}"


def test_files_and_members_that_the_architecture_names_exist() -> None:
    rooms = {row[0].strip("`"): row[1] for row in _rows(ARCHITECTURE) if row[0].startswith("`pixal/")}
    top = {path.name for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    top -= {"__init__.py"}
    assert {Path(name).name for name in rooms} == top
    photographs = ROOT / "pixal/tasks/photographs"
    table = _rows(ARCHITECTURE.split("Inside `pixal/tasks/photographs/`")[1].split("\n## ")[0])
    inside = [name for row in table for name in re.findall(r"`([\w.]+/?)`", row[0])]
    assert {name.rstrip("/") for name in inside} == {path.name for path in photographs.iterdir()} - {
        "__init__.py",
        "__pycache__",
    }
    families = vars(ModelFamily) | vars(AnomalyModel)
    members = {name for name in families if not name.startswith("_")} | {"__init__"}
    table = EXTENDING.split("## A model family")[1].split("\n## ")[0]
    assert set(re.findall(r"`(\w+)\(?", " ".join(row[0] for row in _rows(table)))) >= members


def test_imports_point_the_way_the_architecture_says() -> None:
    block = _blocks(ARCHITECTURE.split("## The direction of imports")[1], "")[0]
    level = {name: depth for depth, line in enumerate(block.split("\n")) for name in line.split()}
    seen = set()
    for path in sorted((ROOT / "pixal").rglob("*.py")):
        inside = path.relative_to(ROOT / "pixal")
        room = inside.parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for target in _imported_rooms(ast.parse(path.read_text(encoding="utf-8")), level):
            seen.add((room, target))
            assert level[target] >= level[room], f"{inside} imports {target}"
    assert {("cli", "errors"), ("tasks", "train_model"), ("train_model", "io")} <= seen
    assert set(level) == {name for edge in seen for name in edge}


def test_no_modules_import_each_other_in_a_circle() -> None:
    files = {
        path: path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in PACKAGE.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): path for path, name in files.items()}
    graph = {name: _imported_modules(path, set(modules) - {"pixal", name}) for name, path in modules.items()}
    order = TopologicalSorter({name: edges for name, edges in graph.items() if name != "pixal"})
    order.prepare()  # raises CycleError, which names the modules


def _linked(page: Path) -> set[Path]:
    """The files that a page links to."""
    links = re.findall(r"\]\(([^)\s#]+)", _without_code(page.read_text(encoding="utf-8")))
    return {(page.parent / link).resolve() for link in links if not link.startswith("http")}


def _imported_modules(path: Path, modules: set[str]) -> set[str]:
    """The modules that a file imports, also inside functions and for type checking alone."""
    actual = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            actual |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            actual |= {alias.name for alias in node.names}
    return actual & modules


def _imported_rooms(tree: ast.Module, rooms: dict[str, int]) -> Iterator[str]:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "pixal" else [f"pixal.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "pixal" and len(parts) > 1 and parts[1] in rooms:
                yield parts[1]


def _verbs() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    return dict(next(action for action in actions if isinstance(action, argparse._SubParsersAction)).choices)


def _commands(text: str) -> Iterator[list[str]]:
    """The words after ``pixal`` of each example: lines of shell blocks, and code in a line that has options."""
    lines = [line for block in _blocks(text, "bash") for line in block.splitlines()]
    lines += re.findall(r"`(pixal [a-z_]+ -[^`]*)`", _without_code(text, keep_inline=True))
    for line in lines:
        for command in re.split(r"&&|\|\|", line):
            words = shlex.split(command, comments=True)
            if words[:1] == ["pixal"] and not {"COMMAND", "--help", "--version"} & set(words):
                yield words[1:]


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _literals(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    for inner in get_args(annotation):
        yield from _literals(inner)


def _first_names(text: str) -> list[str]:
    """The code in the first cell of each row."""
    return [name for row in _rows(text) for name in re.findall(r"`(\w+)`", row[0])]


def _rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|\s:-]+", line):
            yield [cell.strip() for cell in line.strip().strip("|").split("|")]


def _blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language ("": of none)."""
    actual = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [body for name, body in actual if name == language]


def _without_code(text: str, *, keep_inline: bool = False) -> str:
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return text if keep_inline else re.sub(r"`[^`]*`", "", text)


def _anchors(file: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", _without_code(file.read_text(encoding="utf-8"), keep_inline=True), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
