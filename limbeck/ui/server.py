"""The server: a socket and uvicorn."""

import asyncio
import errno
import ipaddress
import socket

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from limbeck.errors import InputError

_AT_ONCE = 64  # requests and idle connections; further ones are refused meanwhile
PATIENCE = 10.0  # seconds for a request to arrive
_GRACE = 3  # seconds that open responses get when the server ends


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `port` of `host`, or on a free one where `port` is 0."""
    if not 0 <= port <= 65535:
        raise InputError(f"--port is {port}; it must lie from 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = f"{error.strerror or error}; choose others"
        if error.errno == errno.EADDRINUSE:
            why = "it is in use; choose another --port, or 0 for a free one"
        raise InputError(f"cannot serve on {host}, port {port}: {why}") from error


class _Patient(H11Protocol):
    """HTTP that gives up connections on which no whole request arrives, since they would keep others out for ever."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._late is not None:
            self._late.cancel()

    def _wait(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self.loop.call_later(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self.transport.close()


def made(app: Starlette) -> uvicorn.Server:
    """Return a server for `app`. It ends on SIGINT and SIGTERM where it runs in the main thread, and otherwise when its
    `should_exit` is set."""
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="off", http=_Patient, ws="none",
        limit_concurrency=_AT_ONCE, timeout_graceful_shutdown=_GRACE,
    )  # fmt: skip
    return uvicorn.Server(config)


def url_of(host: str, port: int) -> str:
    """Return the address of the page, for this machine's browser."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}/" if ":" in reachable else f"http://{reachable}:{port}/"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
