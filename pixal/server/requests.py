"""Shared by the routes: the component and the batch of an address, the inspector, and templates."""

from __future__ import annotations

import getpass
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment
from sqlalchemy import RowMapping

from pixal.database.marks import LONGEST_NAME
from pixal.database.part_list import find_batch
from pixal.database.store import Store
from pixal.io.names import printable
from pixal.report.page import page_environment, read_page_file
from pixal.server.files import resolve
from pixal.server.security import Access, cookies_of
from pixal.server.site import Component, Site

_TEMPLATES = Path(__file__).parent / "templates"
_STATIC = Path(__file__).parent / "static"
_ASSETS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pixal.css": (("report.css",), ("serve.css",)),
    "theme.js": ((), ("theme.js",)),
    "common.js": (("elements.js",), ("common.js",)),
    "list.js": (("elements.js",), ("common.js", "list.js")),
    "part.js": (("elements.js", "stage.js"), ("common.js", "marks.js", "draw.js", "part.js", "part_keys.js")),
    "figure.js": (("elements.js", "stage.js"), ("common.js", "figure.js")),
}
"""Style sheets and scripts: the files of the report that they begin with, and those of this package."""


@dataclass(frozen=True)
class Served:
    """What the application was started with."""

    site: Site
    access: Access
    stopping: threading.Event


@dataclass(frozen=True)
class Asked:
    """A batch of a component, and the database that holds it."""

    component: Component
    store: Store
    batch: RowMapping

    @property
    def address(self) -> str:
        """The address of the batch, without a slash at the end."""
        return f"{component_address(self.component.name)}/b/{quote(self.batch['name'], safe='')}"


def served(request: Request) -> Served:
    """What the application was started with."""
    found: Served = request.app.state.served
    return found


def find_component(request: Request, component: str) -> Component:
    """The component of an address, or an answer that there is none."""
    found = served(request).site.components().get(component)
    if found is None:
        raise HTTPException(404, f"There is no component {component}.")
    return found


def find_asked(request: Request, component: str, batch: str) -> Asked:
    """The batch of an address, or an answer that there is none."""
    found = find_component(request, component)
    store = found.store()
    if store is not None:
        with store.reading() as connection:
            row = find_batch(connection, batch)
        if row is not None:
            return Asked(found, store, row)
    raise HTTPException(404, f"{component} has no batch {batch}.")


def component_address(name: str) -> str:
    """The address of a component, without a slash at the end."""
    return f"/c/{quote(name, safe='')}"


def figure_address(component: Component, folder: str, path: str) -> str:
    """The address of the page of a figure in the folder of a batch; "" if it may not be shown."""
    below = path if folder == "." else f"{folder}/{path}"
    if not path or resolve(component.roots["results"], below) is None:
        return ""
    return with_query(f"{component_address(component.name)}/figure", {"file": f"results/{below}"})


def inspector_of(request: Request) -> str:
    """The name of who asks; "" if it is not known."""
    access = served(request).access
    stated = cookies_of(request.headers).get(access.cookie("inspector"), "")
    return clean_name(unquote(stated)) or ("" if access.token else _login_name())


def clean_name(name: str) -> str:
    """A name as it is stored: printable, without spaces at its ends, of at most 80 characters."""
    return printable(" ".join(name.split()))[:LONGEST_NAME]


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """An HTML page."""
    common = {
        "csrf": request.scope["state"]["csrf"],
        "inspector": inspector_of(request),
        "asset": asset_address,
        "component_address": component_address,
        "with_query": with_query,
    }
    return HTMLResponse(environment().get_template(template).render(**common, **values), status)


def with_query(address: str, values: Mapping[str, Any]) -> str:
    """An address with a query string."""
    return f"{address}?{urlencode(values)}" if values else address


@cache
def environment() -> Environment:
    """The templates of this package."""
    return page_environment(_TEMPLATES)


@cache
def asset(name: str) -> str | None:
    """The text of a style sheet or script; None if there is none of this name. Scripts have a scope of their own."""
    if name not in _ASSETS:
        return None
    shared, own = _ASSETS[name]
    text = "\n".join([*map(read_page_file, shared), *(read_page_file(file, _STATIC) for file in own)])
    return text if name.endswith(".css") else f'"use strict";\n(() => {{\n{text}}})();\n'


@cache
def asset_address(name: str) -> str:
    """The address of a style sheet or script, which changes with its content."""
    text = asset(name) or ""
    return f"/static/{name}?v={hashlib.sha256(text.encode()).hexdigest()[:12]}"


@cache
def _login_name() -> str:
    try:
        return clean_name(getpass.getuser())
    except (KeyError, OSError, ImportError):  # a user id without a name, as in some containers
        return ""
