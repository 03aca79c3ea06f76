"""Who may ask: checks of each request, and the headers of each answer.

Other pages in the same browser, and other machines, must neither read results nor write marks:

- Only the host names of this server are answered, so that a name of somebody else that leads here (DNS rebinding) does
  not.
- With a token, a request needs it in a cookie, which the address that the command prints sets.
- A request that writes needs a secret that only pages of this server can read (CSRF), and their origin.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSRF_HEADER = "x-pixal-csrf"
LARGEST_BODY = 20 << 20  # bytes: a table with some 100,000 marks
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""The content security policy of the pages."""
WRITTEN_PAGE_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""That of pages that PIXAL wrote as files. Their own policy, which the browser applies too, names hashes."""

_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class Access:
    """Which requests are answered.

    Attributes:
        hosts: Host names, in lower case; empty: any, which needs a token.
        port: The port.
        token: What a request must show; "" if everything comes from this machine.
    """

    hosts: frozenset[str]
    port: int
    token: str = ""

    @classmethod
    def to(cls, host: str, port: int) -> Access:
        """Access to a server on a host: without a token only on the loopback interface."""
        local = {"localhost", "127.0.0.1", "::1"}
        if is_loopback(host):
            return cls(frozenset(local | {host.lower()}), port)
        return cls(frozenset(), port, secrets.token_urlsafe(24))

    def cookie(self, name: str) -> str:
        """The name of a cookie. Servers on other ports of a host share its cookies, so the name has the port."""
        return f"pixal_{name}_{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host name is only reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def cookies_of(headers: Headers) -> dict[str, str]:
    """The cookies of a request."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


class Guard:
    """Check each request before the application sees it, and add headers to each answer.

    The scope of the request gets the secret of the browser as ``scope["state"]["csrf"]``.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        cookies = cookies_of(headers)
        csrf = cookies.get(self._access.cookie("csrf"), "")
        refusal = self._refusal(scope, headers, cookies, csrf)
        new = "" if csrf else secrets.token_urlsafe(24)
        scope.setdefault("state", {})["csrf"] = csrf or new

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    added[name] = value
                added.setdefault("content-security-policy", POLICY)
                added.setdefault("cache-control", "no-store")
                if new and refusal is None:
                    added.append("set-cookie", self._set_cookie("csrf", new))
            await send(message)

        await (self._app if refusal is None else refusal)(scope, receive, with_headers)

    def _refusal(self, scope: Scope, headers: Headers, cookies: dict[str, str], csrf: str) -> Response | None:
        """The answer to a request that is refused; None if it is not."""
        access = self._access
        if access.hosts and _host_name(headers.get("host", "")) not in access.hosts:
            return PlainTextResponse("pixal serve answers only at the address that it printed.", 421)
        if access.token and not _is_same(cookies.get(access.cookie("token"), ""), access.token):
            return self._sign_in(scope)
        site = headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none") and headers.get("sec-fetch-mode") != "navigate":
            return PlainTextResponse("Requests of other pages are refused.", 403)
        if scope["method"] in ("GET", "HEAD"):
            return None
        if headers.get("origin", "") not in ("", f"http://{headers.get('host', '')}") or site != "same-origin":
            return PlainTextResponse("Requests of other pages are refused.", 403)
        if not csrf or not _is_same(headers.get(CSRF_HEADER, ""), csrf):
            return PlainTextResponse("This page is too old; load it again.", 403)
        if not headers.get("content-length", "").isdecimal():
            return PlainTextResponse("The length of the request is missing.", 411)
        if int(headers["content-length"]) > LARGEST_BODY:
            return PlainTextResponse(f"More than {LARGEST_BODY >> 20} MB are not accepted.", 413)
        return None

    def _sign_in(self, scope: Scope) -> Response:
        """Take the token from the address into a cookie, and go on to the same address without it."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        if scope["method"] != "GET" or not _is_same(query.pop("token", ""), self._access.token):
            return PlainTextResponse("Open the address with the token that pixal serve printed.", 401)
        path = "/" + scope["raw_path"].decode("latin-1").lstrip("/\\")  # "//host" would lead to another host
        answer = RedirectResponse(path + ("?" + urlencode(query) if query else ""), 303)
        answer.headers.append("set-cookie", self._set_cookie("token", self._access.token))
        return answer

    def _set_cookie(self, name: str, value: str) -> str:
        return f"{self._access.cookie(name)}={value}; Path=/; HttpOnly; SameSite=Lax"


def _host_name(host: str) -> str:
    """The name in a Host header, without the port and the brackets of IPv6."""
    name = host.lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _is_same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))
