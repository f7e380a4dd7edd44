"""Reports of files of scores: no model is needed, and captions and ids are nasty."""

from __future__ import annotations

import base64
import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from itmkit.errors import ItmkitError
from itmkit.report.html import write
from itmkit.report.html.make import Asked, make_report
from itmkit.scoring.metrics import query_ranks
from itmkit.statistics.bootstrap import differences, intervals
from itmkit.visible import visible
from itmkit.workspace import Workspace
from tests.report.html.parsed import Parsed, parsed
from tests.report.html.small import IMAGES, NASTY, make_nasty, scores_of, write_scores
from tests.workspaces import save_picture

pytest.importorskip("jinja2")
NAMES = ("a", "b<script>")
IMAGE_OF = np.repeat(np.arange(IMAGES), 5)


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_nasty(tmp_path_factory.mktemp("nasty"))
    for number, name in enumerate("ab"):
        write_scores(workspace, workspace.root / f"{name}.h5", scores_of(number))
    return workspace


def asked(workspace: Workspace, runs: tuple[str, ...] = NAMES, **more: Any) -> Asked:
    scores = {run: workspace.root / f"{run[0]}.h5" for run in runs}
    return Asked(runs=runs, scores=scores, command="itmkit report </code><script>", **more)


@pytest.fixture(scope="module")
def page(nasty: Workspace) -> Parsed:
    written = make_report(nasty, asked(nasty))
    assert written.path == nasty.root / "reports" / "a+b<script>-test.html"
    assert written.bytes == written.path.stat().st_size
    return parsed(written.path)


def test_whatever_captions_and_ids_hold_is_text(page: Parsed, nasty: Workspace) -> None:
    shown = page.text
    for text in NASTY:
        assert f"{visible(text)} " in shown
    assert "\\x1b[31m red\\tdog\\u202e gnisrever\\x7f" in shown and "</code><script>" in shown
    assert '<b onclick="alert(3)">0</b>' in [each["alt"] for each in page.all("img")]
    assert not page.all("b", onclick="alert(3)") and not page.all("img", src="x")
    captions = {query["caption"] for query in page.data["queries"]["t2i"]}
    known = {caption.text for image in nasty.dataset().images for caption in image.captions}
    assert captions <= known and len(captions) == 24
    assert (
        write.in_script({"x": "</script><!--&\u2028\ud800"})
        == '{"x":"\\u003c/script\\u003e\\u003c!--\\u0026\\u2028\\ud800"}'
    )


def test_chips_stand_in_the_direction_of_the_caption_and_what_is_not_read_is_told(page: Parsed) -> None:
    data = copy.deepcopy(page.data)
    words = [{"word": word, "importance": 0.1} for word in ("שני", "כלבים")]
    data["queries"]["t2i"][0] |= {"words": words, "unread": "<b>רצים"}
    drawn = write.rendered(data, {})
    assert drawn.count('<div class="chips" dir="auto"') == 1 and "<span>כלבים</span>" in drawn
    assert "reads no further than that: <bdi>&lt;b&gt;רצים</bdi>" in drawn


def test_figures_are_those_of_the_scores(page: Parsed) -> None:
    data = page.data
    ranks = [query_ranks(scores_of(number), IMAGE_OF) for number in range(2)]
    for row, of in zip(data["results"], ranks, strict=True):
        found, ends = of.retrieval(), intervals(of)
        assert row["rsum"] == found.rsum and row["i2t"]["R@1"] == found.i2t.r1
        assert row["intervals"] == {name: one.to_json() for name, one in ends.items()}
        assert f"{found.t2i.r5:.1f}{ends['t2i R@5'].low:.1f} to {ends['t2i R@5'].high:.1f}" in page.text
        assert f"i2t R@1 {found.i2t.r1:.1f} ({ends['i2t R@1'].low:.1f} to" in page.text  # of a mark in the chart
    (difference,) = data["difference"]
    tested = differences(*ranks)
    assert difference["figures"] == {name: one.to_json() for name, one in tested.items()}
    assert f"{tested['rsum'].value:+.2f}" in page.text
    assert data["made"]["command"] and data["made"]["caches"] == {} and "itmkit" in data["made"]["versions"]


def test_queries_show_what_the_matrix_ranks_first(page: Parsed, nasty: Workspace) -> None:
    data, images = page.data, nasty.dataset().images
    place = {caption.id: k for k, caption in enumerate(c for image in images for c in image.captions)}
    scores = [scores_of(number) for number in range(2)]
    ranks = [query_ranks(each, IMAGE_OF) for each in scores]
    for query in data["queries"]["t2i"]:
        text = place[query["id"]]
        assert [query["rank"], query["baseline"]] == [of.of_texts[text] + 1 for of in ranks]
        for shown, matrix, of in zip((query["shown"], query["baseline_shown"]), scores, ranks, strict=True):
            assert [one["score"] for one in shown[:5]] == sorted(matrix[:, text].tolist(), reverse=True)[:5]
            assert [one["rank"] for one in shown[:5]] == [1, 2, 3, 4, 5]
            (right,) = [one for one in shown if one["right"]]
            assert right["rank"] == of.of_texts[text] + 1 and right["image"] == query["image"]
            assert len(shown) == (5 if right["rank"] <= 5 else 6)
    gains = [query for query in data["queries"]["t2i"] if query["list"] == "Largest gains"]
    assert len(gains) == 8 and all(query["rank"] < query["baseline"] for query in gains)
    for query in data["queries"]["i2t"]:
        right = [one for one in query["shown"] if one["right"]]
        assert right[0]["rank"] == query["rank"] and all(one["image"] == query["image"] for one in right)
    assert len(page.all("li", class_="shot")) == len(page.all("svg", class_="boxes")) + sum(
        len(query["baseline_shown"]) for query in data["queries"]["t2i"]
    )
    signs = [each for each in page.all("span", class_="sign") if each["title"] == "right"]
    assert len(signs) == page.text.count("✓ right") > 0 and page.text.count("✗ wrong") > 0


def test_the_same_again_gives_the_same_bytes_and_other_files_stay(nasty: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    first = make_report(nasty, asked(nasty, ("a",), out=out, queries=5)).path.read_bytes()
    assert make_report(nasty, asked(nasty, ("a",), out=out, queries=5)).path.read_bytes() == first
    data = parsed(out).data
    assert [len(data["queries"][side]) for side in ("t2i", "i2t")] == [5, 5]
    assert "difference" in data and not data["difference"] and data["queries"]["t2i"][0]["baseline"] is None
    (tmp_path / "mine.html").write_text("<p>mine")
    with pytest.raises(ItmkitError, match="is not a report"):
        make_report(nasty, asked(nasty, ("a",), out=tmp_path / "mine.html"))
    assert (tmp_path / "mine.html").read_text() == "<p>mine"


def test_pictures_come_from_a_folder_but_not_from_beyond_it(nasty: Workspace, tmp_path: Path) -> None:
    for number in range(2, 8):
        save_picture(tmp_path / "there" / f"image {number}.jpg", (700, 300))
    found = make_report(nasty, asked(nasty, ("a",), images=tmp_path / "there", out=tmp_path / "r.html"))
    sources = {each["alt"]: each for each in parsed(found.path).all("img")}
    assert {f"image {number}.jpg" for number in range(2, 8)} < set(sources)
    big = sources["image 2.jpg"]
    picture = Image.open(io.BytesIO(base64.b64decode(big["src"].partition(",")[2])))
    assert picture.format == "JPEG" and picture.size == (320, 137) == (int(big["width"]), int(big["height"]))
    assert any("pictures are not there" in note for note in found.notes)
    outside = make_nasty(tmp_path / "work")
    records = outside.dataset().images
    save_picture(tmp_path / "secret.png")
    from dataclasses import replace

    from itmkit.report.html.pictures import Pictures

    pictures = Pictures(outside, images=tmp_path / "there")
    for name in ("../secret.png", str(tmp_path / "secret.png"), "..", "no/such", "."):
        assert pictures.get(replace(records[5], id=name)) is None
    pictures.close()


def test_a_page_that_would_be_too_large_says_what_to_do(
    nasty: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "MOST_BYTES", 60_000)
    with pytest.raises(ItmkitError, match=r"--queries \d+ makes it small enough, or --pages"):
        make_report(nasty, asked(nasty, out=tmp_path / "r.html"))
    assert list(tmp_path.iterdir()) == []
    folder = tmp_path / "pages"
    written = make_report(nasty, asked(nasty, out=folder, pages=True))
    page = parsed(written.path)
    sources = {each["src"] for each in page.all("img")}
    assert sources and {str(path.relative_to(folder)) for path in (folder / "pictures").iterdir()} == sources
    assert written.bytes == sum(path.stat().st_size for path in folder.rglob("*.*"))
    make_report(nasty, asked(nasty, ("a",), out=folder, pages=True))  # a report may be replaced by another one
    assert len(parsed(written.path).data["runs"]) == 1 and [path.name for path in tmp_path.iterdir()] == ["pages"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "index.html").write_text("mine")
    with pytest.raises(ItmkitError, match="no folder of `itmkit report --pages`"):
        make_report(nasty, asked(nasty, out=tmp_path / "notes", pages=True))


@pytest.mark.parametrize("name", ["notes.txt", "other/data.csv", "pictures/mine.jpg", "pictures"])
def test_a_folder_with_files_of_the_user_is_no_report(name: str, tmp_path: Path) -> None:
    mine = tmp_path / "site" / name
    mine.parent.mkdir(parents=True)
    (tmp_path / "site" / "index.html").write_text('<meta name="generator" content="itmkit report">')
    mine.write_text("mine")
    with pytest.raises(ItmkitError, match=rf"is no folder of .* \(it holds {name.partition('/')[0]}"):
        write.check_target(tmp_path / "site", folder=True)
    assert mine.read_text() == "mine"


def test_a_folder_of_pages_stays_the_same_folder_and_a_link_to_it_a_link(tmp_path: Path) -> None:
    folder, link = tmp_path / "pages", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    before = folder.stat().st_ino
    for number in range(2):
        write.check_target(link, folder=True)
        with write.whole_folder(link) as partial:
            (partial / "index.html").write_text(f'<meta name="generator" content="itmkit report">{number}')
            (partial / "pictures").mkdir()
            (partial / "pictures" / f"0000{number}.jpg").touch()
    assert link.is_symlink() and folder.stat().st_ino == before
    assert (folder / "index.html").read_text().endswith("1")
    assert [path.name for path in (folder / "pictures").iterdir()] == ["00001.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pages"]


def test_scores_of_other_images_are_refused(nasty: Workspace, tmp_path: Path) -> None:
    few = make_nasty(tmp_path / "few")
    from itmkit.scoring.stored import InMemory, save_scores

    images = few.dataset().images[:5]
    captions = [caption.id for image in images for caption in image.captions]
    save_scores(nasty.root / "c.h5", InMemory(scores_of(0, 5)), [image.id for image in images], captions, "")
    with pytest.raises(ItmkitError, match=r"c\.h5: has scores of 5 images of the split"):
        make_report(nasty, asked(nasty, ("a", "c"), out=tmp_path / "r.html"))
    assert not (tmp_path / "r.html").exists()
