from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from itmkit.errors import ItmkitError
from itmkit.inspection.child import OBJECTS, walk
from itmkit.inspection.hdf5 import ask_child, is_hdf5
from itmkit.inspection.report import Report
from itmkit.inspection.what import inspect

pytestmark = pytest.mark.usefixtures("inspecting_children")


def test_links_and_data_kept_elsewhere_are_named_and_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["secret"] = np.arange(3)
    (tmp_path / "raw").write_bytes(b"x" * 24)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plain"] = np.zeros((4, 5), np.float32)
        file["group/inner"] = 3
        file["group/back"] = file["/group"]
        file["soft"] = h5py.SoftLink("/plain")
        file["external"] = h5py.ExternalLink(str(secret), "/secret")
        file.create_dataset("raw", (3,), "f8", external=[(str(tmp_path / "raw"), 0, 24)])
        layout = h5py.VirtualLayout((3,), "i8")
        layout[:] = h5py.VirtualSource(str(secret), "secret", (3,))
        file.create_virtual_dataset("virtual", layout)
        file["named"] = np.dtype("f8")
    found = {item["path"]: item["what"] for item in walk(str(tmp_path / "a.h5"))["objects"]}
    assert found["/plain"] == "data" and found["/group/inner"] == "scalar"
    assert found["/soft"] == "refused: SoftLink to '/plain'"
    assert found["/external"].startswith("refused: ExternalLink to")
    assert found["/raw"] == found["/virtual"] == "refused: keeps its data in other files"
    assert found["/group/back"] == "group (seen before)" and found["/named"] == "named type"
    report = inspect(tmp_path / "a.h5")
    assert report.kind == "HDF5 file" and ("belongs to", "no cache; no stage reads it") in report.facts
    assert "holds objects that no cache may hold" in report.problems[0] and "/raw refused" in report.problems[0]
    rows = {row[0]: row for row in report.tables[0].rows}
    assert rows["/plain"][2:4] == ("(4, 5)", "float32")


def test_a_walk_ends_in_files_of_very_many_objects(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(60):
            group = file.create_group(f"g{number}")
            for inner in range(40):
                group.create_group(f"{inner}")
    answer = walk(str(tmp_path / "a.h5"))
    assert len(answer["objects"]) == OBJECTS and answer["more"]


def test_hdf5_is_known_by_its_signature(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.bin", "w", userblock_size=1024) as file:
        file["x"] = 1
    assert is_hdf5(tmp_path / "a.bin")
    assert inspect(tmp_path / "a.bin").tables[0].rows[0][0] == "/x"
    (tmp_path / "b.bin").write_bytes(b"no")
    assert not is_hdf5(tmp_path / "b.bin")


def test_a_file_that_is_no_hdf5(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no hdf5 at all")
    with pytest.raises(ItmkitError, match=r"a\.h5: cannot be read as HDF5"):
        inspect(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended the reading process .SIGSEGV."),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import time; time.sleep(60)", "took more than 0 s and was stopped"),
    ],
)
def test_a_crash_or_a_hang_ends_only_the_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    """Stands in for the HDF5 library: another interpreter that dies whatever it is asked."""
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\n{code}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(ItmkitError, match=message):
        ask_child("walk", tmp_path / "a.h5", timeout=0.4 if "sleep" in code else 30)


def test_nothing_outside_a_file_is_opened(tmp_path: Path) -> None:
    """What the file points to is a named pipe: whoever opens it waits for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["external"] = h5py.ExternalLink(str(pipe), "/x")
        file.create_dataset("raw", (3,), "f8", external=[(str(pipe), 0, 24)])
        layout = h5py.VirtualLayout((3,), "i8")
        layout[:] = h5py.VirtualSource(str(pipe), "x", (3,))
        file.create_virtual_dataset("virtual", layout)
        plist, endless = h5py.h5p.create(h5py.h5p.DATASET_CREATE), (h5py.h5s.UNLIMITED,)
        spaces = [h5py.h5s.create_simple((1,), endless) for _ in range(2)]
        for space in spaces:
            space.select_hyperslab((0,), endless, (1,), (1,))
        plist.set_virtual(spaces[0], str(pipe).encode(), b"x", spaces[1])
        h5py.h5d.create(file.id, b"unlimited", h5py.h5t.NATIVE_INT64, spaces[0], plist)
    rows = inspect(tmp_path / "a.h5").tables[0].rows
    assert len(rows) == 4 and all(row[1].startswith("refused") for row in rows)


WALK_ALL = """
import sys
from itmkit.inspection.child import walk
for file in sys.argv[1:]:
    try:
        print("walked", len(walk(file)["objects"]), flush=True)
    except Exception as error:
        print("error", type(error).__name__, flush=True)
"""


def test_real_malformed_files(test_data: Path) -> None:
    """All of them in one child, as starting a process for each takes minutes; some by the whole way."""
    files = sorted((test_data / "nasty_hdf5").glob("*files/*"))
    hdf5 = [file for file in files if file.suffix == ".h5" or is_hdf5(file)]
    command = [sys.executable, "-c", WALK_ALL, *map(str, hdf5)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert len(done.stdout.splitlines()) == len(hdf5) > 60

    def told(file: Path) -> bool:
        try:
            return isinstance(inspect(file), Report)
        except ItmkitError as error:
            return "HDF5" in str(error)

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        assert all(threads.map(told, [*hdf5[::20], *(file for file in files if file not in hdf5)]))
