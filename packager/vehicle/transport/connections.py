"""HTTP connections that give up if an answer does not begin in time.

The timeout of a socket is for one silence. A server that sends a byte of a header every few seconds, or ``100 Continue`` without end, is
never silent and would keep a car waiting for ever before the first byte of content that a speed could be measured of.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse


def bounded_pools(answer_timeout_s: float, **options: Any) -> urllib3.PoolManager:
    """Return a pool manager whose connections end if status and headers of an answer take longer than `answer_timeout_s`.

    Args:
        answer_timeout_s: Seconds from the request to the end of the headers.
        **options: See `urllib3.PoolManager`.
    """

    class Connection(HTTPConnection):
        def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3 itself
            return _in_time(self, super().getresponse, answer_timeout_s)

    class SecureConnection(HTTPSConnection):
        def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3 itself
            return _in_time(self, super().getresponse, answer_timeout_s)

    class Pool(HTTPConnectionPool):
        ConnectionCls = Connection

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureConnection

    manager = urllib3.PoolManager(**options)
    manager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}
    return manager


def _in_time(connection: HTTPConnection, wait: Callable[[], HTTPResponse], timeout_s: float) -> HTTPResponse:
    """Return what `wait` returns; cut the connection under it if that takes too long.

    Raises:
        TimeoutError: It took too long. Headers that were cut would else pass for all of them.
    """
    is_late = threading.Event()

    def cut() -> None:
        is_late.set()
        with contextlib.suppress(OSError, AttributeError):  # it may have ended in this very moment
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, cut)
    timer.daemon = True
    timer.start()
    try:
        found = wait()
    except Exception as error:
        if is_late.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
    if is_late.is_set():
        found.close()
        raise TimeoutError
    return found
