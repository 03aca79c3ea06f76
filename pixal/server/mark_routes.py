"""Marks: store, undo, withdraw, export and import them; and the name of who makes them.

An answer with status 200 means that the mark is on the disk.
"""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from pixal.database.mark_table import export_marks, import_table
from pixal.database.marks import (
    LONGEST_COMMENT,
    MarkName,
    NewMark,
    add_mark,
    find_verdict,
    undo_mark,
    withdraw_mark,
)
from pixal.database.part_list import count_parts
from pixal.errors import StorageError
from pixal.server.part_routes import counts_of, marks_as_json, verdict_or_404
from pixal.server.requests import Asked, clean_name, find_asked, inspector_of, served

router = APIRouter()

_Pixel = Annotated[int, Field(ge=0, lt=10**6)]
_YEAR = 365 * 24 * 3600


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_max_length=4096)


class _MarkBody(_Body):
    type: str
    image: str
    mark: MarkName
    box: tuple[_Pixel, _Pixel, _Pixel, _Pixel] | None = None
    comment: Annotated[str, Field(max_length=LONGEST_COMMENT)] = ""


class _WithdrawBody(_Body):
    type: str
    image: str
    id: int


class _NameBody(_Body):
    name: str


@router.post("/c/{component}/b/{batch}/marks")
def mark(request: Request, component: str, batch: str, body: _MarkBody) -> JSONResponse:
    """Store a mark."""
    asked, by = _writable(request, component, batch)
    comment = " ".join(body.comment.split())
    with asked.store.writing() as connection:
        verdict = verdict_or_404(connection, asked, body.type, body.image)
        add_mark(connection, verdict, NewMark(body.mark, body.box, comment), by)
        content = _state(connection, asked, verdict)
    return JSONResponse(content)


@router.post("/c/{component}/b/{batch}/marks/undo")
def undo(request: Request, component: str, batch: str) -> JSONResponse:
    """Take the last mark of the person back."""
    asked, by = _writable(request, component, batch)
    with asked.store.writing() as connection:
        undone = undo_mark(connection, asked.batch["name"], by)
        if undone is None:
            raise HTTPException(409, f"{by} has no mark in this batch that could be taken back.")
        verdict = find_verdict(connection, asked.batch["id"], undone["type"], undone["image"])
        content = {} if verdict is None else _state(connection, asked, verdict)
    return JSONResponse({**content, "undone": {name: undone[name] for name in ("type", "image", "mark")}})


@router.post("/c/{component}/b/{batch}/marks/withdraw")
def withdraw(request: Request, component: str, batch: str, body: _WithdrawBody) -> JSONResponse:
    """Take one mark of a part back."""
    asked, by = _writable(request, component, batch)
    with asked.store.writing() as connection:
        verdict = verdict_or_404(connection, asked, body.type, body.image)
        withdraw_mark(connection, verdict, body.id, by)
        content = _state(connection, asked, verdict)
    return JSONResponse(content)


@router.get("/c/{component}/b/{batch}/marks.csv")
def export(request: Request, component: str, batch: str) -> Response:
    """The marks of a batch as a table, which ``pixal history --marks`` reads."""
    asked = find_asked(request, component, batch)
    with asked.store.reading() as connection:
        text = export_marks(connection, asked.batch["id"], component)
    name = re.sub(r"[^\w.-]+", "_", f"{component}_{batch}_marks.csv", flags=re.ASCII)
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text.encode("utf-8-sig"), media_type="text/csv; charset=utf-8", headers=headers)


@router.post("/c/{component}/b/{batch}/marks.csv")
async def import_(request: Request, component: str, batch: str) -> JSONResponse:
    """Store the marks of a table that a report has exported, or these pages."""
    data = await request.body()
    return JSONResponse(await run_in_threadpool(_import, request, component, batch, data))


@router.post("/inspector")
def name_inspector(request: Request, body: _NameBody) -> JSONResponse:
    """Remember who makes marks in this browser."""
    name = clean_name(body.name)
    answer = JSONResponse({"name": name})
    cookie = f"{served(request).access.cookie('inspector')}={quote(name, safe='')}"
    answer.headers.append("set-cookie", f"{cookie}; Path=/; HttpOnly; SameSite=Lax; Max-Age={_YEAR}")
    return answer


def _import(request: Request, component: str, batch: str, data: bytes) -> dict[str, Any]:
    asked, by = _writable(request, component, batch)
    with asked.store.writing() as connection:
        found = import_table(connection, data, "the file", by)
        counts = count_parts(connection, asked.batch["id"])
    return {
        "stored": found.stored,
        "known": found.known,
        "unknown": list(found.unknown[:5]),
        "unknown_count": len(found.unknown),
        "counts": counts_of(counts),
    }


def _writable(request: Request, component: str, batch: str) -> tuple[Asked, str]:
    """The batch and who asks, or an answer that says why no mark can be stored."""
    asked = find_asked(request, component, batch)
    if asked.component.read_only:
        raise StorageError(f"marks cannot be stored: {asked.component.read_only}")
    by = inspector_of(request)
    if not by:
        raise HTTPException(409, "Say first who you are: there is a field for your name at the top.")
    return asked, by


def _state(connection: Any, asked: Asked, verdict: Any) -> dict[str, Any]:
    """The marks of a part and the counts of the batch, after a change."""
    counts = counts_of(count_parts(connection, asked.batch["id"]))
    return {"marks": marks_as_json(connection, verdict), "counts": counts}
