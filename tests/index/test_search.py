"""Search finds what evaluation ranks first, and an index stays true to what it was made from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import itmkit
from itmkit.dataset import Caption, write_dataset
from itmkit.embed.embed import embed
from itmkit.errors import ItmkitError
from itmkit.graphs import build_graphs
from itmkit.index.build import build_index
from itmkit.index.encode import Source
from itmkit.index.open import behind_note, open_index
from itmkit.index.search import Searcher
from itmkit.index.store import Store
from itmkit.progress import SILENT
from itmkit.regions.extract import extract_regions
from itmkit.trained import Matcher
from itmkit.workspace import Workspace
from tests.trained.small_runs import RUNS

QUERY = "a small red dog left of the car"


@pytest.fixture
def matcher(trained: Workspace) -> Matcher:
    return itmkit.open(trained.run("mpsm"))


@pytest.mark.parametrize("method", RUNS)
def test_with_all_reranked_the_order_is_that_of_the_matcher(trained: Workspace, tmp_path: Path, method: str) -> None:
    matcher = itmkit.open(trained.run(method))
    build_index(trained, matcher, folder=tmp_path / "index", rows="float32", chunk=5)
    searcher = Searcher(Store(tmp_path / "index"), matcher)
    ids = [image.id for image in trained.dataset().images]
    expected = matcher.score(ids, [QUERY])[:, 0]
    hits = searcher.text(QUERY, count=len(ids), rerank=len(ids))
    assert [hit.rank for hit in hits] == list(range(1, len(ids) + 1))
    assert sorted(hit.candidate_rank for hit in hits) == [hit.rank for hit in hits]
    found = {hit.image: hit.score for hit in hits}
    np.testing.assert_allclose([found[image] for image in ids], expected, atol=1e-6)
    assert [hit.score for hit in hits] == sorted(found.values(), reverse=True)


@pytest.mark.parametrize(("rows", "near"), [("float16", 2e-3), ("int8", 3e-2)])
def test_smaller_rows_give_nearly_the_same_scores(
    trained: Workspace, tmp_path: Path, matcher: Matcher, rows: str, near: float
) -> None:
    small = build_index(trained, matcher, folder=tmp_path / "small", rows=rows)  # type: ignore[arg-type]
    whole = build_index(trained, matcher, folder=tmp_path / "whole", rows="float32")
    assert small.bytes_an_image < 0.6 * whole.bytes_an_image
    texts, every = matcher.encode_texts([QUERY]), np.arange(whole.images)
    exact = Searcher(Store(tmp_path / "whole"), matcher).scores(every, texts)
    found = Searcher(Store(tmp_path / "small"), matcher).scores(every, texts)
    np.testing.assert_allclose(found, exact, atol=near)
    assert not np.array_equal(found, exact)


def test_an_interrupted_build_goes_on_at_its_last_chunk(
    trained: Workspace, tmp_path: Path, matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(trained, matcher, folder=tmp_path / "whole", chunk=5)
    real, calls = Source.write_images, 0

    def dies(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        real(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Source, "write_images", dies)
        build_index(trained, matcher, folder=tmp_path / "index", chunk=5)
    assert not (tmp_path / "index").exists()
    result = build_index(trained, matcher, folder=tmp_path / "index", chunk=5)
    assert (result.images, result.encoded) == (14, 4)
    for path in (tmp_path / "whole").rglob("*.npy"):
        assert path.read_bytes() == (tmp_path / "index" / path.relative_to(tmp_path / "whole")).read_bytes()


def test_an_interrupted_addition_goes_on_at_its_last_chunk(
    trained: Workspace, tmp_path: Path, matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real, written = tmp_path / "index", Source.write_images, list[int]()
    build_index(trained, matcher, folder=folder)
    facts = Store(folder).facts
    replace(facts, dead=list(range(14)), dead_captions=list(range(sum(facts.captions)))).write(folder)

    def dies(self: Source, index: Path, number: int, *rest: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(number)
        real(self, index, number, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Source, "write_images", dies)
        build_index(trained, matcher, folder=folder, add=True, chunk=5)
    result = build_index(trained, matcher, folder=folder, add=True, chunk=5)
    assert written == [1, 2] and (result.images, result.encoded) == (14, 4)
    build_index(trained, matcher, folder=tmp_path / "whole")
    scores = [
        {hit.image: hit.score for hit in Searcher(Store(place), matcher).text(QUERY, count=20)}
        for place in (folder, tmp_path / "whole")
    ]
    assert scores[0] == scores[1]


def test_only_new_images_are_encoded_and_lost_ones_no_longer_found(trained: Workspace, tmp_path: Path) -> None:
    home = Workspace(shutil.copytree(trained.root, tmp_path / "photos"))
    matcher = itmkit.open(trained.run("mpsm"))
    images = home.dataset().images

    def now(kept: list) -> None:  # type: ignore[type-arg]
        write_dataset(home.dataset_path, kept, kind="scenes", settings={})
        extract_regions(home, regions=6)
        build_graphs(home, parts=["images"])

    for cache in ("regions", "graphs/images"):
        shutil.rmtree(home.cache(cache))
    now(list(images[:6]))
    first = build_index(home, matcher, chunk=4)
    assert (first.images, first.encoded) == (6, 6)
    assert build_index(home, matcher, chunk=4).encoded == 0
    for cache in ("regions", "graphs/images"):
        shutil.rmtree(home.cache(cache))
    now(list(images[2:9]))
    with pytest.raises(ItmkitError, match=r"3 images are not in it and 2 of its images are gone.*--add"):
        build_index(home, matcher)
    result = build_index(home, matcher, add=True)
    assert (result.images, result.encoded, result.removed) == (7, 3, 2)
    hits = Searcher(Store(home.root / "index"), matcher).text(QUERY, count=20)
    assert {hit.image for hit in hits} == {image.id for image in images[2:9]}


def test_an_index_of_another_run_and_damaged_ones_are_refused(
    trained: Workspace, tmp_path: Path, matcher: Matcher
) -> None:
    folder = tmp_path / "index"
    with pytest.raises(ItmkitError, match="there is no index; run `itmkit index"):
        Store(folder)
    build_index(trained, matcher, folder=folder)
    with pytest.raises(ItmkitError, match="other weights"):
        build_index(trained, itmkit.open(trained.run("glfn")), folder=folder)
    (folder / "chunk-00000" / "rows.npy").write_bytes(b"short")
    with pytest.raises(ItmkitError, match=r"rows.npy.*--force"):
        Store(folder)
    assert build_index(trained, matcher, folder=folder, force=True).encoded == 14
    with pytest.raises(ItmkitError, match="the query is empty"):
        Searcher(Store(folder), matcher).text("  ")


def test_the_index_of_a_copy_belongs_to_the_run_of_the_copy(trained: Workspace, tmp_path: Path) -> None:
    first = Workspace(shutil.copytree(trained.root, tmp_path / "first"))
    build_index(first, itmkit.open(first.run("mpsm")))
    copy = Workspace(shutil.copytree(first.root, tmp_path / "copy"))
    (first.run("mpsm") / "best-distance.safetensors").write_bytes(b"other weights")
    assert open_index(copy).text(QUERY)


def test_captions_are_indexed_from_their_caches_and_follow_the_data_set(trained: Workspace, tmp_path: Path) -> None:
    home = Workspace(shutil.copytree(trained.root, tmp_path / "photos"))
    matcher, notes = itmkit.open(trained.run("dual")), list[str]()

    class Notes:
        task = staticmethod(SILENT.task)
        note = staticmethod(notes.append)

    texts = home.cache("vectors-clip/texts")
    texts.rename(tmp_path / "texts")
    assert build_index(home, matcher, progress=Notes()).captions == 0
    assert "captions are left out" in notes[0] and "caches/vectors-clip/texts is missing" in notes[0]
    searcher, images = Searcher(Store(home.root / "index"), matcher), home.dataset().images
    with pytest.raises(ItmkitError, match=r"has no captions; run `itmkit parse-text` and then `itmkit index --add`"):
        searcher.captions(images[0].id)
    (tmp_path / "texts").rename(texts)
    with pytest.raises(ItmkitError, match=r"0 images are not in it.*captions are new and 0 gone; --add"):
        build_index(home, matcher)
    distinct = list(dict.fromkeys(caption.text for image in images for caption in image.captions))
    assert build_index(home, matcher, add=True, chunk=30).captions == len(distinct)
    expected = matcher.score([images[0].id], distinct)[0]
    hits = Searcher(Store(home.root / "index"), matcher).captions(images[0].id, count=5)
    assert [hit.caption for hit in hits] == [distinct[k] for k in np.argsort(-expected, kind="stable")[:5]]
    fewer = [replace(image, captions=image.captions[1:]) for image in images]
    write_dataset(home.dataset_path, fewer, kind="scenes", settings={})
    shutil.rmtree(texts)
    embed(home, model=str(trained.root.parent / "clip"), cache="clip", only="texts")
    left = {caption.text for image in fewer for caption in image.captions}
    assert build_index(home, matcher, add=True).captions == len(left)
    hits = Searcher(Store(home.root / "index"), matcher).captions(images[0].id, count=1000)
    assert {hit.caption for hit in hits} == left


def test_stale_captions_keep_no_caption_that_is_gone_and_leave_the_index_behind(
    trained: Workspace, tmp_path: Path
) -> None:
    home = Workspace(shutil.copytree(trained.root, tmp_path / "photos"))
    matcher, images, notes = itmkit.open(trained.run("dual")), home.dataset().images, list[str]()

    class Notes:
        task = staticmethod(SILENT.task)
        note = staticmethod(notes.append)

    build_index(home, matcher)
    fewer = [replace(image, captions=image.captions[1:]) for image in images]
    fewer[0] = replace(fewer[0], captions=(*fewer[0].captions, Caption("new", "a caption that is new")))
    write_dataset(home.dataset_path, fewer, kind="scenes", settings={})
    with pytest.raises(ItmkitError, match=r"0 captions are new and \d+ gone; --add"):
        build_index(home, matcher)
    left = {caption.text for image in fewer for caption in image.captions} - {"a caption that is new"}
    assert build_index(home, matcher, add=True, progress=Notes()).captions == len(left)
    assert "new captions are left out; those in the index that the data set still has stay" in notes[0]
    assert behind_note(home, Store(home.root / "index"))
    fewer[0] = replace(fewer[0], captions=images[0].captions[1:])
    write_dataset(home.dataset_path, fewer, kind="scenes", settings={})
    build_index(home, matcher, add=True)
    assert not behind_note(home, Store(home.root / "index"))


def test_faiss_grows_with_the_index(trained: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    home = Workspace(shutil.copytree(trained.root, tmp_path / "photos"))
    matcher, images = itmkit.open(trained.run("dual")), home.dataset().images
    write_dataset(home.dataset_path, images[:9], kind="scenes", settings={})
    for side in ("images", "texts"):
        shutil.rmtree(home.cache(f"vectors-clip/{side}"))
    embed(home, model=str(trained.root.parent / "clip"), cache="clip")
    assert build_index(home, matcher, engine="faiss").engine == "faiss"
    write_dataset(home.dataset_path, images[2:], kind="scenes", settings={})
    for side in ("images", "texts"):
        shutil.rmtree(home.cache(f"vectors-clip/{side}"))
    embed(home, model=str(trained.root.parent / "clip"), cache="clip")
    result = build_index(home, matcher, add=True)
    assert (result.engine, result.encoded, result.removed) == ("faiss", 5, 2)
    assert [path.name for path in (home.root / "index").glob("images-*.faiss")] == ["images-14.faiss"]
    found = Searcher(Store(home.root / "index"), matcher).text(QUERY, count=20)
    build_index(home, matcher, folder=tmp_path / "exact")
    exact = Searcher(Store(tmp_path / "exact"), matcher).text(QUERY, count=20)
    assert [hit.image for hit in found] == [hit.image for hit in exact] and len(found) == 12
