"""A web server on the loopback interface, for as long as a test needs it."""

import threading
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, Self

PATIENCE_S: Final = 300.0
"""How long a test waits for what must come, on a machine with much else to do; it costs nothing where it comes."""


class LoopbackServer(ABC):
    """Answers each request with `answer`, in a thread of its own, inside a ``with``.

    Attributes:
        url: Where it listens, without a slash at the end.
    """

    def __init__(self, protocol_version: str = "HTTP/1.0") -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        Handler.protocol_version = protocol_version
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.01))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @abstractmethod
    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
