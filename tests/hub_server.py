"""A Hub on this machine: the few endpoints that loading and pushing a model take, and a log of what was asked."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Repository:
    """Revisions of a model: branches by name, files by path."""

    def __init__(self, files, gated=False, private=False):
        self.branches = {"main": dict(files)}
        self.gated, self.private = gated, private
        self.card = {"license": "apache-2.0"}

    def commit(self, revision):
        """Commit of a branch, or of itself; None where there is none."""
        commits = {self.sha(branch): branch for branch in self.branches}
        if revision in commits:
            return revision
        return self.sha(revision) if revision in self.branches else None

    def sha(self, branch):
        found = hashlib.sha1(branch.encode())
        for path, content in sorted(self.branches[branch].items()):
            found.update(path.encode() + content)
        return found.hexdigest()

    def files(self, revision):
        return next(files for branch, files in self.branches.items() if revision in (branch, self.sha(branch)))


class Hub:
    """Repositories by name, who may read those that are gated or private, and what was asked."""

    def __init__(self):
        self.repositories, self.asked, self.token, self.down = {}, [], "hf_right", False
        self.url = ""

    def add(self, name, folder, **how):
        """A folder's files as a model."""
        files = {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}
        self.repositories[name] = Repository(files, **how)
        return self.repositories[name]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    @property
    def hub(self):
        return self.server.hub

    def answer(self, status, body=b"", **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.pop("length", str(len(content))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status, code):
        self.answer(status, {"error": code}, X_Error_Code=code, X_Error_Message=f"{code}, says the Hub at length")

    def begin(self):
        """Note the request, and read its body."""
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return path, body

    def found(self, name, of_file=False):
        """The repository, where this client may read it; otherwise it is refused."""
        right = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not right):
            return self.refuse(401, "RepoNotFound")
        if repository.gated and of_file and not right:
            return self.refuse(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        return repository

    def do_GET(self):
        path, _ = self.begin()
        if self.hub.down:
            return self.answer(503, {"error": "down"})
        if path.startswith("/api/models/"):
            return self.about(*path.removeprefix("/api/models/").split("/", 4))
        if "/resolve/" not in path:
            return self.refuse(404, "EntryNotFound")
        owner, model, _, revision, file = path[1:].split("/", 4)
        repository = self.found(f"{owner}/{model}", of_file=True)
        if repository is None:
            return None
        commit = repository.commit(revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        content = repository.files(commit).get(file)
        if content is None:
            return self.refuse(404, "EntryNotFound")
        etag = hashlib.sha256(content).hexdigest()
        return self.answer(200, content, X_Repo_Commit=commit, ETag=f'"{etag}"')

    do_HEAD = do_GET

    def about(self, owner, model, what="revision", revision="main", below=None):
        repository = self.found(f"{owner}/{model}", of_file=what == "auth-check")
        if repository is None:
            return None
        if what == "auth-check":
            return self.answer(200, {})
        commit = repository.commit(revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        files = repository.files(commit)
        if below is not None:
            return self.refuse(404, "EntryNotFound")
        if what == "tree":
            listed = [{"type": "file", "path": p, "size": len(c), "oid": "0"} for p, c in files.items()]
            return self.answer(200, listed)
        gated = "manual" if repository.gated else False
        siblings = [{"rfilename": path} for path in files]
        about = {"id": f"{owner}/{model}", "sha": commit, "siblings": siblings, "gated": gated, "private": False}
        about["cardData"] = repository.card
        return self.answer(200, about)

    def do_POST(self):
        path, body = self.begin()
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self.refuse(401, "Unauthorized")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'user'}/{asked['name']}"
            if name in self.hub.repositories:
                return self.answer(409, {"error": "it is there", "url": f"{self.hub.url}/{name}"})
            self.hub.repositories[name] = Repository(
                {}, private=bool(asked.get("private")) or asked.get("visibility") == "private"
            )
            return self.answer(200, {"url": f"{self.hub.url}/{name}", "name": name})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        owner, model, what, revision = path.removeprefix("/api/models/").split("/", 3)
        repository = self.hub.repositories[f"{owner}/{model}"]
        if what == "preupload":
            named = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in named]
            return self.answer(200, {"files": modes})
        if what == "branch":
            repository.branches[revision] = dict(repository.branches["main"])
            return self.answer(200, {})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                repository.branches[revision][line["value"]["path"]] = content
            if line["key"] == "deletedFile":
                del repository.branches[revision][line["value"]["path"]]
        commit = repository.sha(revision)
        url = f"{self.hub.url}/{owner}/{model}/commit/{commit}"
        return self.answer(200, {"success": True, "commitOid": commit, "commitUrl": url})


@contextmanager
def local_hub() -> Iterator[Hub]:
    """A Hub that runs until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = Hub()
    server.hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()
