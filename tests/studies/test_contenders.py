from __future__ import annotations

from typing import Any

import pytest

from itmkit.errors import ItmkitError
from itmkit.matchers import method
from itmkit.studies.contenders import Contender, checked, over_images
from itmkit.workspace import Workspace
from tests.training.tiny import FAST_TRAINING, make_workspace

SETTINGS = {**FAST_TRAINING, "epochs": 1}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Regions lack one image of test, patches lack none."""
    return make_workspace(tmp_path_factory.mktemp("contenders"), vectors=True, patches="dino", skipped=("image20",))


def labels(workspace: Workspace, methods: list[str], split: str = "val", **more: Any) -> list[str]:
    found = checked(workspace, methods, [0], "small", SETTINGS | more, "compare", split, None)
    return [contender.label for contender, _ in found]


def problems(workspace: Workspace, methods: list[str], split: str = "val", **more: Any) -> list[str]:
    with pytest.raises(ItmkitError) as error:
        labels(workspace, methods, split, **more)
    return error.value.problems


def test_runs_of_different_settings_have_names_of_their_own() -> None:
    names = {Contender.read(text).run(0, "compare") for text in ("mefn", "mefn:mfe=false", "mefn:images=a/b")}
    assert names == {"compare-mefn-seed0", "compare-mefn+mfe=false-seed0", "compare-mefn+images=a_b-seed0"}


def test_each_method_with_each_cache_as_if_written_out() -> None:
    settings = {"epochs": "1", "images": "dino, regions"}
    assert over_images(["chan", "scan:seeds=1", "mefn:images=regions"], settings) == (
        [
            "chan:images=dino",
            "chan:images=regions",
            "scan:seeds=1:images=dino",
            "scan:seeds=1:images=regions",
            "mefn:images=regions",
        ],
        {"epochs": "1"},
    )
    for one in ("dino", "dino,", "regions"):  # a setting of all, as it always was
        assert over_images(["chan"], {"images": one}) == (["chan"], {"images": one.rstrip(",")})
    assert over_images(["chan"], {"epochs": 1}) == (["chan"], {"epochs": 1})


def test_settings_of_each(workspace: Workspace) -> None:
    found = checked(
        workspace, ["vsepp", "chan:embed=64"], [0], "small", SETTINGS | {"images": "dino,regions"}, "x", "val", None
    )
    assert {one.label: each[0].matcher.images for one, each in found} == {
        "vsepp:images=dino": "dino",
        "vsepp:images=regions": "regions",
        "chan:embed=64:images=dino": "dino",
        "chan:embed=64:images=regions": "regions",
    }


def test_a_seed_is_no_setting_of_a_comparison(workspace: Workspace) -> None:
    says = "--seed: a comparison gives each run its seed, 0, 1, ...; --seeds N says how many"
    assert problems(workspace, ["vsepp:seed=7:seeds=1", "scan"]) == [f"vsepp:seed=7:seeds=1: {says}"]
    assert problems(workspace, ["vsepp", "scan"], seed=5) == [f"vsepp, scan: {says}"]


def test_what_methods_cannot_read_is_one_list(workspace: Workspace) -> None:
    pooled = "scl:inputs=pooled"
    told = problems(workspace, ["chan", "scan", "mpsm", "pfan", "glfn", "dual", pooled], images="regions,dino,lost")
    (lost,) = [problem for problem in told if "caches/lost is missing" in problem]
    assert lost.startswith("chan:images=lost, scan:images=lost, mpsm:images=lost, pfan:images=lost: ")
    assert "glfn:images=dino: --images dino: tags are of regions; needs --tags false" in told
    assert any(problem.startswith("dual:images=regions: --images 'regions': pictures and captions") for problem in told)
    assert f"{pooled}:images=dino: --images dino: with these settings scl reads vectors-tiny/images" in told
    # These read where regions, or patches, lie.
    both = tuple(f"{name}:images={cache}" for name in ("mpsm", "pfan") for cache in ("regions", "dino"))
    assert not any(problem.startswith(both) for problem in told)
    assert problems(workspace, ["chan"], images="dino,a/b")[0].startswith("chan:images=a/b: --images 'a/b': regions, ")


def test_methods_of_whole_vectors_take_caches_of_them(workspace: Workspace) -> None:
    """And stay beside patches where they name their own."""
    settings = SETTINGS | {"images": "vectors-tiny,vectors"}
    pooled = "scl:inputs=pooled"
    found = checked(workspace, ["dual", pooled], [0], "small", settings, "x", "val", None)
    read = {one.label: method(each[0].method).needs(each[0].matcher).images for one, each in found}
    assert read == dict.fromkeys((f"{name}:images={cache}" for name in ("dual", pooled) for cache in
                                  ("vectors-tiny", "vectors")), "vectors-tiny/images")  # fmt: skip
    own = "dual:images=vectors-tiny"
    assert labels(workspace, ["chan", own], images="dino,regions") == ["chan:images=dino", "chan:images=regions", own]
    assert "one model of `itmkit embed`" in problems(workspace, ["dual"], images="dino")[0]
    assert "--images 'vectors-tiny': regions, patches" in problems(workspace, ["chan"], images="vectors-tiny")[0]


def test_figures_of_different_images_are_refused_before_training(workspace: Workspace) -> None:
    assert labels(workspace, ["chan"], images="dino,regions") == ["chan:images=dino", "chan:images=regions"]
    (told,) = problems(workspace, ["chan"], "test", images="dino,regions")
    assert "caches/regions: lacks 1 images of --split test that other methods have (image20, ...)" in told
    assert labels(workspace, ["chan", "scan"], "test") == ["chan", "scan"]
