"""The application: routes, errors, and the guard in front of them."""

from __future__ import annotations

import logging
import threading

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from pixal.errors import PixalError, StorageError
from pixal.server import events, mark_routes, pages, part_routes
from pixal.server.requests import Served, asset, page
from pixal.server.security import Access, Guard
from pixal.server.site import Site

_log = logging.getLogger(__name__)


def build_app(site: Site, access: Access, stopping: threading.Event) -> ASGIApp:
    """Build the application.

    Args:
        site: What it shows.
        access: Which requests it answers.
        stopping: Set when the server is about to end, so that streams end.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.served = Served(site, access, stopping)
    for module in (pages, part_routes, mark_routes, events):
        app.include_router(module.router)
    app.add_api_route("/static/{name}", _static)
    app.add_exception_handler(HTTPException, _problem)
    app.add_exception_handler(404, _problem)
    app.add_exception_handler(RequestValidationError, _problem)
    app.add_exception_handler(PixalError, _problem)
    app.add_exception_handler(Exception, _failure)
    return Guard(app, access)


def _static(name: str) -> Response:
    text = asset(name)
    if text is None:
        return PlainTextResponse("There is no such file.", 404)
    kind = "text/css" if name.endswith(".css") else "text/javascript"
    return Response(text, media_type=kind, headers={"cache-control": "public, max-age=31536000, immutable"})


def _problem(request: Request, error: Exception) -> Response:
    """One line that says what is wrong, as a page or as JSON."""
    if isinstance(error, RequestValidationError):
        status, text = 422, "The request is not complete, or has a value that cannot be."
    elif isinstance(error, PixalError):
        status, text = (503 if isinstance(error, StorageError) else 409), str(error)
    else:
        status, text = getattr(error, "status_code", 500), str(getattr(error, "detail", error))
        if text == "Not Found":
            text = "There is no such page."
    return _answer(request, status, text)


def _failure(request: Request, error: Exception) -> Response:
    _log.error("unexpected failure at %s: %s: %s", request.url.path, type(error).__name__, error)
    return _answer(request, 500, f"Unexpected failure: {type(error).__name__}: {error}")


def _answer(request: Request, status: int, text: str) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return page(request, "problem.html.j2", status=status, title="This does not work", text=text)
    return JSONResponse({"error": text}, status)
