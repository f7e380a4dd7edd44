from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from itmkit.cache import merge_parts
from itmkit.commands.parse_text import command
from itmkit.errors import ItmkitError
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.job import Job
from itmkit.parse_text.parse import parse_text
from itmkit.parse_text.shipped import ShippedBackend
from itmkit.parse_text.store import TextCache
from itmkit.progress import SILENT
from itmkit.workspace import Workspace

MakeWorkspace = Callable[..., Workspace]
CAPTIONS = [
    ["a dog runs .", "the man's red cat. A dog!", "a dog runs ."],
    ["👍🏽", "Zoë n'a pas — d’accord", "a dog runs ."],
    ["dog " * 40, ". . .", "the cat"],
    [f"a man with {n} dogs ." for n in range(20)],
]


def shards(workspace: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(workspace.cache("text").iterdir()) if path.name[0] != "."}


@pytest.mark.parametrize("of", [2, 5])
def test_parts_make_the_cache_one_process_makes(make_workspace: MakeWorkspace, untrained: Path, of: int) -> None:
    workspace = make_workspace(*CAPTIONS)
    parse_text(workspace, model=str(untrained), job=Job(shard_size=7))
    texts = [text for image in CAPTIONS for text in image]
    whole = TextCache.open(workspace.cache("text"))
    expected, tables = whole.load_texts(texts), dict(whole.reader.tables)
    shutil.rmtree(workspace.cache("text"))
    options = ["-w", str(workspace.root), "--model", str(untrained)]
    for index in range(of):
        size = [] if index else ["--shard-size", "7"]  # the others as it was begun
        done = CliRunner().invoke(command, [*options, "--shard", f"{index}/{of}", *size], catch_exceptions=False)
        assert done.exit_code == 0 and "itmkit merge" in done.output
    merge_parts(workspace.cache("text"))
    merged = TextCache.open(workspace.cache("text"))
    assert dict(merged.reader.tables) == tables and merged.reader.ids == whole.reader.ids
    for name, values in vars(merged.load_texts(texts)).items():
        np.testing.assert_array_equal(values, getattr(expected, name), err_msg=name)


def test_each_caption_once_with_its_own_words(make_workspace: MakeWorkspace, untrained: Path) -> None:
    captions = [*CAPTIONS, ["dog " * 700]]
    workspace = make_workspace(*captions)
    result = parse_text(workspace, model=str(untrained), job=Job(shard_size=7))
    assert (result.captions, result.distinct, result.parsed) == (30, 28, 28)
    cache = TextCache.open(workspace.cache("text"))
    assert len(cache) == 28
    texts = [text for image in captions for text in image]
    arrays = cache.load_texts(texts)
    assert len(arrays) == 30
    for k, text in enumerate(texts):
        mine = slice(arrays.offsets[k], arrays.offsets[k + 1])
        words = [cache.words[i] for i in arrays.words[mine]]
        assert words == [text[a:b] for a, b in zip(arrays.starts[mine], arrays.ends[mine], strict=True)]
        heads, sentences = arrays.heads[mine], arrays.sentences[mine]
        roots = heads == np.arange(len(words))
        assert (sentences[heads] == sentences).all()
        assert np.bincount(sentences[roots], minlength=sentences.max(initial=-1) + 1).tolist() == [1] * (
            sentences.max(initial=-1) + 1
        )
        assert [cache.relations[r] == "root" for r in arrays.relations[mine]] == roots.tolist()
        assert all(cache.pos[p] and cache.lemmas[m] for p, m in zip(arrays.pos[mine], arrays.lemmas[mine], strict=True))
    assert arrays.sentences.max() == 2  # 700 words without a full stop are cut in three


def test_captions_without_words_are_empty_rows(untrained: Path) -> None:
    parsed = ShippedBackend(untrained).parse(["", "  ", "a dog", "\u3000"], 8)
    assert parsed.lengths.tolist() == [0, 0, 2, 0] and parsed.heads.shape == (2,)


def test_batch_size_does_not_change_a_byte(make_workspace: MakeWorkspace, untrained: Path) -> None:
    workspace = make_workspace(*CAPTIONS)
    parse_text(workspace, model=str(untrained), job=Job(shard_size=10))
    first = shards(workspace)
    shutil.rmtree(workspace.cache("text"))
    parse_text(workspace, model=str(untrained), job=Job(shard_size=10, batch=1))
    assert shards(workspace) == first


def test_an_interrupted_run_continues_to_the_same_bytes(
    make_workspace: MakeWorkspace, untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(*CAPTIONS)
    parse_text(workspace, model=str(untrained), job=Job(shard_size=4))
    undisturbed = shards(workspace)
    parse_text(make_workspace(["other"]), model=str(untrained), job=Job(shard_size=4, force=True))
    make_workspace(*CAPTIONS)
    parse = ShippedBackend.parse
    monkeypatch.setattr("itmkit.parse_text.parse.CHUNK_CHARACTERS", 20)
    calls = 0

    def failing(self: ShippedBackend, texts: list[str], batch_size: int) -> object:
        nonlocal calls
        calls += 1
        if calls % 5 == 0:
            raise KeyboardInterrupt
        return parse(self, texts, batch_size)

    monkeypatch.setattr(ShippedBackend, "parse", failing)
    interrupted = 0
    force = True
    while True:
        try:
            result = parse_text(workspace, model=str(untrained), job=Job(shard_size=4, force=force))
            break
        except KeyboardInterrupt:
            interrupted += 1
            force = False
            assert interrupted < 20
    assert interrupted >= 2 and result.parsed < 27
    assert shards(workspace) == undisturbed


def test_a_complete_cache_is_left_alone(make_workspace: MakeWorkspace, untrained: Path) -> None:
    workspace = make_workspace(*CAPTIONS)
    parse_text(workspace, model=str(untrained))
    times = {path: path.stat().st_mtime_ns for path in workspace.cache("text").glob("*.h5")}
    assert parse_text(workspace, model=str(untrained)).parsed == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_other_captions_or_weights_need_force(make_workspace: MakeWorkspace, untrained: Path) -> None:
    workspace = make_workspace(["a dog"])
    parse_text(workspace, model=str(untrained))
    make_workspace(["a dog", "a cat"])
    with pytest.raises(ItmkitError, match=r"captions.*--force"):
        parse_text(workspace, model=str(untrained))
    make_workspace(["a dog"])
    with pytest.raises(ItmkitError, match="sha256"):
        parse_text(workspace)
    assert parse_text(workspace, job=Job(force=True)).parsed == 1


def test_settings_of_the_workspace(make_workspace: MakeWorkspace, untrained: Path) -> None:
    workspace = make_workspace(["a dog"])
    settings = workspace.root / "workspace.toml"
    settings.write_text(f'[parse-text]\nmodel = "{untrained}"\n')
    assert parse_text(workspace).model["sha256"] == ShippedBackend(untrained).model["sha256"]
    settings.write_text('[parse-text]\nparser = "stanford"\ncolour = 1\n')
    with pytest.raises(ItmkitError) as caught:
        parse_text(workspace, job=Job(shard_size=0))
    assert caught.value.problems == [f"{settings}: [parse-text] has no setting 'colour'; it has parser, model"]
    settings.write_text('[parse-text]\nparser = "stanford"\n')
    with pytest.raises(ItmkitError) as caught:
        parse_text(workspace, job=Job(shard_size=0))
    assert len(caught.value.problems) == 2


def test_a_model_of_the_workspace_is_that_of_its_parser(
    make_workspace: MakeWorkspace, untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(["a dog"])
    (workspace.root / "workspace.toml").write_text('[parse-text]\nparser = "spacy"\nmodel = "en_tiny_sm"\n')
    assert parse_text(workspace, parser="scan").parsed == 1
    assert parse_text(workspace, parser="itmkit").model == ShippedBackend().model
    monkeypatch.setenv("HOME", str(untrained.parent))
    (workspace.root / "workspace.toml").write_text(f'[parse-text]\nmodel = "~/{untrained.name}"\n')
    assert parse_text(workspace, job=Job(force=True)).model == ShippedBackend(untrained).model


def test_a_missing_data_set_or_cache_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="itmkit prepare"):
        parse_text(Workspace(tmp_path))
    with pytest.raises(ItmkitError, match="itmkit parse-text"):
        TextCache.open(tmp_path / "text")


def test_rows_in_any_order(make_workspace: MakeWorkspace, untrained: Path) -> None:
    workspace = make_workspace(*CAPTIONS)
    parse_text(workspace, model=str(untrained), job=Job(shard_size=5))
    cache = TextCache.open(workspace.cache("text"))
    everything = cache.load()
    rows = np.random.default_rng(0).integers(0, len(cache), 60)
    some = cache.load(rows)
    for k, row in enumerate(rows):
        mine, whole = slice(*some.offsets[k : k + 2]), slice(*everything.offsets[row : row + 2])
        assert (some.heads[mine] == everything.heads[whole]).all() and (some.ends[mine] == everything.ends[whole]).all()
    assert len(cache.load([])) == 0
    with pytest.raises(ItmkitError, match="no row for 1 of 2"):
        cache.rows(["a dog runs .", "never seen"])
    with pytest.raises(IndexError):
        cache.load([27])


def test_vocabulary_from_the_cache(make_workspace: MakeWorkspace, untrained: Path) -> None:
    workspace = make_workspace(*CAPTIONS)
    parse_text(workspace, model=str(untrained))
    cache = TextCache.open(workspace.cache("text"))
    counts = cache.word_counts([text for image in CAPTIONS for text in image])
    assert counts["runs"] == 3 and counts["dogs"] == 20 and counts["dog"] == 44 and counts["A"] == 1
    vocabulary = Vocabulary.build(counts, minimum=3)
    assert vocabulary.encode(cache.words)[cache.load_texts(["a dog runs ."]).words].tolist() == [
        vocabulary.words.index(word) for word in ("a", "dog", "runs", ".")
    ]


def test_command(make_workspace: MakeWorkspace, untrained: Path) -> None:
    workspace = make_workspace(["a dog", "a cat"])
    done = CliRunner().invoke(command, ["-w", str(workspace.root), "--model", str(untrained), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["parsed"] == 2
    again = CliRunner().invoke(command, ["-w", str(workspace.root), "--model", str(untrained)])
    assert again.exit_code == 0


def test_captions_without_spaces_get_a_note(make_workspace: MakeWorkspace, untrained: Path) -> None:
    told: list[str] = []
    progress = type("Notes", (type(SILENT),), {"note": lambda self, text: told.append(text)})()

    for texts, noted in (
        (["一只棕色的狗在沙滩上奔跑", "両親が子供と遊んでいる。", "สุนัขวิ่งเล่นบนชายหาด", "a dog"], True),
        (["一 只 棕色 的 狗", "Donaudampfschiff", "a dog runs ."], False),
    ):
        told.clear()
        parse_text(make_workspace(texts), model=str(untrained), job=Job(progress=progress, force=True))
        assert any("--parser stanza" in text for text in told) == noted
