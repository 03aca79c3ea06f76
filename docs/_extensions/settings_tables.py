"""The page of all settings, from their pydantic models: type, range, default and meaning."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from sphinx.application import Sphinx

from pixal.registry import MODELS
from pixal.tasks.charge_clusters.settings import ClusterParameters
from pixal.tasks.photographs.settings import PhotographParameters

PAGE, MARKER = "reference/settings", "<!-- settings -->"


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill the page when Sphinx reads it."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _read(_: Sphinx, docname: str, source: list[str]) -> None:
    if docname == PAGE:
        source[0] = source[0].replace(MARKER, "\n".join(_page()))


def _page() -> Iterator[str]:
    yield "## Photographs\n"
    yield from _sections(PhotographParameters)
    yield "\n## Charge clusters\n"
    yield from _sections(ClusterParameters, "charge clusters: ")
    yield "\n## model_options\n\nSettings that only one model family has, in `model_training.model_options`.\n"
    for name in MODELS.builtin:
        options = getattr(MODELS.load(name), "Options", None)
        if options is not None and options.model_fields:
            yield from _table(f"{name} ", options)


def _sections(model: type[BaseModel], title: str = "", prefix: str = "") -> Iterator[str]:
    """A table of the settings of a section, then those of the sections inside it."""
    inner = {name: field.annotation for name, field in model.model_fields.items() if _is_section(field.annotation)}
    if set(model.model_fields) - set(inner):
        yield from _table(title + (prefix.removesuffix(".") or "general"), model)
    for name, section in inner.items():
        yield from _sections(section, title, f"{prefix}{name}.")


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _table(title: str, model: type[BaseModel]) -> Iterator[str]:
    schema, meanings = model.model_json_schema(), _meanings(model)
    yield f"\n### {title}\n\n| Setting | Type | Default | Meaning |\n|---|---|---|---|"
    for name, field in model.model_fields.items():
        if not _is_section(field.annotation):
            kind = _kind(schema["properties"][name], schema.get("$defs", {}))
            default = "" if field.is_required() else f"`{_yaml(field.get_default(call_default_factory=True))}`"
            yield f"| `{name}` | {kind} | {default} | {meanings.get(name, '')} |"


def _kind(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in schema:
        return _kind(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(choice, definitions) for choice in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "yes/no", "null": "`null`"}
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'], definitions)}" if "items" in schema else "list"
    if schema.get("type") == "object":
        return "mapping"
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}.items()
        if key in schema and schema[key] < 2**31
    ]
    return ", ".join([words.get(schema.get("type", ""), "any"), *limits])


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=1000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The text of each setting in the docstring of its class, or of a class above it."""
    meanings: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        _, _, text = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")
        for name, meaning in re.findall(r"^    (\w+): (.*(?:\n      .*)*)", text, re.MULTILINE):
            meanings[name] = re.sub(r"``", "`", " ".join(meaning.split())).replace("|", r"\|").replace("*", r"\*")
    return meanings
