"""The addresses of the server: the page, its files, small pictures, and the JSON behind the page."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from itmkit.caption_text import evenly_spelled
from itmkit.errors import ItmkitError
from itmkit.index.search import RERANK
from itmkit.serve.answers import Answers, Box
from itmkit.serve.guard import MOST_BYTES, Guard, TooLarge, body_of, problem
from itmkit.serve.pictures import SIDES, GivenPictures, NoPicture, Thumbnails, version_of
from itmkit.serve.worker import Busy, Worker

T = TypeVar("T")
PAGE = Path(__file__).parent / "page"
FILES = {"page.js": "text/javascript", "style.css": "text/css"}
COUNT, MOST_RESULTS = 24, 200
MOST_RERANKED = 1000
LONGEST = 500  # characters of a query
WAITING = 64  # questions to the matcher
MOST_ARRIVING = 8  # pictures that are sent at once: each may take `MOST_BYTES` of memory


class App:
    """The routes. One thread asks the matcher; small pictures and given ones have threads of their own."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.matcher = Worker("matcher", WAITING)
        self.thumbnails = Thumbnails(answers.images.workspace.image_path)
        self.arriving = 0
        self.given = GivenPictures(answers.matcher.pictures.load)
        facts = {**answers.facts, "count": COUNT, "most": MOST_RESULTS, "rerank": RERANK, "longest": LONGEST}
        self.facts = {**facts, "upload": MOST_BYTES}
        pages = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
        self.page = pages.get_template("index.html").render(**self.facts)
        self.files = {name: (PAGE / name).read_bytes() for name in FILES}

    async def index(self, _: Request) -> Response:
        return HTMLResponse(self.page)

    async def file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.files:
            raise HTTPException(404, "no such address")
        return Response(self.files[name], media_type=FILES[name])

    async def thumb(self, request: Request) -> Response:
        side = _whole(request, "side", SIDES[0], 1, 10_000)
        record = self.answers.images.record(request.path_params["image"])
        if record is None:
            raise HTTPException(404, "the index has no such image")
        picture = await self.thumbnails.get(record, side if side in SIDES else SIDES[0])
        named = request.query_params.get("v") == version_of(record) != ""  # else another picture may come to be there
        headers = {"cache-control": "private, max-age=3600"} if named else {}
        return Response(picture, media_type="image/jpeg", headers=headers)

    async def info(self, _: Request) -> Response:
        return JSONResponse(self.facts)

    async def search(self, request: Request) -> Response:
        count, rerank = _count(request), _whole(request, "rerank", RERANK, 0, MOST_RERANKED)
        order = request.query_params.get("order", "matcher")
        if order not in ("matcher", "candidates"):
            raise HTTPException(400, "order: is matcher or candidates")
        return await self._ask(self.answers.search, _query(request), count, rerank, order)

    async def explain(self, request: Request) -> Response:
        return await self._ask(self.answers.explain, self._image(request), _query(request))

    async def image(self, request: Request) -> Response:
        return await self._ask(self.answers.image, self._image(request))

    async def like(self, request: Request) -> Response:
        count = _count(request)
        if request.method == "GET":
            return await self._ask(self.answers.like_image, self._image(request), count)
        picture, digest = await self._given(request)
        return await self._ask(self.answers.like_picture, picture, digest, count)

    async def region(self, request: Request) -> Response:
        count, region = _count(request), _region(request)
        if request.method == "GET":
            return await self._ask(self.answers.region_of_image, self._image(request), region, count)
        picture, digest = await self._given(request)
        return await self._ask(self.answers.region_of_picture, picture, digest, region, count)

    async def _ask(self, question: Callable[..., T], *arguments: Any) -> Response:
        return JSONResponse(await self.matcher.run(question, *arguments))

    async def _given(self, request: Request) -> tuple[Image.Image, str]:
        """The picture in the body of a request, and its digest."""
        if self.arriving >= MOST_ARRIVING:
            raise Busy
        self.arriving += 1
        try:
            data = await body_of(request)
            return await self.given.read(data), hashlib.sha256(data).hexdigest()
        finally:
            self.arriving -= 1

    def _image(self, request: Request) -> str:
        image = request.query_params.get("image", "")
        if image not in self.answers.images.positions:
            raise HTTPException(404, f"image: the index has none of the id {image[:80]!r}")
        return image

    @asynccontextmanager
    async def life(self, _: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for one in (self.matcher, self.thumbnails, self.given, self.answers.matcher):
                one.close()


def create_app(answers: Answers, host: str = "127.0.0.1") -> Guard:
    """The server as an ASGI application. host: the address it is bound to, which requests have to name."""
    app = App(answers)
    routes = [
        Route("/", app.index),
        Route("/page/{name}", app.file),
        Route("/thumb/{image:path}", app.thumb),
        Route("/api/info", app.info),
        Route("/api/search", app.search),
        Route("/api/explain", app.explain),
        Route("/api/image", app.image),
        Route("/api/like", app.like, methods=["GET", "POST"]),
        Route("/api/region", app.region, methods=["GET", "POST"]),
    ]
    known = (HTTPException, ItmkitError, NoPicture, Busy, TooLarge, TimeoutError, asyncio.TimeoutError)
    handled = (*known, ClientDisconnect, Exception)
    inner = Starlette(routes=routes, exception_handlers=dict.fromkeys(handled, failed), lifespan=app.life)
    return Guard(inner, host)  # outermost, so that errors carry its headers, too


async def failed(request: Request, error: Exception) -> Response:
    """Any error as JSON."""
    if isinstance(error, HTTPException):
        return problem(error.status_code, str(error.detail), **(error.headers or {}))
    if isinstance(error, ItmkitError):
        return problem(422, error.problems)
    if isinstance(error, NoPicture):
        return problem(404 if request.method == "GET" else 422, str(error))
    if isinstance(error, Busy):
        return problem(503, "too many questions wait already; try again in a moment", **{"retry-after": "1"})
    if isinstance(error, TooLarge):
        return problem(413, f"the picture is larger than {MOST_BYTES // 1_000_000} MB", connection="close")
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):  # not the same before Python 3.11
        return problem(408, "the picture did not arrive in time", connection="close")
    if isinstance(error, ClientDisconnect):
        return problem(400, "the sender has gone")  # which nobody reads, but it is no fault
    return problem(500, "itmkit failed; the terminal in which it runs says how")


def _query(request: Request) -> str:
    """The words asked for, as the matcher reads them: the places of words in the answer are places in them."""
    query = evenly_spelled(request.query_params.get("q", ""))
    if not query.strip():
        raise HTTPException(400, 'q: the query is empty; give a few words, such as "two dogs in the snow"')
    if len(query) > LONGEST:
        raise HTTPException(400, f"q: has {len(query):,} characters, at most {LONGEST} are read")
    return query


def _count(request: Request) -> int:
    return _whole(request, "k", COUNT, 1, MOST_RESULTS)


def _whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise HTTPException(400, f"{name}: a whole number from {least} to {most:,} is needed")
    return int(text)


def _region(request: Request) -> int | Box:
    """region=N, or box=X1,Y1,X2,Y2 in pixels of the picture."""
    text = request.query_params.get("box")
    if text is None:
        return _whole(request, "region", -1, 0, 100_000)
    try:
        x1, y1, x2, y2 = (float(number) for number in text.split(","))
    except ValueError:
        raise HTTPException(400, "box: four numbers are needed: x1,y1,x2,y2 in pixels") from None
    if not all(math.isfinite(number) for number in (x1, y1, x2, y2)) or x1 >= x2 or y1 >= y2:
        raise HTTPException(400, "box: x1 < x2 and y1 < y2 are needed")
    return x1, y1, x2, y2
