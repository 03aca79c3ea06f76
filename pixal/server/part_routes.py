"""Data for the page of a part: the order of the parts, the values of one, its pictures and outlines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, get_args

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from sqlalchemy import Connection, RowMapping

from pixal.database.marks import find_verdict, marks_of
from pixal.database.part_list import Counts, PartFilter, count_parts, part_details, part_order, views_of_part
from pixal.server.requests import Asked, figure_address, find_asked, page, with_query
from pixal.server.site import PartKey, PictureKind

router = APIRouter(prefix="/c/{component}/b/{batch}")

_DETAILS = (
    *("type", "image", "part", "source", "taken", "verdict", "score", "threshold", "p_value", "p_value_extrapolated"),
    *("reason", "true_label", "true_kind", "width", "height", "model", "trained"),
)
_REGION = ("x", "y", "width", "height", "area_px", "peak", "channel")


@router.get("/order.json")
def order(request: Request, component: str, batch: str) -> JSONResponse:
    """The parts that a filter chooses, in order, and how many are left."""
    asked = find_asked(request, component, batch)
    with asked.store.reading() as connection:
        parts = part_order(connection, asked.batch["id"], PartFilter.of(dict(request.query_params)))
        counts = count_parts(connection, asked.batch["id"])
    return JSONResponse({"parts": parts, "counts": counts_of(counts)})


@router.get("/part.json")
def part(request: Request, component: str, batch: str, type: str, image: str) -> JSONResponse:
    """The values, regions, marks and other views of a part."""
    asked = find_asked(request, component, batch)
    with asked.store.reading() as connection:
        verdict = verdict_or_404(connection, asked, type, image)
        details, regions = part_details(connection, verdict["id"])
        content: dict[str, Any] = {name: details[name] for name in _DETAILS}
        content["version"] = (details["sha256"] or "")[:12]
        content["overlay"] = figure_address(asked.component, asked.batch["folder"], details["overlay"] or "")
        content["reconstruction"] = ""
        if details["score"] is not None and asked.component.has_reconstruction(_key(asked, verdict)):
            content["reconstruction"] = with_query(f"{asked.address}/reconstruction", {"type": type, "image": image})
        content["regions"] = [{name: region[name] for name in _REGION} for region in regions]
        content["marks"] = marks_as_json(connection, verdict)
        content["views"] = [dict(row) for row in views_of_part(connection, verdict["part_id"])]
    return JSONResponse(content)


@router.get("/picture/{kind}")
def picture(request: Request, component: str, batch: str, kind: str, type: str, image: str) -> Response:
    """A picture of a part, or nothing. With ``v`` in the address, which changes with it, the browser keeps it."""
    if kind not in get_args(PictureKind):
        raise HTTPException(404, "There is no such picture.")
    asked = find_asked(request, component, batch)
    with asked.store.reading() as connection:
        key = _key(asked, verdict_or_404(connection, asked, type, image))
    found = asked.component.picture(kind, key)  # type: ignore[arg-type]
    if found is None:
        return Response(status_code=204)  # the page says it; an error would be one in the browser's log, too
    keep = "private, max-age=86400" if "v" in request.query_params else "no-cache"
    return Response(found.data, media_type=found.media_type, headers={"cache-control": keep})


@router.get("/reconstruction")
def reconstruction(request: Request, component: str, batch: str, type: str, image: str) -> HTMLResponse:
    """The reconstruction of a part, which can be zoomed and moved."""
    asked = find_asked(request, component, batch)
    with asked.store.reading() as connection:
        found = asked.component.has_reconstruction(_key(asked, verdict_or_404(connection, asked, type, image)))
    if not found:
        raise HTTPException(404, "The model that scored this part is not in use any more, or makes no reconstructions.")
    part = {"type": type, "image": image}
    return page(
        request,
        "figure.html.j2",
        component=component,
        name=f"reconstruction of {image}",
        address=with_query(f"{asked.address}/picture/reconstruction", part),
        above=(with_query(f"{asked.address}/part", part), f"{batch}: {image}"),
    )


@router.get("/outlines.json")
def outlines(request: Request, component: str, batch: str, type: str, image: str) -> JSONResponse:
    """The outlines of the anomalies of a part."""
    asked = find_asked(request, component, batch)
    with asked.store.reading() as connection:
        verdict = verdict_or_404(connection, asked, type, image)
    if verdict["threshold"] is None:
        return JSONResponse([])
    return JSONResponse(asked.component.outlines(_key(asked, verdict), verdict["threshold"]))


def verdict_or_404(connection: Connection, asked: Asked, type_name: str, image: str) -> RowMapping:
    """A verdict, or an answer that there is none."""
    verdict = find_verdict(connection, asked.batch["id"], type_name, image)
    if verdict is None:
        raise HTTPException(404, f"{asked.batch['name']} has no photograph {type_name}/{image}.")
    return verdict


def marks_as_json(connection: Connection, verdict: RowMapping) -> list[dict[str, Any]]:
    """The marks of a verdict."""
    return [asdict(mark) for mark in marks_of(connection, verdict)]


def counts_of(counts: Counts) -> dict[str, int]:
    """Counts of a batch for a page."""
    return {**asdict(counts), "left": counts.left}


def _key(asked: Asked, verdict: RowMapping) -> PartKey:
    return PartKey(asked.batch["folder"], verdict["type"], verdict["image"], verdict["model_sha256"])
