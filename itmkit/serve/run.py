"""The server itself: uvicorn on a socket of ours, until Ctrl-C."""

from __future__ import annotations

import socket

import uvicorn

from itmkit.errors import ItmkitError
from itmkit.serve.answers import Answers
from itmkit.serve.app import create_app

CONNECTIONS = 256  # a further one is answered with 503
SECONDS = 3  # for requests under way when the server ends


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens. port: 0 takes any free one.

    Raises:
        ItmkitError: another program listens there, or the address is not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind(address)
            found.listen(CONNECTIONS)  # at once: who comes before the server is ready waits a moment
        except OSError:
            found.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ItmkitError(f"--host {host} --port {port}: cannot listen there ({reason}); name another port") from None
    return found


def server(answers: Answers, host: str) -> uvicorn.Server:
    """Its `run([socket])` serves until a signal comes, or until `should_exit` is set."""
    config = uvicorn.Config(
        create_app(answers, host),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=SECONDS,
    )
    return uvicorn.Server(config)


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
