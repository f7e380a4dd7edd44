"""Checkpoints made to harm, damaged or of other models: one clear error, exit code 2, nothing run, nothing written."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from itmkit.commands import cli
from itmkit.commands.console import run
from tests.import_checkpoint.published import (
    RCAR,
    WORDS,
    D,
    chan_model,
    options,
    rcar_model,
    save,
    scan_model,
    scan_options,
    sgraf_model,
    vocabulary,
    vseinf_model,
    workspace_of,
)


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


class Memory:
    def __reduce__(self) -> Any:
        return bytearray, (2 << 30,)


class Foreign:
    pass


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    workspace_of(folder)
    vocabulary(folder / "vocab.json")
    return folder


def whole(folder: Path, *, legacy: bool = False) -> bytes:
    path = folder / "whole.pth"
    content = {"epoch": 3, "model": scan_model(), "best_rsum": 1.0, "opt": scan_options(), "Eiters": 1}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path.read_bytes()


def saved(folder: Path, **changed: Any) -> bytes:
    return save(
        folder / "saved.pth", changed.pop("model", scan_model()), changed.pop("opt", scan_options()), **changed
    ).read_bytes()


def state(**changed: Any) -> list[Any]:
    images, texts = scan_model()
    return [{**images, **changed}, texts]


def legacy_claiming(folder: Path, count: int) -> bytes:
    """A small legacy file one of whose storages says that it has so many numbers."""
    data = whole(folder, legacy=True)
    small = b"X\x03\x00\x00\x00cpu"
    at = data.index(small)
    at = data.index(b"K", at)  # the number of a storage that has fewer than 256
    return data[:at] + b"\x8a\x05" + count.to_bytes(5, "little") + data[at + 2 :]


def zip_with(folder: Path, change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None]) -> bytes:
    source, target = zipfile.ZipFile(io.BytesIO(whole(folder))), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for entry in source.infolist():
            change(archive, entry, source.read(entry))
    return target.getvalue()


def packed(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, data: bytes) -> None:
    bomb = entry.filename.endswith("/data/0")
    archive.writestr(entry.filename, bytes(5 << 20) if bomb else data, zipfile.ZIP_DEFLATED)


def claiming_more(folder: Path) -> bytes:
    """50 GB in the directory of the archive, 200 bytes in the file."""
    data = whole(folder)
    at = data.index(b"PK\x01\x02")
    return (
        data[: at + 20]
        + struct.pack("<II", 50_000_000 << 6 & 0xFFFFFFFE, 50_000_000 << 6 & 0xFFFFFFFE)
        + data[at + 28 :]
    )


def tar_of(folder: Path) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            archive.addfile(tarfile.TarInfo(name))
    return target.getvalue()


def python2(folder: Path) -> bytes:
    """A legacy file with a byte string of 300 letters, as Python 2 wrote paths."""
    long = b"T" + struct.pack("<i", 300) + b"p" * 300
    return whole(folder, legacy=True).replace(b"X\x0d\x00\x00\x00/home/someone", long)


MAKERS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "bomb": (lambda f: saved(f, extra=Bomb(f / "ran")), "names posix.system"),
    "bomb in opt": (lambda f: saved(f, opt=scan_options(evil=Bomb(f / "ran"))), "names posix.system"),
    "bomb of pickle alone": (lambda f: pickle.dumps(Bomb(f / "ran"), 2), "cut short or damaged"),
    "protocol 4": (lambda f: pickle.dumps([Foreign()] * 9, 4), "names things in a way"),
    "memory": (lambda f: saved(f, extra=Memory()), "names builtins.bytearray"),
    "foreign class": (lambda f: saved(f, extra=Foreign()), "Foreign"),
    "numpy": (lambda f: saved(f, best_rsum=np.float64(411.5)), "holds numbers of NumPy"),
    "whole module": (lambda f: saved(f, model=torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear"),
    "no model": (lambda f: saved(f, model=3), "'model' is no list of weights"),
    "no opt": (lambda f: saved(f, opt=None), "has no 'opt'"),
    "not tensors": (lambda f: saved(f, model=[{"fc.weight": 3}, {}]), "fc.weight: not tensors by name"),
    "wrong shape": (
        lambda f: saved(f, model=state(**{"fc.bias": torch.zeros(D + 1)})),
        "fc.bias of part 0 has the shape (9,)"
    ),
    "no matrix": (
        lambda f: saved(f, model=state(**{"fc.weight": torch.zeros(4)})),
        "fc.weight of part 0 must be a matrix"
    ),
    "expanded": (
        lambda f: saved(f, model=state(**{"fc.bias": torch.zeros(1).expand(10**9)})), "its tensors claim 4,000,0"
    ),
    "unknown tensor": (
        lambda f: saved(f, model=state(more=torch.zeros(2))),
        "more of part 0: SCAN t2i has no such tensor"
    ),
    "missing tensor": (
        lambda f: saved(f, model=[{"fc.weight": scan_model()[0]["fc.weight"]}, scan_model()[1]]),
        "fc.bias of part 0 is missing"
    ),
    "NaN": (lambda f: saved(f, model=state(**{"fc.bias": torch.full((D,), torch.nan)})), "fc.bias holds NaN"),
    "other features": (
        lambda f: saved(f, model=state(**{"fc.weight": torch.zeros(D, 7)})),
        "reads regions of 7 numbers"
    ),
    "cut zip": (lambda f: whole(f)[:-200], "damaged zip archive"),
    "cut legacy": (lambda f: whole(f, legacy=True)[:-400], "cut short or damaged"),
    "cut pickle": (lambda f: whole(f, legacy=True)[:300], "cut short or damaged"),
    "50 GB": (lambda f: legacy_claiming(f, 50 << 30), "declares 53,687,091,200 numbers"),
    "a GB": (lambda f: legacy_claiming(f, 1 << 28), "cut short or damaged"),
    "zip bomb": (lambda f: zip_with(f, packed), "is compressed, which torch.save never does"),
    "zip that claims": (claiming_more, "its parts claim"),
    "tar": (tar_of, "a tar archive, the form of PyTorch before 0.1.10"),
    "python 2": (python2, "a text of Python 2 of 256 letters"),
    "text": (lambda f: b"<!doctype html>", "not a checkpoint that torch.save wrote"),
    "empty": (lambda f: b"", "not a checkpoint that torch.save wrote"),
    "another zip": (lambda f: zip_of_nothing(), "without a checkpoint in it"),
}  # fmt: skip


def zip_of_nothing() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.txt", "a")
    return target.getvalue()


def refused(place: Path, capsys: pytest.CaptureFixture[str], file: Path, *more: str) -> str:
    work = place / "work"
    asked = ["import-checkpoint", str(file), "--vocabulary", str(place / "vocab.json"), "-w", str(work), *more]
    assert run(cli, asked) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert not (work / "runs").exists() or not list((work / "runs").glob("*/run.json"))
    return " ".join(told.split())


@pytest.mark.parametrize("name", MAKERS)
def test_hostile_files_are_refused(place: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, says = MAKERS[name]
    file = tmp_path / "model_best.pth.tar"
    file.write_bytes(make(tmp_path))
    assert says in refused(place, capsys, file)
    assert not (tmp_path / "ran").exists()


OTHERS: dict[str, tuple[Any, Any, str]] = {
    "max pooling": (
        scan_model(), scan_options(pool="Max"),
        "opt.agg_func is 'Max'; itmkit computes LogSumExp or Mean only"
    ),
    "softmax": (
        scan_model(), argparse.Namespace(**{**vars(scan_options()), "raw_feature_norm": "softmax"}),
        "raw_feature_norm"
    ),
    "one direction": (scan_model(), scan_options(bi_gru=False), "opt.bi_gru is False"),
    "two layers": (scan_model(), scan_options(num_layers=2), "opt.num_layers is 2"),
    "no norm": (scan_model(), scan_options(no_txtnorm=True), "opt.no_txtnorm is True"),
    "too sharp": (
        scan_model(), argparse.Namespace(**{**vars(scan_options()), "lambda_softmax": 50.0}),
        "sharpness_t2i"
    ),
    "text for a number": (
        scan_model(), argparse.Namespace(**{**vars(scan_options()), "lambda_softmax": "9"}),
        "a number is needed"
    ),
    "other words": (scan_model(words=9), scan_options(), "embed.weight"),
    "sgraf without places": (sgraf_model("SGR"), options(module_name="AVE"), "opt.module_name is 'AVE'"),
    "chan transformer": (chan_model(attention=False), options(precomp_enc_type="transformer"), "'transformer'"),
    "half a bert": ([vseinf_model()[0], {"bert.a": torch.zeros(2)}], options(), "of no published model known here"),
    "pfan": ([{"position_embedding.weight": torch.zeros(2)}, {}], options(), "holds PFAN or GLFN"),
    "vsepp": (scan_model(), options(measure="cosine"), "holds VSE++"),
    "rcar without regulators": (
        rcar_model("only_rcr", 0), options(**RCAR, attn_type="t2i", self_regulator="only_rcr"),
        "opt.rcr_step is 0; without a step it has no regulators"
    ),
    "rcar of other regulators": (
        rcar_model("only_rar", 1), options(**RCAR, attn_type="all", self_regulator="only_rcar"),
        "opt.attn_type is 'all'; itmkit computes t2i or i2t only"
    ),
    "rcar of more steps than it says": (
        rcar_model("coop_rcar", 2), options(**{**RCAR, "rcar_step": 1}, attn_type="t2i", self_regulator="coop_rcar"),
        "sim_enc.alv_modules.1.sim_transform_w.bias: RCAR t2i has no such tensor"
    ),
    "rcar of one direction": (
        rcar_model("only_rar", 1),
        options(**{**RCAR, "use_bi_gru": False}, attn_type="t2i", self_regulator="only_rar"), "opt.use_bi_gru is False"
    ),
    "none known": ([{"a": torch.zeros(2)}, {}], options(), "of no published model known here"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_would_score_otherwise_is_refused(
    place: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, opt, says = OTHERS[name]
    assert says in refused(place, capsys, save(tmp_path / "model.pth", model, opt))


def test_a_vocabulary_that_does_not_belong(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = save(tmp_path / "model.pth", scan_model(), scan_options())
    pickled = tmp_path / "vocab.pkl"
    pickled.write_bytes(pickle.dumps(Bomb(tmp_path / "ran"), 2))
    told = refused(place, capsys, file, "--vocabulary", str(pickled))
    assert "a pickled vocabulary" in told and "json.dump" in told
    assert not (tmp_path / "ran").exists()
    printed = vocabulary(tmp_path / "printed.json", (*WORDS[:-1], "b'a"))
    assert "Python 3 prints bytes" in refused(place, capsys, file, "--vocabulary", str(printed))
    own = {word: number for number, word in enumerate((*WORDS[:-2], "other", "``"))}
    opt = options(
        precomp_enc_type="basic",
        text_enc_type="bigru",
        coding_type="VHACoding",
        pooling_type="MeanPooling",
        word2idx=own,
    )
    chan = save(tmp_path / "chan.pth", chan_model(attention=False), opt)
    assert "its words are not those in opt.word2idx" in refused(place, capsys, chan)
    assert "holds scan, not chan" in refused(place, capsys, file, "--as", "chan")
    assert "no such file" in refused(place, capsys, tmp_path / "none.pth")
