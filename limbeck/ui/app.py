"""The page's server side: requests over HTTP, and who may send them."""

import asyncio
import base64
import io
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limbeck.errors import InputError
from limbeck.images.source import Source
from limbeck.images.views import WHITE
from limbeck.ui.picture import LARGEST_BYTES, Picture, TooLargeError, of_source, too_many_bytes, uploaded
from limbeck.ui.shift import SLIDERS, Backgrounds, read_shift
from limbeck.ui.voice import TOP, Views, Voice, answer

_STATIC = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"}
_LARGEST_DRAWING = 64  # pixels: nets of larger images don't get drawings
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass
class Page:
    """What the page shows, and how many pictures it was shown."""

    voices: tuple[Voice, ...]
    reader: Executor  # one thread, in which pictures are decoded, so that few are in memory
    source: Source | None = None  # of held-out images
    backgrounds: Backgrounds | None = None
    notes: tuple[str, ...] = ()  # what was left out, and why
    host: str = "127.0.0.1"  # the name that requests may use, beside localhost and addresses
    pictures: int = field(default=0, init=False)


def app(page: Page) -> Starlette:
    """Return the ASGI application that serves the page."""

    async def about(request: Request) -> Response:
        return JSONResponse(_about(page))

    async def answers(request: Request) -> Response:
        return StreamingResponse(_lines(page, *await _asked(page, request)), media_type="application/x-ndjson")

    static = [Route(path, _file(path.strip("/") or "page.html", kind)) for path, kind in _STATIC.items()]
    return Starlette(
        routes=[*static, Route("/about", about), Route("/answers", answers, methods=["POST"])],
        middleware=[Middleware(Guard, host=page.host)],
        exception_handlers={InputError: _refused, HTTPException: _no_such, ClientDisconnect: _gone},
    )


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = (Path(__file__).parent / "static" / name).read_bytes()

    async def send(request: Request) -> Response:
        return Response(content, media_type=kind)

    return send


def _about(page: Page) -> dict[str, Any]:
    """Return what the page builds itself from."""
    sliders = {name: s for name, s in SLIDERS.items() if name != "background" or page.backgrounds is not None}
    smallest = min(voice.net.input.size for voice in page.voices)
    return {
        "voices": [
            {"name": v.name, "kind": v.kind, "detail": v.detail, "rows": min(TOP, len(v.net.classes))}
            for v in page.voices
        ],
        "sliders": {name: asdict(slider) for name, slider in sliders.items()},
        "drawing": smallest if smallest <= _LARGEST_DRAWING else 0,
        "samples": 0 if page.source is None else len(page.source),
        "data": "" if page.source is None else f"{page.source.spec} {page.source.split}",
        "largest_bytes": LARGEST_BYTES,
        "notes": page.notes,
    }


# ---- predictions ------------------------------------------------------------------------------------------


async def _asked(page: Page, request: Request) -> tuple[Picture, Views]:
    """Return the request's picture and the models' views of it; InputError where it can't be used."""
    shift = read_shift(request.query_params)
    if "sample" in request.query_params:
        picture = _sample(page, request.query_params["sample"])
    else:
        data = await _body(request)
        picture = await _in(page.reader, uploaded, data)
    views = Views(picture, shift, page.backgrounds)
    for voice in page.voices:
        await _in(page.reader, views.of, voice)
    return picture, views


def _sample(page: Page, said: str) -> Picture:
    if page.source is None:
        raise InputError("there are no held-out images here; start limbeck serve with --data")
    if not (said.isascii() and said.isdigit() and len(said) < 10):
        raise InputError(f"sample is {said[:20]!r}; it must be a number")
    return of_source(page.source, int(said))


async def _body(request: Request) -> bytes:
    """Return the body, of which no more is read than the limit."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BYTES:
            raise too_many_bytes()
    return bytes(body)


async def _lines(page: Page, picture: Picture, views: Views) -> AsyncIterator[str]:
    """Yield a line of JSON about the picture and one per prediction, as they come. Where the connection is closed,
    models that have not begun don't run."""
    page.pictures += 1
    sharpest = max(page.voices, key=lambda voice: voice.net.input.size)
    yield _line({"label": picture.label, "name": picture.name, "given": await _in(page.reader, _thumbnail, picture),
                 "seen": _png(Image.fromarray(views.of(sharpest).transpose(1, 2, 0)))})  # fmt: skip
    for number, voice in enumerate(page.voices):
        yield _line({"voice": number, **await _in(voice.worker, answer, voice, views.of(voice))})


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _thumbnail(picture: Picture) -> str:
    image = picture.read(WHITE)
    image.thumbnail((320, 320))
    return _png(image)


def _png(image: Image.Image) -> str:
    """Return the image as a data URL."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


async def _in(worker: Executor, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - the function's
    return await asyncio.get_running_loop().run_in_executor(worker, function, *arguments)


# ---- refusals ---------------------------------------------------------------------------------------------


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 413 if isinstance(error, TooLargeError) else 400)


async def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": f"{request.method} {request.url.path}: {error.detail}"}, error.status_code)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it, but without it the console would show a traceback


class Guard:
    """Middleware that serves only those who came to this page by its own name, and lets nothing else be loaded.

    A page elsewhere whose name was pointed at this machine (DNS rebinding) has another Host; one that sends forms here
    has another Origin.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app, self.host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        welcome = _is_own(host, self.host) and origin in (None, f"http://{host}")
        sentence = "this page is served at its own address only; open the one that limbeck serve printed"
        inner = self.app if welcome else JSONResponse({"error": sentence}, 403)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await inner(scope, receive, guarded)


def _is_own(said: str, host: str) -> bool:
    """Whether a Host header says localhost, `host` or an address: what no name server can point elsewhere."""
    try:
        name = urlsplit(f"//{said}").hostname or ""
        return name in ("localhost", host.lower()) or bool(ipaddress.ip_address(name))
    except ValueError:
        return False
