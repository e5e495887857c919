"""The server: a socket and uvicorn."""

import errno
import socket

import uvicorn
from starlette.applications import Starlette

from limbeck.errors import InputError

_AT_ONCE = 64  # requests and idle connections; more are refused for the moment
_GRACE = 3  # seconds that answers get when the server ends


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `port` of `host`, or on a free one where `port` is 0."""
    if not 0 <= port <= 65535:
        raise InputError(f"--port is {port}; it must lie from 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        remedy = "choose another --port, or 0 for a free one" if error.errno == errno.EADDRINUSE else "choose others"
        raise InputError(f"cannot serve on {host}, port {port}: {_reason(error)}; {remedy}") from error


def _reason(error: OSError) -> str:
    return "it is in use" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))


def made(app: Starlette) -> uvicorn.Server:
    """Return a server for `app`. It ends by SIGINT and SIGTERM where it runs in the main thread, and else when its
    `should_exit` is set."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="off", http="h11", ws="none",
        limit_concurrency=_AT_ONCE, timeout_graceful_shutdown=_GRACE,
    )  # fmt: skip
    return uvicorn.Server(config)
