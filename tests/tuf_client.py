"""`packager-vehicle` as the client of a plain TUF repository that is served over HTTP."""

import io
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

from tuf.api.metadata import Metadata, MetaFile, Signed, TargetFile

from packager.vehicle.cli.program import run
from tests.loopback import LoopbackServer
from tests.repository_simulator import NOW, RepositorySimulator

TARGET = b"target file contents"


class Client(LoopbackServer):
    """Runs commands against one served repository, as the suite does."""

    def __init__(self, directory: Path, repository: RepositorySimulator) -> None:
        super().__init__()
        self.repository = repository
        self.metadata, self.targets = directory / "metadata", directory / "targets"
        self.root = directory / "initial_root.json"
        self.root.write_bytes(repository.files["1.root.json"])
        self.requests: list[str] = []
        self.error = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(request.path.removeprefix("/metadata/"))
        kind, _, name = unquote(request.path).lstrip("/").partition("/")
        files = self.repository.files if kind == "metadata" else self.repository.contents
        request.send_response(200 if name in files else 404)
        data = files.get(name, b"")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def __call__(self, *arguments: str, now: datetime = NOW) -> int:
        self.requests.clear()
        error = io.StringIO()
        code = run(arguments, {}, lambda: now, io.StringIO(), error)
        self.error = error.getvalue()
        return code

    def init(self) -> int:
        return self("--metadata-dir", str(self.metadata), "init", str(self.root))

    def refresh(self, now: datetime = NOW) -> int:
        return self("--metadata-url", f"{self.url}/metadata", "--metadata-dir", str(self.metadata), "refresh", now=now)

    def download(self, *names: str, now: datetime = NOW) -> int:
        options = [option for name in names for option in ("--target-name", name)]
        places = ["--target-dir", str(self.targets), "--target-base-url", f"{self.url}/targets/"]
        return self(
            *("--metadata-url", f"{self.url}/metadata", "--metadata-dir", str(self.metadata)),
            *(*options, *places, "download"),
            now=now,
        )

    def stored(self) -> dict[str, int]:
        return {
            path.name: Metadata.from_file(str(path)).signed.version for path in sorted(self.metadata.glob("*.json"))
        }


def serve(repository: RepositorySimulator, role: str, path: str, data: bytes, hashes: list[str] | None = None) -> None:
    """Offer a target under all of its hashes."""
    target = TargetFile.from_data(path, data, hashes or ["sha256"])
    (repository.targets if role == "targets" else repository.delegated[role]).targets[path] = target
    folder, slash, name = path.rpartition("/")
    for digest in target.hashes.values():
        repository.contents[f"{folder}{slash}{digest}.{name}"] = data


def stored(root: int = 1, timestamp: int = 0, snapshot: int = 0, targets: int = 0) -> dict[str, int]:
    """What a client has stored, by name; 0 is nothing."""
    versions = {"root": root, "snapshot": snapshot, "targets": targets, "timestamp": timestamp}
    return {f"{role}.json": version for role, version in versions.items() if version}


def publish_unhashed(repository: RepositorySimulator) -> None:
    """Publish the snapshot as it is, with a timestamp that names only its version."""
    data = repository.sign(repository.snapshot, repository.signers["snapshot"])
    repository.files[f"{repository.snapshot.version}.snapshot.json"] = data
    repository.timestamp.snapshot_meta = MetaFile(repository.snapshot.version)
    repository.publish_timestamp()


def next_root(repository: RepositorySimulator) -> None:
    repository.root.version += 1
    repository.publish_root()


def role(repository: RepositorySimulator, name: str) -> Signed:
    found = getattr(repository, name)
    assert isinstance(found, Signed)
    return found
