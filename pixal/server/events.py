"""Server-sent events: a page learns that parts or marks were added, also by ``validate --watch``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool

from pixal.database.part_list import batch_version, count_parts
from pixal.database.schema import MARKS
from pixal.errors import PixalError
from pixal.server.part_routes import counts_of
from pixal.server.requests import find_asked, served

router = APIRouter()

_INTERVAL = 1.0  # seconds between two looks
_STEPS = 5  # looks in this time whether the server is about to end
_KEEP_ALIVE = 15  # looks without a change after which a comment is sent, so that a closed connection is noticed


@router.get("/c/{component}/b/{batch}/events")
async def events(request: Request, component: str, batch: str) -> StreamingResponse:
    """A stream with an event at the start and after each change: ``version`` and ``counts``."""
    await run_in_threadpool(find_asked, request, component, batch)
    stream = _follow(request, component, batch)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _follow(request: Request, component: str, batch: str) -> AsyncIterator[str]:
    last, silent = None, 0
    yield f"retry: {int(2000 * _INTERVAL)}\n\n"
    stopping = served(request).stopping
    while not stopping.is_set() and not await request.is_disconnected():
        state = await run_in_threadpool(_state, request, component, batch)
        if state is not None and state != last:
            yield f"data: {json.dumps(state)}\n\n"
            last, silent = state, 0
        elif silent == _KEEP_ALIVE:
            yield ": \n\n"
            silent = 0
        silent += 1
        for _ in range(_STEPS):
            if not stopping.is_set():
                await asyncio.sleep(_INTERVAL / _STEPS)


def _state(request: Request, component: str, batch: str) -> dict[str, Any] | None:
    """The state of the batch for a page; None while it cannot be read, for example because it is moved."""
    try:
        asked = find_asked(request, component, batch)
        with asked.store.reading() as connection:
            counts = counts_of(count_parts(connection, asked.batch["id"]))
            version = batch_version(connection, asked.batch)
            marks = connection.execute(select(func.max(MARKS.c.id), func.count(), func.max(MARKS.c.withdrawn_at))).one()
    except (PixalError, HTTPException):
        return None
    return {"version": version, "marks": "/".join(map(str, marks)), "counts": counts}
