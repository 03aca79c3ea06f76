"""Write a folder of settings for a component, from the defaults of the package."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from pixal.config.loading import CONFIGS, DEFAULTS, load_config
from pixal.errors import InputError
from pixal.io.files import write_bytes
from pixal.io.names import printable


@dataclass(frozen=True)
class StartedConfig:
    """A folder of settings that was written.

    Attributes:
        folder: The folder.
        component: The name of the component.
        files: The written files.
        source: The folder of the photographs; None if it was not named.
        types: The number of photographs of each type in ``source``.
    """

    folder: Path
    component: str
    files: tuple[Path, ...]
    source: Path | None = None
    types: dict[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """The written files, and the next commands."""
        option = "" if self.folder == Path(CONFIGS) else f" -c {shlex.quote(str(self.folder))}"
        source = shlex.quote(str(self.source or f"photos/{self.component}"))
        types = [f"  {name}: {count} photographs" for name, count in self.types.items()]
        return "\n".join(
            [
                f"wrote {' and '.join(map(str, self.files))} for the component {self.component}",
                *types,
                f"next: pixal preprocess -i {source}{option} && pixal train{option}",
            ]
        )


def write_start(
    folder: Path, component: str, source: Path | None = None, types: dict[str, int] | None = None
) -> StartedConfig:
    """Write the settings of the package to a new folder, with the name of the component filled in.

    Args:
        folder: The folder. It must hold no settings.
        component: The name of the component.
        source: The folder of the photographs, for the summary.
        types: The number of photographs of each type in it.

    Raises:
        InputError: The name cannot be that of a folder, or a file would be overwritten.
    """
    if component in ("", ".", "..") or Path(component).name != component or printable(component) != component:
        raise InputError(f"{component!r} cannot be the name of a component: it becomes the name of a folder")
    for path in sorted(DEFAULTS.glob("*.yaml")):
        if (folder / path.name).exists():
            raise InputError(
                f"{folder / path.name} exists; name another folder with --config, or change the entries component in "
                "paths.yaml"
            )
    return StartedConfig(
        folder, component, tuple(copy_settings(DEFAULTS, folder, component)), source, dict(types or {})
    )


def copy_settings(source: Path, target: Path, component: str) -> list[Path]:
    """Copy a folder of settings, with another name of the component in ``paths.yaml``; return the written files."""
    before, name = load_config(source).paths.component, yaml.safe_dump(component).splitlines()[0]
    written = []
    for path in sorted(source.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if path.name == "paths.yaml":
            text = text.replace(f"component: {before}\n", f"component: {name}\n")
        write_bytes(target / path.name, text.encode())
        written.append(target / path.name)
    return written
