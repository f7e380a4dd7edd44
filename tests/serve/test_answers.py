"""An index is opened with the run that made it, also elsewhere, and with methods that know no regions."""

from __future__ import annotations

import asyncio
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import itmkit
from itmkit.dataset import write_dataset
from itmkit.errors import ItmkitError
from itmkit.graphs import build_graphs
from itmkit.index.build import build_index
from itmkit.regions.extract import extract_regions
from itmkit.serve.answers import inside, open_answers
from itmkit.serve.indexed import best_overlap
from itmkit.workspace import Workspace

pytest.importorskip("starlette")


def test_an_index_of_another_run_is_refused_and_a_moved_workspace_opened(trained: Workspace, tmp_path: Path) -> None:
    home = Workspace(shutil.copytree(trained.root, tmp_path / "work"))
    with pytest.raises(ItmkitError, match="there is no index; run `itmkit index"):
        open_answers(home)
    build_index(home, itmkit.open(home.run("mpsm")))
    with pytest.raises(ItmkitError, match=r"made by another run.*`itmkit index --run glfn --force`"):
        open_answers(home, run="glfn")
    moved = Workspace(home.root.rename(tmp_path / "moved"))
    with open_answers(moved).matcher as matcher:
        assert matcher.folder == moved.run("mpsm").resolve()
    weights = moved.run("mpsm") / "best-distance.safetensors"
    with safe_open(weights, "pt") as file:
        notes = file.metadata()
    save_file({name: value + 0.5 for name, value in load_file(weights).items()}, weights, notes)
    with pytest.raises(ItmkitError, match="content is not what was written"):
        open_answers(moved)


def test_a_method_of_whole_pictures_searches_by_what_is_inside_a_box(trained: Workspace, tmp_path: Path) -> None:
    home = Workspace(shutil.copytree(trained.root, tmp_path / "work"))
    build_index(home, itmkit.open(home.run("dual")))
    answers = open_answers(home)
    with answers.matcher:
        image = answers.searcher.store.ids[0]
        assert answers.facts["regions"] is False and answers.image(image)["regions"] == []
        found = answers.search("a red car", 5, 10, "matcher")
        assert len(found["results"]) == 5 and "head" not in found["words"][0]
        assert answers.explain(image, "a red car")["attention"] is None
        with pytest.raises(ItmkitError, match="compares whole pictures"):
            answers.region_of_image(image, 0, 5)
        data = home.image_path(home.dataset().images[0].file or "").read_bytes()
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        box = (10.0, 10.0, 60.0, 70.0)
        part = answers.region_of_picture(picture, "a", box, 5)["results"]
        assert part == answers.like_picture(picture.crop((10, 10, 60, 70)), "b", 5)["results"]


def test_images_that_the_workspace_lost_are_not_found(trained: Workspace, tmp_path: Path) -> None:
    home = Workspace(shutil.copytree(trained.root, tmp_path / "work"))
    build_index(home, itmkit.open(home.run("mpsm")))
    lost, *images = home.dataset().images
    write_dataset(home.dataset_path, images, kind="scenes", settings={})
    for cache in ("regions", "graphs/images"):
        shutil.rmtree(home.cache(cache))
    extract_regions(home, regions=6)
    build_graphs(home, parts=["images"])
    answers = open_answers(home)
    with answers.matcher:
        found = [answers.search("a red car", 20, 10, "matcher")]
        found += [answers.like_image(images[0].id, 20), answers.region_of_image(images[0].id, 0, 20)]
        assert lost.id not in answers.images.positions and answers.facts["images"] == 13
        for each in found:
            assert {one["image"] for one in each["results"]} == {image.id for image in images}


def test_a_box_stands_for_the_region_it_covers_best() -> None:
    boxes = np.array([[0, 0, 100, 100], [10, 10, 30, 30], [50, 50, 90, 90]], np.float32)
    assert best_overlap(boxes, (12, 8, 31, 30)) == 1
    assert best_overlap(boxes, (5, 5, 99, 99)) == 0
    assert best_overlap(boxes, (200, 200, 210, 210)) is None
    assert best_overlap(boxes[:0], (0, 0, 1, 1)) is None
    assert inside((-5, 3.2, 1e9, 3.3), (20, 10)) == (0, 3, 20, 4)
    assert inside((500, 500, 600, 600), (20, 10)) == (19, 9, 20, 10)


def test_on_any_address_only_numbers_and_own_names_are_hosts() -> None:
    from itmkit.serve.guard import Guard

    async def app(*_: object) -> None:
        raise AssertionError

    everywhere, here = Guard(app, "0.0.0.0"), Guard(app, "127.0.0.1")
    assert everywhere._is_ours("192.168.1.7:8000") and everywhere._is_ours("[fe80::1]:8000")
    assert not everywhere._is_ours("evil.example:8000") and not here._is_ours("192.168.1.7:8000")
    assert here._is_ours("LOCALHOST:8000") and here._is_ours("[::1]")


def test_a_full_queue_refuses() -> None:
    from itmkit.serve.worker import Busy, Worker

    async def scene() -> None:
        worker = Worker("test", 2)
        two = [asyncio.ensure_future(worker.run(sum, [k])) for k in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await worker.run(sum, [3])
        assert await asyncio.gather(*two) == [1, 2]
        with pytest.raises(ZeroDivisionError):
            await worker.run(divmod, 1, 0)
        assert await worker.run(sum, [4]) == 4
        worker.close()

    asyncio.run(scene())
