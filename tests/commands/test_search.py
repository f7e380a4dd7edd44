"""From a trained run to an index, and from words, a picture or a region to what it holds."""

from __future__ import annotations

import json
import re
import shutil
import webbrowser
from pathlib import Path

import numpy as np
import pytest

import itmkit
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.index.store import Store
from itmkit.workspace import Workspace

QUERY = "a small red square left of the circle"


@pytest.fixture(scope="module")
def work(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the workspace with an index of mpsm."""
    copy = Workspace(shutil.copytree(trained.root, tmp_path_factory.mktemp("search") / "work"))
    assert run(cli, ["index", "-w", str(copy.root), "--run", "mpsm", "--json"]) == 0
    return copy


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:  # type: ignore[type-arg]
    capsys.readouterr()
    code = run(cli, [*arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (2 if "error" in found else 0)
    return found


def test_index_says_what_it_did_and_does_nothing_twice(work: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["index", "-w", str(work.root)]) == 0  # the run is that of the index
    said = capsys.readouterr().out
    assert "14 images (nothing to do) and " in said and " bytes an image as float16, " in said
    assert str(work.root / "index") in said
    found = told(capsys, "index", "-w", str(work.root))
    distinct = {caption.text for image in work.dataset().images for caption in image.captions}
    assert (found["images"], found["encoded"], found["captions"]) == (14, 0, len(distinct))
    assert found["size"] > 14 * found["bytes_an_image"]
    assert not list(work.root.glob(".index.partial"))


def test_words_find_what_the_matcher_ranks_first(work: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "search", "-w", str(work.root), QUERY, "-k", "14")
    images = {image.id: image for image in work.dataset().images}
    with itmkit.open(work.run("mpsm")) as matcher:
        expected = dict(zip(images, matcher.score(list(images), [QUERY])[:, 0].tolist(), strict=True))
    assert [hit["rank"] for hit in found["hits"]] == list(range(1, 15))
    assert {hit["image"]: hit["score"] for hit in found["hits"]} == pytest.approx(expected, abs=2e-3)
    assert all(hit["file"] == images[hit["image"]].file for hit in found["hits"])
    assert "left" not in found["unknown"] and found["run"] == "mpsm" and found["images"] == 14
    assert run(cli, ["search", "-w", str(work.root), "a zebra left of the circle", "-k", "3", "--rerank", "2"]) == 0
    said = capsys.readouterr().out
    assert "3 of 14 images, the best 2 candidates scored by mpsm" in said
    assert "training did not know zebra" in said and found["hits"][0]["file"].rpartition("/")[0] in said
    assert "  - |" in said.replace("│", "|")  # the third was not scored
    by_candidates = told(capsys, "search", "-w", str(work.root), QUERY, "--rerank", "0")["hits"]
    assert [hit["rank"] for hit in by_candidates] == [hit["candidate_rank"] for hit in by_candidates]
    assert all(hit["score"] is None for hit in by_candidates)


def test_a_picture_finds_like_ones_and_its_captions(work: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    image = work.dataset().images[3]
    by_id = told(capsys, "search", "-w", str(work.root), "--image", image.id)
    assert len(by_id["hits"]) == 10 and image.id not in [hit["image"] for hit in by_id["hits"]]
    with itmkit.open(work.run("mpsm")) as matcher:
        scores = matcher.score([image.id], [hit["caption"] for hit in by_id["captions"]])[0]
    np.testing.assert_allclose([hit["score"] for hit in by_id["captions"]], scores, atol=2e-3)
    assert (np.diff([hit["score"] for hit in by_id["captions"]]) <= 0).all()
    by_file = told(capsys, "search", "-w", str(work.root), "--image", str(work.image_path(image.file or "")))
    assert by_file["hits"][0]["image"] == image.id  # the same picture as a file
    assert by_file["hits"][0]["candidate_score"] == pytest.approx(1, abs=1e-3)
    assert [hit["image"] for hit in by_file["hits"][1:]] == [hit["image"] for hit in by_id["hits"][:9]]
    problems = told(capsys, "search", "-w", str(work.root), "--image", "nothing.png")["error"]["problems"]
    assert "nothing.png: no such file" in problems[0]


def test_a_region_finds_the_pictures_with_one_like_it(work: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    image = work.dataset().images[3].id
    found = told(capsys, "search", "-w", str(work.root), "--region", f"{image}:1", "-k", "5")["hits"]
    store = Store(work.root / "index")
    encoded = store.format.unpack(store.read(np.arange(14)))
    cosines = np.mean([np.einsum("nrd,d->nr", each["nodes"], each["nodes"][3, 1]) for each in encoded.values()], axis=0)
    cosines = np.where(encoded["distance"]["mask"], cosines, -2)
    cosines[3] = -2
    order = np.argsort(-cosines.max(axis=1))[:5]
    assert [hit["image"] for hit in found] == [store.ids[k] for k in order]
    assert [hit["region"] for hit in found] == cosines.argmax(axis=1)[order].tolist()
    np.testing.assert_allclose([hit["candidate_score"] for hit in found], cosines.max(axis=1)[order], atol=2e-3)
    for wrong, says in (
        (f"{image}:77", "has the regions 0 to"),
        (image, "is written ID:NUMBER"),
        ("x:1", "no image 'x'"),
    ):
        assert says in told(capsys, "search", "-w", str(work.root), "--region", wrong)["error"]["problems"][0]


def test_the_page_holds_its_pictures_and_takes_captions_for_text(
    trained: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Workspace(shutil.copytree(trained.root, tmp_path / "work"))
    assert run(cli, ["index", "-w", str(work.root), "--run", "dual"]) == 0
    hostile = '<script>alert("1")</script> & "two"'
    records = [
        ImageRecord(image.id, image.split, (Caption("x" + image.id, hostile),), image.file, sha256=image.sha256)
        for image in work.dataset().images[1:]
    ]
    write_dataset(work.dataset_path, records, kind="scenes", settings={})
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url))
    assert run(cli, ["search", "-w", str(work.root), hostile, "--open", "-k", "20"]) == 0
    said = capsys.readouterr()
    assert "the data set has changed since the index was made; `itmkit index --add`" in said.err
    page = (work.root / "search.html").read_text()
    assert opened == [(work.root / "search.html").as_uri()] and "page -> " in said.out
    assert "<script" not in page and page.count("&lt;script&gt;") == 2 + 13
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    assert page.count('<img src="data:image/jpeg;base64,') == 13 and page.count("no picture") == 1
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "http:" not in page
    (work.root / "search.html").write_text("mine")
    assert run(cli, ["search", "-w", str(work.root), "a dog", "--open"]) == 2
    assert "search.html: is there already and is not a page" in capsys.readouterr().err
    assert (work.root / "search.html").read_text() == "mine"


def test_a_stale_index_is_refused_and_says_what_to_do(
    trained: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Workspace(shutil.copytree(trained.root, tmp_path / "work"))

    def problem(*arguments: str) -> str:
        return str(told(capsys, *arguments, "-w", str(work.root))["error"]["problems"][0])

    assert "there is no index; run `itmkit index" in problem("search", "a dog")
    assert "--run NAME says which run; there are dual, glfn" in problem("index")
    assert run(cli, ["index", "-w", str(work.root), "--run", "dual", "--out", "small", "--rows", "int8"]) == 0
    assert told(capsys, "search", "-w", str(work.root), "a dog", "--index", "small")["run"] == "dual"
    assert "small: was made with other weights, features or rows" in problem(
        "index", "--out", "small", "--rows", "float32"
    )
    assert "an index is a folder of its own" in problem("index", "--out", "../elsewhere")
    manifest = work.cache("vectors-clip/images") / "manifest.json"
    record = json.loads(manifest.read_text())
    record["made_by"]["settings"]["precision"] = "bfloat16"
    manifest.write_text(json.dumps(record))
    said = problem("search", "a dog", "--index", "small")
    assert "small: is stale, since how caches/vectors-clip/images was made changed" in said
    assert "`itmkit index --force --run dual --out small`" in said
    weights = work.root / "small" / "manifest.json"
    weights.write_text(re.sub(r'("weights of \w+"): "[0-9a-f]+"', r'\1: "0"', weights.read_text()))
    assert re.search(r"since weights of \w+ and how caches/", problem("search", "a dog", "--index", "small"))
    shutil.rmtree(work.run("dual"))
    (work.root / "small/manifest.json").write_text(weights.read_text().replace(str(trained.root), "/nowhere"))
    assert "which is gone; run `itmkit index --force --run NAME`" in problem("search", "a dog", "--index", "small")
    (work.root / "folder").mkdir()
    assert "folder: is there already and is not an index" in problem("index", "--run", "mpsm", "--out", "folder")


def test_faiss_finds_the_same_and_vectors_go_to_parquet(
    work: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss")
    parquet = pytest.importorskip("pyarrow.parquet")
    exact = told(capsys, "search", "-w", str(work.root), QUERY, "-k", "14")["hits"]
    shutil.copytree(work.root / "index", work.root / "index-faiss")
    found = told(capsys, "index", "-w", str(work.root), "--engine", "faiss", "--out", "index-faiss")
    assert (found["engine"], found["encoded"]) == ("faiss", 0)
    assert told(capsys, "search", "-w", str(work.root), QUERY, "-k", "14", "--index", "index-faiss")["hits"] == exact
    file = work.root / "index-faiss" / "images-14.faiss"
    file.write_bytes(file.read_bytes()[:-1])
    said = told(capsys, "search", "-w", str(work.root), QUERY, "--index", "index-faiss")["error"]["problems"][0]
    assert "images-14.faiss: is missing or has not the size it was written with" in said
    path = tmp_path / "vectors.parquet"
    assert told(capsys, "index", "-w", str(work.root), "--to", "parquet", str(path))["images"] == 14
    table, store = parquet.read_table(path), Store(work.root / "index")
    assert table.column("id").to_pylist() == store.ids
    np.testing.assert_array_equal(np.stack(table.column("vector").to_pylist()), np.concatenate(store.candidates()))
    path.write_bytes(b"mine")
    assert run(cli, ["index", "-w", str(work.root), "--to", "parquet", str(path)]) == 2
    assert "is not a Parquet file" in capsys.readouterr().err
