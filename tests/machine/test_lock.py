from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from itmkit.errors import ItmkitError
from itmkit.machine.lock import Locked, lock

WHAT = "runs/a: another process trains this run"


def test_the_second_is_told_who_is_first_until_that_one_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    with lock(path, WHAT) as left:
        assert left is None
        who = rf"{WHAT} \(process {os.getpid()} on {socket.gethostname()}, since \d\d\d\d-.*\); wait for it to end"
        with pytest.raises(Locked, match=who), lock(path, WHAT):
            pass
        with pytest.raises(Locked, match=who), lock(path, WHAT, shared=True):  # the one before has changed nothing
            pass
    with pytest.raises(ZeroDivisionError), lock(path, WHAT):
        raise ZeroDivisionError
    with lock(path, WHAT) as left:
        assert left is None


def test_those_who_share_exclude_the_one_who_does_not(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with lock(path, WHAT, shared=True), lock(path, WHAT, shared=True), pytest.raises(Locked), lock(path, WHAT):
        pass


def test_the_lock_of_a_killed_owner_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    holds = "import sys, time\nfrom itmkit.machine.lock import lock\nfrom pathlib import Path\n"
    holds += "with lock(Path(sys.argv[1]), ''):\n    print('held', flush=True)\n    time.sleep(60)\n"
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", holds, path], stdout=subprocess.PIPE, cwd=root) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == b"held\n"
        with pytest.raises(Locked, match=f"process {owner.pid} on"), lock(path, WHAT):
            pass
        owner.kill()
        owner.wait()
        with lock(path, WHAT) as left:
            assert left is not None and left.pid == owner.pid


def test_a_link_is_not_followed_and_a_folder_is_no_lock(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("precious")
    (tmp_path / ".lock").symlink_to(theirs)
    with pytest.raises(ItmkitError, match="is a link"), lock(tmp_path / ".lock", WHAT):
        pass
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ItmkitError, match="is no file"), lock(tmp_path / "pipe", WHAT):
        pass
    assert theirs.read_text() == "precious"


def test_without_locks_of_the_file_system_the_record_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    path = tmp_path / ".lock"
    here = socket.gethostname()
    for pid, host in ((os.getppid(), here), (os.getpid(), "another-host")):
        path.write_text(json.dumps({"pid": pid, "host": host, "since": "yesterday"}))
        with pytest.raises(Locked, match=f"process {pid} on {host}, since yesterday.*remove {path}"), lock(path, WHAT):
            pass
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    path.write_text(json.dumps({"pid": gone.pid, "host": here, "since": "yesterday"}))
    with lock(path, WHAT) as left:
        assert left is not None and left.pid == gone.pid
    assert path.read_text() == ""
