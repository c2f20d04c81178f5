"""Serves a repository over HTTP as hostile servers do: an answer per path, everything else as it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from packager.vehicle.fetch import HttpFetcher
from tests.loopback import LoopbackServer
from tests.repository_simulator import RepositorySimulator

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]
"""Answers a request for a file with this content."""


def honest(request: BaseHTTPRequestHandler, data: bytes) -> None:
    asked = request.headers["Range"]
    start = 0
    if asked is not None:
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), int(last) + 1 if last else len(data)
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        data = data[:end]
    else:
        request.send_response(200)
    request.send_header("Content-Length", str(len(data) - start))
    request.end_headers()
    request.wfile.write(data[start:])


class HostileServer(LoopbackServer):
    """Attributes:
    answers: By path below ``metadata/`` or ``targets/``; the others are honest.
    requests: Path and range of each request.
    sent_bytes: Counted by answers that never end.
    """

    def __init__(self, repository: RepositorySimulator) -> None:
        super().__init__()
        self.repository = repository
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.sent_bytes = 0

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        folder, _, path = request.path.removeprefix("/").partition("/")
        self.requests.append((path, request.headers["Range"]))
        files = {"metadata": self.repository.files, "targets": self.repository.contents}
        data = files.get(folder, {}).get(path)
        with suppress(OSError):
            if data is None:
                request.send_error(404)
            else:
                self.answers.get(path, honest)(request, data)

    def endless(self, first: bytes = b"") -> Answer:
        """Return an answer that never ends, behind `first`."""

        def answer(request: BaseHTTPRequestHandler, data: bytes) -> None:
            request.send_response(200)
            request.end_headers()
            request.wfile.write(first)
            while True:
                request.wfile.write(b" " * 65536)
                self.sent_bytes += 65536

        return answer


@contextmanager
def serving(
    repository: RepositorySimulator, read_timeout_s: float = 5.0, attempts: int = 4
) -> Iterator[tuple[HostileServer, HttpFetcher, HttpFetcher]]:
    """Yield the server and the client's fetchers for metadata and for targets."""
    options: dict[str, Any] = {
        "sleep": lambda _: None,
        "read_timeout_s": read_timeout_s,
        "retry_delays_s": (0.0,) * (attempts - 1),
    }
    with (
        HostileServer(repository) as server,
        HttpFetcher(f"{server.url}/metadata", **options) as metadata,
        HttpFetcher(f"{server.url}/targets", **options) as targets,
    ):
        yield server, metadata, targets
