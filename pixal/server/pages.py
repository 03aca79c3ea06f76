"""The pages: components, batches, parts of a batch, one part, figures, and files that PIXAL wrote."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from pixal.database.inspections import list_stored_inspections
from pixal.database.part_list import (
    PartFilter,
    batch_version,
    count_parts,
    list_batches,
    list_models,
    list_parts,
    types_of,
)
from pixal.server.files import MEDIA_TYPES, list_figures, list_inspections, list_pages, resolve
from pixal.server.requests import (
    component_address,
    find_asked,
    find_component,
    inspector_of,
    page,
    served,
)
from pixal.server.security import WRITTEN_PAGE_POLICY
from pixal.server.site import Component

router = APIRouter()

_PAGE = 100  # parts of the list on one page
_SKIPPED_FIGURES = ("batches", "report", "report_images", "preprocessed_images", "anomaly_overlay_")
_OF_PARTS = ("matches", "overlay_diagnostics")  # folders with a figure for each photograph


@router.get("/")
def show_components(request: Request) -> Response:
    """All components; the only one is shown at once."""
    site = served(request).site
    components = site.components()
    inspections = list_inspections(site.inspections)
    if len(components) == 1 and not inspections:
        return RedirectResponse(component_address(next(iter(components))), 302)
    rows = [{"name": name, "batches": _batches(component)} for name, component in components.items()]
    return page(request, "components.html.j2", components=rows, inspections=inspections)


@router.get("/c/{component}")
def show_component(request: Request, component: str) -> HTMLResponse:
    """The batches of a component, the newest first."""
    found = find_component(request, component)
    pages = list_inspections(served(request).site.inspections)
    store = found.store()
    models, inspections = [], []
    if store is not None:
        with store.reading() as connection:
            models, inspections = list_models(connection), list_stored_inspections(connection)
    folder = served(request).site.inspections
    own = {name: str(folder / name) for name in pages}
    inspected = [{**row, "page": own.get(row["name"]) == row["folder"]} for row in inspections]
    models_root = found.roots["models"]
    promotions = [
        {"name": path.rpartition("/")[0] or "all types", "address": _file_address(component, f"models/{path}")}
        for path in list_pages(models_root, "promotion.html")
    ]
    return page(
        request,
        "component.html.j2",
        component=found.name,
        batches=_batches(found),
        models=models,
        promotions=promotions,
        inspected=inspected,
        inspections=[name for name in pages if own[name] not in {row["folder"] for row in inspected}],
    )


@router.get("/c/{component}/b/{batch}")
def show_batch(request: Request, component: str, batch: str, page_number: int = 1) -> HTMLResponse:
    """The parts of a batch, 100 on a page."""
    asked = find_asked(request, component, batch)
    chosen = PartFilter.of(dict(request.query_params))
    number = min(max(page_number, 1), 10**6)
    with asked.store.reading() as connection:
        counts = count_parts(connection, asked.batch["id"])
        total, parts = list_parts(connection, asked.batch["id"], chosen, start=(number - 1) * _PAGE, count=_PAGE)
        types = types_of(connection, asked.batch["id"])
        version = batch_version(connection, asked.batch)
    return page(
        request,
        "batch.html.j2",
        component=component,
        batch=asked.batch,
        version=version,
        address=asked.address,
        counts=counts,
        chosen=chosen,
        parts=parts,
        types=types,
        total=total,
        number=number,
        pages=max(1, -(-total // _PAGE)),
        first=(number - 1) * _PAGE,
        report=_report(asked.component, asked.batch["folder"]),
        read_only=asked.component.read_only,
    )


@router.get("/c/{component}/b/{batch}/part")
def show_part(request: Request, component: str, batch: str) -> HTMLResponse:
    """The page on which parts are reviewed. Its script asks for the part that the address names."""
    asked = find_asked(request, component, batch)
    return page(
        request,
        "part.html.j2",
        component=component,
        batch=asked.batch,
        address=asked.address,
        read_only=asked.component.read_only,
        named=bool(inspector_of(request)),
    )


@router.get("/c/{component}/history")
def show_history(request: Request, component: str) -> Response:
    """The failure rates of all batches; the page is written first."""
    found = find_component(request, component)
    found.write_history()
    return RedirectResponse(_file_address(component, "results/history.html"), 302)


@router.get("/c/{component}/figures")
def show_figures(request: Request, component: str, batch: str = "") -> HTMLResponse:
    """The figures of the models and of a batch, by default the newest one."""
    found = find_component(request, component)
    batches = _batches(found)
    named = [row for row in batches if row["name"] == batch] or batches[:1]
    groups: list[dict[str, Any]] = []
    for root, folder in found.roots.items():
        below = named[0]["folder"] if root == "results" and named else "."
        base = folder if below == "." else folder / below
        for name, figures in list_figures(base, skip=_SKIPPED_FIGURES).items():
            start = "" if below == "." else f"{below}/"
            files = [f"{root}/{start}{figure}" for figure in figures]
            entries = [
                {"name": file.rpartition("/")[2], "file": file, "address": _file_address(component, file)}
                for file in files
            ]
            of_parts = name.endswith(_OF_PARTS)
            groups.append({"root": root, "folder": name, "figures": entries, "of_parts": of_parts})
    groups.sort(key=lambda group: (group["of_parts"], not group["folder"].endswith("figures")))
    return page(request, "figures.html.j2", component=component, batches=batches, named=named, groups=groups)


@router.get("/c/{component}/figure")
def show_figure(request: Request, component: str, file: str) -> HTMLResponse:
    """One figure, which can be zoomed and moved."""
    root, _, path = file.partition("/")
    _file_below(find_component(request, component), root, path)
    name = path.rpartition("/")[2]
    above = (f"{component_address(component)}/figures", "figures")
    address = _file_address(component, file)
    return page(request, "figure.html.j2", component=component, name=name, address=address, above=above)


@router.get("/c/{component}/files/{root}/{path:path}")
def send_file(request: Request, component: str, root: str, path: str) -> Response:
    """A file that PIXAL wrote in a folder of the component."""
    return _file_below(find_component(request, component), root, path)


@router.get("/inspections/{path:path}")
def send_inspection(request: Request, path: str) -> Response:
    """A page of ``pixal inspect``, or a file next to it."""
    file = resolve(served(request).site.inspections, path)
    if file is None:
        raise HTTPException(404, "There is no such file.")
    return _answer(str(file), file.suffix)


def _file_below(component: Component, root: str, path: str) -> Response:
    folder = component.roots.get(root)
    file = None if folder is None else resolve(folder, path)
    if file is None:
        raise HTTPException(404, "There is no such file.")
    return _answer(str(file), file.suffix)


def _answer(path: str, suffix: str) -> Response:
    is_page = suffix.lower() == ".html"
    headers = {"content-security-policy": WRITTEN_PAGE_POLICY} if is_page else {}
    headers["cache-control"] = "no-cache"  # the browser asks again, and gets the file only if it has changed
    return FileResponse(path, media_type=MEDIA_TYPES[suffix.lower()], headers=headers)


def _batches(component: Component) -> list[dict[str, Any]]:
    """The batches of a component with their counts, the newest first."""
    store = component.store()
    if store is None:
        return []
    with store.reading() as connection:
        return [
            {**row, "counts": count_parts(connection, row["id"]), "report": _report(component, row["folder"])}
            for row in list_batches(connection)
        ]


def _report(component: Component, folder: str) -> str:
    """The address of the report of a batch; "" if it is not there."""
    path = "report.html" if folder == "." else f"{folder}/report.html"
    if resolve(component.roots["results"], path) is None:
        return ""
    return _file_address(component.name, f"results/{path}")


def _file_address(component: str, file: str) -> str:
    return f"{component_address(component)}/files/{quote(file)}"
