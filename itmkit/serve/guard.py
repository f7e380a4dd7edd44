"""Keeps out what other pages in the user's browser could send here, and says what our page may do."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": "default-src 'none'; img-src 'self' data: blob:; script-src 'self'; style-src 'self';"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
MOST_BYTES = 20_000_000  # of a picture
SECONDS = 60.0  # in which it has to arrive


def problem(status: int, text: str | Sequence[str], **headers: str) -> JSONResponse:
    """An error as the command line's --json writes it."""
    problems = [text] if isinstance(text, str) else list(text)
    return JSONResponse({"error": {"problems": problems}}, status, headers)


class Guard:
    """Middleware: adds the headers, refuses foreign hosts and foreign origins.

    A page elsewhere can point a name of its own at 127.0.0.1 and then read what is served there (DNS rebinding). Such
    requests carry that name as their Host. The port is not compared: through `ssh -L` another one is right.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        """host: the address that the server is bound to, or a name of it."""
        self._app, self._names = app, {host.lower(), "localhost", "127.0.0.1", "::1"}
        self._any_address = host in ("0.0.0.0", "::", "")
        if self._any_address:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if "cache-control" not in headers:
                    headers["cache-control"] = "no-store"
            await send(message)

        refused = self._refused(scope, Headers(scope=scope))
        if refused:
            await problem(403, refused)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _refused(self, scope: Scope, headers: Headers) -> str:
        """Why a request is refused; empty where it is not."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return "this server does not answer to that host name"
        from_elsewhere = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        if from_elsewhere and scope["path"] != "/":  # a link to the page is fine
            return "another site may not ask this server"
        origin = headers.get("origin")
        if (
            scope["method"] not in ("GET", "HEAD")
            and origin is not None
            and origin.lower() != f"http://{hosts[0]}".lower()
        ):
            return "another site may not send to this server"
        return ""

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if not self._any_address:
            return name in self._names
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True  # no name, so nobody else's name


class TooLarge(Exception):
    """The body has more than `MOST_BYTES`."""


async def body_of(request: Request) -> bytes:
    """The body of a request, read no further than `MOST_BYTES`.

    Raises TooLarge, and asyncio.TimeoutError where it does not arrive in `SECONDS`.
    """
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length[:20]) > MOST_BYTES:
        raise TooLarge
    return await asyncio.wait_for(_read(request), SECONDS)


async def _read(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BYTES:
            raise TooLarge
    return bytes(data)
