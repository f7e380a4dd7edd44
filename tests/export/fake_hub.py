"""A hub on localhost: it answers the calls with which huggingface_hub makes a repository, uploads and fetches."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REVISIONS = ("main", "first")


class Hub(ThreadingHTTPServer):
    """files: name -> content, of every repository. asked: all requests. tokens: what requests that write carried."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repository: str) -> str:
        state = hashlib.sha1(repr(sorted(self.files[repository].items())).encode())
        return state.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self._body()
        self._note()
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            name = "/".join(filter(None, (body[0].get("organization"), body[0]["name"])))
            self.server.files.setdefault(name if "/" in name else f"me/{name}", {})
            self._json({"url": f"{self.server.address}/me/{body[0]['name']}"})
        elif parts == ["api", "validate-yaml"]:  # of the card
            self._json({"errors": [], "warnings": []})
        elif parts[4:5] == ["preupload"]:
            modes = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in body[0]["files"]]
            self._json({"files": modes})
        elif parts[4:5] == ["commit"]:
            held = self.server.files["/".join(parts[2:4])]
            for line in body[1:]:
                held[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = self.server.commit("/".join(parts[2:4]))
            address = f"{self.server.address}/{'/'.join(parts[2:4])}/commit/{commit}"
            self._json({"success": True, "commitOid": commit, "commitUrl": address})
        else:
            self._json({"error": "unknown"}, 404)

    def do_GET(self) -> None:
        self._note()
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[0] == "api":
            held = self.server.files.get("/".join(parts[2:4]))
            known = parts[4:5] != ["revision"] or parts[5] in REVISIONS
            if held is None or not known:
                self._json({"error": "Repository not found"}, 404)
                return
            if parts[4:5] == ["tree"]:
                tree = [{"type": "file", "path": file, "size": len(data), "oid": "0"} for file, data in held.items()]
                self._json(tree)
                return
            name = "/".join(parts[2:4])
            files = [{"rfilename": file} for file in held]
            self._json({"id": name, "sha": self.server.commit(name), "siblings": files, "private": False, "tags": []})
            return
        name, file = "/".join(parts[:2]), "/".join(parts[4:])  # owner/name/resolve/COMMIT/FILE
        content = self.server.files[name][file]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.commit(name))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def _note(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if any(what in self.path for what in ("/repos/create", "/preupload/", "/commit/")):
            self.server.tokens.add(self.headers.get("Authorization"))

    def _body(self) -> list[Any]:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return [json.loads(line) for line in data.splitlines() if line.strip()]

    def _json(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def fake_hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
