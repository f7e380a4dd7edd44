"""One server for all tests here, on a workspace whose ids, captions and file names are as hostile as they may be."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

import itmkit
from itmkit.dataset import Caption, write_dataset
from itmkit.graphs import build_graphs
from itmkit.index.build import build_index
from itmkit.regions.extract import extract_regions
from itmkit.serve.answers import Answers, open_answers
from itmkit.serve.run import bound, server, url_of
from itmkit.workspace import Workspace

MARKUP = '<img src=x onerror="document.title=1">'
ODD_ID = f"../{MARKUP} ü?#%2e&q=1"
ODD_CAPTION = f"a red car \x1b[31m \u202e {MARKUP} </script><b>"
ODD_FILE = "images/<b>& '\"\x1b\u202e.jpg"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self) -> str:
        (only,) = self.json()["error"]["problems"]
        return str(only)


@dataclass(frozen=True)
class Site:
    url: str
    port: int
    workspace: Workspace
    answers: Answers

    def ask(
        self, path: str, *, method: str = "GET", body: Any = None, headers: Mapping[str, str] = {}, **parameters: object
    ) -> Answer:
        """One request, with exactly this path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            target = f"{path}?{urlencode(parameters)}" if parameters else path
            connection.request(method, target, body=body, headers=dict(headers))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def thumb(self, image: str, **parameters: object) -> Answer:
        return self.ask(f"/thumb/{quote(image, safe='')}", **parameters)

    def picture(self, number: int = 0) -> bytes:
        file = self.workspace.dataset().images[number].file
        assert file is not None
        return self.workspace.image_path(file).read_bytes()


@pytest.fixture(scope="session")
def site(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    home = Workspace(shutil.copytree(trained.root, tmp_path_factory.mktemp("served") / "<i>photos"))
    images = list(home.dataset().images)
    assert images[1].file is not None
    home.image_path(images[1].file).rename(home.image_path(ODD_FILE))
    captions = (Caption("odd", ODD_CAPTION), Caption("odd 2", ODD_CAPTION))
    images[0] = replace(images[0], captions=captions)
    images[1] = replace(images[1], id=ODD_ID, file=ODD_FILE)
    write_dataset(home.dataset_path, images, kind="scenes", settings={})
    for cache in ("regions", "graphs/images"):
        shutil.rmtree(home.cache(cache))
    extract_regions(home, regions=6)
    build_graphs(home, parts=["images"])
    build_index(home, itmkit.open(trained.run("mpsm")))
    Path(home.image_path(images[2].file or "")).write_bytes(b"changed since")
    answers = open_answers(home)
    listening = bound("127.0.0.1", 0)
    serving = server(answers, "127.0.0.1")
    thread = threading.Thread(target=serving.run, args=([listening],))
    thread.start()
    try:
        yield Site(url_of(listening), listening.getsockname()[1], home, answers)
    finally:
        serving.should_exit = True
        thread.join(30)
        listening.close()
    assert not thread.is_alive()
