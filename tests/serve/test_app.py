"""Every address of the server, in use and under attack."""

from __future__ import annotations

import io
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from itmkit.index.search import Hit
from itmkit.serve.guard import MOST_BYTES
from itmkit.serve.pictures import SIDES
from tests.logs import logged
from tests.serve.conftest import MARKUP, ODD_CAPTION, ODD_ID, Site

QUERY = "a small red dog left of the car"


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What the server prints to its terminal."""
    with logged("uvicorn.error") as lines:
        yield lines


def test_the_page_and_what_it_says(site: Site) -> None:
    page = site.ask("/")
    text = page.body.decode()
    assert page.status == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    assert "14 images" in text and "<bdi>mpsm</bdi>" in text and "&lt;i&gt;photos" in text
    assert MARKUP not in text and "&lt;img src=x" in text  # among the examples
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff" and page.headers["referrer-policy"] == "no-referrer"
    for name, kind in (("page.js", "text/javascript"), ("style.css", "text/css")):
        file = site.ask(f"/page/{name}")
        assert file.status == 200 and file.headers["content-type"].startswith(kind)
    info = site.ask("/api/info").json()
    assert (info["run"], info["method"], info["images"]) == ("mpsm", "mpsm", 14)
    assert info["members"] == ["distance", "direction"] and info["regions"] is True and info["rows"] == "float16"


def test_search_is_that_of_the_searcher_in_both_orders(site: Site) -> None:
    expected = site.answers.searcher.text(QUERY, count=14, rerank=10)
    found = site.ask("/api/search", q=QUERY, k=5, rerank=10).json()
    assert [one["image"] for one in found["results"]] == [hit.image for hit in expected[:5]]
    for one, hit in zip(found["results"], expected, strict=False):
        assert (one["rank"], one["candidate_rank"]) == (hit.rank, hit.candidate_rank)
        assert one["score"] == pytest.approx(hit.score, abs=1e-5)
    by_vector = site.ask("/api/search", q=QUERY, k=14, rerank=10, order="candidates").json()["results"]
    assert [one["candidate_rank"] for one in by_vector] == list(range(1, 15))
    assert [one["score"] is None for one in by_vector] == [False] * 10 + [True] * 4
    assert [one["score"] for one in site.ask("/api/search", q=QUERY, rerank=0).json()["results"]] == [None] * 14


def test_words_weigh_what_the_best_images_lose_without_them(site: Site) -> None:
    found = site.ask("/api/search", q=QUERY).json()
    assert [word["word"] for word in found["words"]] == QUERY.split()
    assert found["words"][3]["unknown"] is True and "unknown" not in found["words"][2]
    assert found["words"][2]["head"] == 3 and found["words"][2]["relation"] == "amod"
    best = np.array([site.answers.images.positions[one["image"]] for one in found["results"][:3]])
    texts = site.answers.matcher.encode_texts([QUERY, "a small dog left of the car"])
    scores = site.answers.searcher.scores(best, texts)
    assert found["words"][2]["importance"] == pytest.approx((scores[:, 0] - scores[:, 1]).mean(), abs=1e-5)


def test_words_lie_in_the_query_that_is_answered(site: Site) -> None:
    found = site.ask("/api/search", q="a&nbsp;dog’s  red &amp; car").json()
    query = found["query"]
    assert query == "a\xa0dog's  red & car"
    assert [query[word["start"] : word["end"]] for word in found["words"]] == ["a", "dog", "'s", "red", "&", "car"]
    assert site.ask("/api/search", q=query).json()["results"] == found["results"]


def test_an_explanation_is_that_of_the_matcher(site: Site) -> None:
    image = site.answers.searcher.store.ids[5]
    found = site.ask("/api/explain", image=image, q=QUERY).json()
    expected = site.answers.matcher.explain(image, QUERY)
    assert found["score"] == pytest.approx(expected.score, abs=2e-3)  # rows of the index are float16
    assert expected.attention is not None
    np.testing.assert_allclose(found["attention"], expected.attention, atol=2e-3)
    assert [one["name"] for one in found["regions"]] == expected.regions and found["size"] == list(expected.size)
    whole = site.ask("/api/image", image=image).json()
    assert whole["regions"] == found["regions"] and len(whole["captions"]) == 5


def test_images_like_one_of_the_index_and_like_a_given_one(site: Site) -> None:
    image = site.answers.searcher.store.ids[0]
    of_index = site.ask("/api/like", image=image, k=4).json()["results"]
    assert of_index[0]["image"] == image and of_index[0]["score"] == pytest.approx(1, abs=1e-3)
    given = site.ask("/api/like?k=4", method="POST", body=site.picture()).json()
    assert [one["image"] for one in given["results"]] == [one["image"] for one in of_index]
    assert given["regions"] == site.ask("/api/image", image=image).json()["regions"]


def test_images_with_a_region_like_one(site: Site) -> None:
    image = site.answers.searcher.store.ids[0]
    x1, y1, x2, y2 = site.ask("/api/image", image=image).json()["regions"][2]["box"]
    by_number = site.ask("/api/region", image=image, region=2, k=6).json()
    assert (by_number["region"], by_number["box"]) == (2, [x1, y1, x2, y2])
    assert by_number["results"][0]["image"] == image and by_number["results"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert by_number["results"][0]["region"]["box"] == by_number["box"]
    scores = [one["score"] for one in by_number["results"]]
    assert scores == sorted(scores, reverse=True)
    by_box = site.ask("/api/region", image=image, box=f"{x1 - 1},{y1},{x2},{y2 + 1}", k=6).json()
    assert by_box == by_number
    path = f"/api/region?box={x1},{y1},{x2},{y2}&k=6"
    given = site.ask(path, method="POST", body=site.picture()).json()
    assert given["region"] == 2 and [one["image"] for one in given["results"]] == [
        one["image"] for one in by_number["results"]
    ]


def test_pictures_come_small_and_are_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in SIDES:
        answer = site.thumb(ODD_ID, side=side)  # its file has an odd name, too
        assert answer.status == 200 and answer.headers["content-type"] == "image/jpeg"
        with Image.open(io.BytesIO(answer.body)) as image:
            assert max(image.size) <= side
    assert site.thumb(ODD_ID, side=9999).body == site.thumb(ODD_ID).body  # no other sizes are made
    shown = site.ask("/api/image", image=ODD_ID).json()["picture"]
    sha256 = site.workspace.dataset().images[1].sha256
    assert sha256 is not None and shown.endswith(f"?side=960&v={sha256[:16]}")
    assert site.ask(shown).headers["cache-control"] == "private, max-age=3600"
    for other in (shown.partition("&")[0], f"{shown}0"):  # what is there may be the picture of another workspace later
        assert site.ask(other).headers["cache-control"] == "no-store"
    changed = site.workspace.dataset().images[2].id
    assert site.thumb(changed).problem() == "the picture is changed since the data set was prepared"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/search", 400, "the query is empty"),
        ("/api/search?q=%20%09", 400, "the query is empty"),
        ("/api/search?q=" + "a" * 501, 400, "501 characters"),
        ("/api/search?q=" + "a," * 30, 422, "the query has 60 words, at most 48"),
        ("/api/search?q=a&k=0", 400, "k: a whole number from 1 to 200"),
        ("/api/search?q=a&k=%D9%A1", 400, "k: a whole number"),
        ("/api/search?q=a&rerank=1e9", 400, "rerank: a whole number"),
        ("/api/search?q=a&rerank=99999", 400, "rerank: a whole number"),
        ("/api/search?q=a&order=best", 400, "order: is matcher or candidates"),
        ("/api/explain?q=a", 404, "the index has none"),
        ("/api/image?image=%1b[31m", 404, r"none of the id '\x1b[31m'"),
        ("/api/region?image=ONE", 400, "region: a whole number"),
        ("/api/region?image=ONE&region=99999", 422, "has no region 99999; 6 are known"),
        ("/api/region?image=ONE&box=1,2,3", 400, "box: four numbers"),
        ("/api/region?image=ONE&box=1,2,nan,4", 400, "box: x1 < x2"),
        ("/api/region?image=ONE&box=5,2,1,4", 400, "box: x1 < x2"),
        ("/api/region?image=ONE&box=1e6,1e6,2e6,2e6", 422, "has no region in this box"),
        ("/nothing", 404, "Not Found"),
    ],
)
def test_wrong_questions_are_told_so(site: Site, path: str, status: int, words: str) -> None:
    answer = site.ask(path.replace("ONE", site.answers.searcher.store.ids[0]))
    assert answer.status == status and words in answer.problem()
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_hostile_text_is_answered_as_json_and_never_as_markup(site: Site) -> None:
    for query in (
        MARKUP,
        "\x00\x1b[2J red \u202e car",
        "%ff",
        "a" * 500,
        "💥 \ud83d".encode("utf-8", "replace").decode(),
    ):
        answer = site.ask("/api/search", q=query, k=20)
        assert answer.status == 200 and answer.headers["content-type"] == "application/json", query
        assert answer.json()["query"] == query
    shown = {one["image"]: one for one in answer.json()["results"]}
    assert shown[ODD_ID]["thumb"].startswith(f"/thumb/{quote(ODD_ID, safe='')}?side=320&v=")
    assert ODD_CAPTION in {one["caption"] for one in shown.values()}
    assert site.ask("/api/explain", image=ODD_ID, q="a red car").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/page/index.html",
        "/thumb/../../../../etc/passwd",
        "/thumb/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/thumb//etc/passwd",
        "/thumb/images/scene-000000.jpg",
        "/thumb/%00",
        "/thumb/%ff",
        "//etc/passwd",
    ],
)
def test_no_path_leads_out(site: Site, path: str) -> None:
    answer = site.ask(path)
    assert answer.status == 404 and answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:PORT", "127.0.0.1.evil.example", "[::1", "", "a@b:c"])
def test_foreign_hosts_get_nothing(site: Site, host: str) -> None:
    for path in ("/", "/api/info", "/page/page.js"):
        answer = site.ask(path, headers={"Host": host.replace("PORT", str(site.port))})
        assert answer.status in (400, 403) and b"mpsm" not in answer.body
    # Through `ssh -L` the page has another port.
    assert site.ask("/api/info", headers={"Host": "localhost:9999"}).status == 200


def test_other_sites_can_neither_send_nor_ask(site: Site) -> None:
    picture, own = site.picture(), f"http://127.0.0.1:{site.port}"
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{site.port}", own + "1", ""):
        answer = site.ask("/api/like", method="POST", body=picture, headers={"Origin": origin})
        assert answer.status == 403 and "another site" in answer.problem()
    assert site.ask("/api/like", method="POST", body=picture, headers={"Origin": own}).status == 200
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert site.ask("/", headers=elsewhere).status == 200  # a link
    for path in ("/api/search?q=a", f"/thumb/{site.answers.searcher.store.ids[0]}"):
        assert site.ask(path, headers=elsewhere).status == 403
        assert site.ask(path, headers={"Sec-Fetch-Site": "same-origin"}).status == 200
    assert site.ask("/api/search?q=a", method="POST").status == 405


def bomb() -> bytes:
    """A PNG that says it has 9,000 x 12,000 pixels."""
    parts = (b"IHDR" + struct.pack(">IIBBBBB", 9_000, 12_000, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b""), b"IEND")
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_malformed_pictures_are_refused(site: Site) -> None:
    for body, words in (
        (b"", "is empty"),
        (b"<svg onload='alert(1)'/>", "not a picture in a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture in a known format"),
        (site.picture()[:2000], "truncated"),
        (bomb(), "too large (9000 x 12000"),
    ):
        for path in ("/api/like", "/api/region?region=0"):
            answer = site.ask(path, method="POST", body=body)
            assert answer.status == 422 and words in answer.problem() and "itmkit-" not in answer.problem()


def test_uploads_are_read_no_further_than_the_limit(site: Site) -> None:
    for length in (str(MOST_BYTES + 1), "9" * 40, "-1"):
        with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
            head = f"POST /api/like HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(100).split()[1] in (b"413", b"400")
    sent = 0
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        connection.sendall(b"POST /api/like HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 3 * MOST_BYTES:
                connection.sendall(b"100000\r\n" + bytes(0x100000) + b"\r\n")
                sent += 0x100000
        except OSError:
            return  # it hung up
        assert connection.recv(100).split()[1] == b"413"


def test_of_pictures_that_never_arrive_only_some_are_awaited(site: Site, told: list[str]) -> None:
    held = [socket.create_connection(("127.0.0.1", site.port), timeout=10) for _ in range(8)]
    for one in held:
        one.sendall(b"POST /api/like HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nbegun")
    until, answer = time.monotonic() + 20, site.ask("/api/like", method="POST", body=b"no picture")
    while answer.status != 503 and time.monotonic() < until:
        answer = site.ask("/api/like", method="POST", body=b"no picture")
    assert answer.status == 503 and site.ask("/api/info").status == 200
    for one in held:
        one.close()
    while answer.status == 503 and time.monotonic() < until:
        answer = site.ask("/api/like", method="POST", body=b"no picture")
    assert answer.status == 422 and told == []


def test_a_slow_question_holds_up_neither_page_nor_pictures_and_too_many_are_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(*_: object) -> dict[str, bool]:
        go_on.wait(20)
        return {"slow": True}

    monkeypatch.setattr(site.answers, "search", slow)
    with ThreadPoolExecutor(80) as clients:
        asked = [clients.submit(site.ask, "/api/search?q=a") for _ in range(80)]
        refused = []
        while len(refused) < 16:
            refused = [one.result() for one in asked if one.done()]
            time.sleep(0.02)
        begun = time.monotonic()
        assert site.ask("/").status == 200
        assert site.thumb(site.answers.searcher.store.ids[7]).status == 200
        assert time.monotonic() - begun < 10 and not go_on.is_set()
        go_on.set()
        answers = [one.result() for one in asked]
    assert {one.status for one in refused} == {503} and refused[0].headers["retry-after"] == "1"
    assert sum(one.status == 200 for one in answers) == 64 == 80 - len(refused)


def test_fifty_clients_at_once_get_what_one_gets(site: Site) -> None:
    ids = site.answers.searcher.store.ids
    paths = [
        f"/api/search?q={quote(QUERY)}&k=5",
        "/api/search?q=a+blue+boat&order=candidates",
        f"/api/explain?image={ids[3]}&q=a+blue+boat",
        f"/api/region?image={ids[4]}&region=1",
        f"/thumb/{ids[3]}",
        "/",
    ]
    expected = {path: site.ask(path).body for path in paths}
    until = time.monotonic() + 0.5
    wrong: list[tuple[str, int]] = []

    def client(number: int) -> int:
        done = 0
        while done == 0 or time.monotonic() < until:
            path = paths[(number + done) % len(paths)]
            answer = site.ask(path)
            if answer.status != 503 and answer.body != expected[path]:
                wrong.append((path, answer.status))
            done += 1
        return done

    with ThreadPoolExecutor(50) as clients:
        done = sum(clients.map(client, range(50)))
    assert wrong == [] and done >= 50


def test_a_fault_is_told_without_its_inside(site: Site, monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    def fails(*_: object) -> list[Hit]:
        raise ZeroDivisionError("a secret of /home/user")

    monkeypatch.setattr(site.answers, "image", fails)
    answer = site.ask("/api/image", image=site.answers.searcher.store.ids[0])
    assert answer.status == 500 and "itmkit failed" in answer.problem() and b"secret" not in answer.body
    assert answer.headers["x-content-type-options"] == "nosniff"
    until = time.monotonic() + 10
    while not told and time.monotonic() < until:  # the server says it after it has answered
        time.sleep(0.02)
    assert "a secret of /home/user" in "".join(told)  # in the terminal
    assert json.loads(site.ask("/api/info").body)["images"] == 14
