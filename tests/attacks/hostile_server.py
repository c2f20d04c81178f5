"""Serves a repository over HTTP as hostile servers do: an answer per path, everything else as it is."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from packager.vehicle.transport.fetch import HttpFetcher
from tests.loopback import PATIENCE_S, LoopbackServer
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
    received_bytes: What clients took of all contents; what the sockets held besides is another matter.
    """

    def __init__(self, repository: RepositorySimulator) -> None:
        super().__init__()
        self.repository = repository
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.received_bytes = 0

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

        return answer

    def count(self, length_bytes: int) -> None:
        """Take note of what a client received."""
        self.received_bytes += length_bytes


class Client:
    """Fetches as `HttpFetcher` does, with little patience for one path alone: an honest answer may be late on a busy machine.

    Args:
        url: What all paths share.
        impatient_with: The path.
        options: Of the fetchers.
    """

    def __init__(self, url: str, impatient_with: str, options: dict[str, Any]) -> None:
        self._impatient_with = impatient_with
        self._impatient = HttpFetcher(url, read_timeout_s=0.2, **options)
        self._patient = HttpFetcher(url, read_timeout_s=PATIENCE_S, **options)

    @property
    def serves_ranges(self) -> bool:
        return self._impatient.serves_ranges and self._patient.serves_ranges

    def fetch(self, path: str, max_bytes: int) -> bytes:
        return self._for(path).fetch(path, max_bytes)

    def stream(self, path: str, offset: int, end: int) -> Generator[bytes, None, None]:
        return self._for(path).stream(path, offset, end)

    def read(self, path: str, offset: int, end: int) -> bytes:
        return self._for(path).read(path, offset, end)

    def _for(self, path: str) -> HttpFetcher:
        return self._impatient if path == self._impatient_with else self._patient

    def close(self) -> None:
        self._impatient.close()
        self._patient.close()


@contextmanager
def serving(
    repository: RepositorySimulator, impatient_with: str = "", attempts: int = 4
) -> Iterator[tuple[HostileServer, Client, Client]]:
    """Yield the server and the client's fetchers for metadata and for targets."""
    with HostileServer(repository) as server:
        options: dict[str, Any] = {
            "sleep": lambda _: None,
            "retry_delays_s": (0.0,) * (attempts - 1),
            "on_bytes": server.count,
        }
        with (
            closing(Client(f"{server.url}/metadata", impatient_with, options)) as metadata,
            closing(Client(f"{server.url}/targets", impatient_with, options)) as targets,
        ):
            yield server, metadata, targets
