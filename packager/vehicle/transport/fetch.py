"""Gets bytes: metadata of bounded length, and bundles as a stream that goes on where it broke off. Nothing here decides what to trust.

A server may ignore `Range` (``python -m http.server`` does): then what was asked to be left out is skipped while reading. Coded transfer
is refused, so that no decompressor sees unauthenticated bytes; redirects stay on the host that was configured.
"""

import logging
import re
import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Final, Protocol, Self
from urllib.parse import quote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from packager.vehicle.errors import TemporaryError, UntrustedError
from packager.vehicle.transport.connections import bounded_pools
from packager.vehicle.transport.speed import Speed, SpeedMeter
from packager.vehicle.trust.metadata_store import NotFoundError
from packager.vehicle.version import VERSION

CHUNK_BYTES: Final = 1 << 16
CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 30.0
MAX_REDIRECTS: Final = 3
_LOG: Final = logging.getLogger(__name__)
RETRY_DELAYS_S: Final = (0.2, 1.0, 3.0)
"""Pauses before the attempts after the first; progress starts the count again."""
_BAD_ANSWERS: Final = (HTTPError, ValueError)
"""urllib3 raises the second, too, for instance for a chunk of negative length."""
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)")
_OK, _PARTIAL, _FORBIDDEN, _NOT_FOUND, _GONE, _NO_SUCH_RANGE = 200, 206, 403, 404, 410, 416
_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS, _SERVER_ERROR = 408, 429, 500


class LastingError(TemporaryError):
    """The server's answer would be the same at once; it may be another one after its operator acted."""


class SlowError(LastingError):
    """The server, or somebody on the way, delivers more slowly than is acceptable. Trying again at once would go on like that for ever."""


class BundleSource(Protocol):
    """Streams targets."""

    @property
    def serves_ranges(self) -> bool:
        """Whether, as far as is known, asking for a part costs that part alone. If not, one long part is better than several short ones."""

    def stream(self, path: str, offset: int, end: int) -> Generator[bytes, None, None]:
        """Yield the bytes `offset` to `end` of the target at `path`, cut anyhow, never more.

        Args:
            path: The target.
            offset: Where to start. At the target's start more may be under way than is asked for, elsewhere not.
            end: Where to end.

        Raises:
            NotFoundError: There is none.
            TemporaryError: It can't be had now, or is shorter.
        """

    def read(self, path: str, offset: int, end: int) -> bytes:
        """Return the bytes `offset` to `end` of the target at `path` and ask for no more than these.

        Raises:
            NotFoundError: There is none.
            TemporaryError: They can't be had now.
        """


class HttpFetcher:
    """Metadata and targets below one URL, over HTTP(S). A context manager; a `Fetcher` and a `BundleSource`.

    Args:
        url: ``http://`` or ``https://``, the part that all paths share.
        sleep: Waits between attempts, seconds.
        read_timeout_s: Longest silence of the server, and longest time until the content of an answer begins.
        on_bytes: Told the number of content bytes of every read, what is skipped included.
        meter: Measures the speed and says which one is too low.
        retry_delays_s: Pauses before the attempts after the first.
    """

    def __init__(
        self,
        url: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        read_timeout_s: float = READ_TIMEOUT_S,
        on_bytes: Callable[[int], None] | None = None,
        meter: SpeedMeter | None = None,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
    ) -> None:
        self._url = check_url(url).rstrip("/") + "/"
        self._sleep = sleep
        self._on_bytes = on_bytes
        self._serves_ranges = True
        self._meter = SpeedMeter() if meter is None else meter
        self._retry_delays_s = retry_delays_s
        timeout = urllib3.Timeout(connect=min(CONNECT_TIMEOUT_S, read_timeout_s), read=read_timeout_s)
        headers = {"User-Agent": f"packager-vehicle/{VERSION}", "Accept-Encoding": "identity"}
        self._pool = bounded_pools(read_timeout_s, timeout=timeout, retries=False, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def fetch(self, path: str, max_bytes: int) -> bytes:
        """See `packager.vehicle.trust.metadata_store.Fetcher.fetch`."""
        attempts = iter(self._retry_delays_s)
        while True:
            try:
                return self._fetch_once(path, max_bytes)
            except (NotFoundError, LastingError):
                raise
            except TemporaryError as error:
                self._pause(attempts, error)

    @property
    def speed(self) -> Speed:
        """What was measured so far."""
        return self._meter.speed

    @property
    def serves_ranges(self) -> bool:
        """See `BundleSource.serves_ranges`. False once the server has answered with more than it was asked for."""
        return self._serves_ranges

    def stream(self, path: str, offset: int, end: int) -> Generator[bytes, None, None]:
        """See `BundleSource.stream`. A broken connection is taken up again where it broke."""
        yield from self._resuming(path, offset, end, is_part=False)

    def read(self, path: str, offset: int, end: int) -> bytes:
        """See `BundleSource.read`."""
        return b"".join(self._resuming(path, offset, end, is_part=True))

    def _resuming(self, path: str, offset: int, length_bytes: int, *, is_part: bool) -> Generator[bytes, None, None]:
        attempts = iter(self._retry_delays_s)
        while offset < length_bytes:
            try:
                for chunk in self._stream_once(path, offset, length_bytes, is_part=is_part):
                    offset += len(chunk)
                    attempts = iter(self._retry_delays_s)
                    yield chunk
            except (NotFoundError, LastingError):
                raise
            except TemporaryError as error:
                self._pause(attempts, error)

    def _pause(self, attempts: Iterator[float], error: TemporaryError) -> None:
        """Wait before the next attempt; without one left, raise the error."""
        delay_s = next(attempts, None)
        if delay_s is None:
            raise error
        _LOG.warning("%s; trying again in %.1f s", error, delay_s)
        self._sleep(delay_s)

    def _fetch_once(self, path: str, max_bytes: int) -> bytes:
        response, url = self._open(path, {})
        found = bytearray()
        with _Closing(response):
            for chunk in self._read(response, url):
                found += chunk
                if len(found) > max_bytes:
                    raise UntrustedError(f"{url}: longer than {max_bytes} bytes, expected at most that many")
        return bytes(found)

    def _stream_once(self, path: str, offset: int, length_bytes: int, *, is_part: bool) -> Iterator[bytes]:
        """Yield what one connection gives; ends at `length_bytes`.

        Raises:
            LastingError: It ended before.
            TemporaryError: The connection broke.
        """
        is_part = is_part or offset > 0
        response, url = self._open(path, {"Range": f"bytes={offset}-{length_bytes - 1}"} if is_part else {})
        with _Closing(response):
            skip = offset
            if response.status == _PARTIAL:
                _check_range(response, url, offset)
                skip = 0
            elif is_part:
                self._serves_ranges = False
            at = offset
            for read in self._read(response, url):
                skipped = min(skip, len(read))
                skip -= skipped
                chunk = read[skipped : skipped + length_bytes - at]
                if chunk:
                    at += len(chunk)
                    yield chunk
                if at == length_bytes:
                    return
            raise LastingError(f"{url}: ended at byte {at}, expected {length_bytes} bytes; the file is cut short")

    def _open(self, path: str, headers: dict[str, str]) -> tuple[urllib3.BaseHTTPResponse, str]:
        """Return the response with content, after redirects."""
        url = self._url + quote(path, safe="/%")  # what is quoted already stays as it is
        for _ in range(MAX_REDIRECTS + 1):
            try:
                response = self._pool.request(
                    "GET", url, headers={**self._pool.headers, **headers}, preload_content=False, redirect=False
                )
            except _BAD_ANSWERS as error:
                raise TemporaryError(f"{url}: {_reason(error)}") from error
            location = response.get_redirect_location()
            if not location:
                return _checked(response, url, ranged="Range" in headers), url
            response.close()
            try:
                target = urljoin(url, location)
                check_redirect(url, target)
            except ValueError as error:
                raise LastingError(f"{url}: redirects to {location[:200]!r}, which is no URL") from error
            url = target
        raise LastingError(f"{url}: more than {MAX_REDIRECTS} redirects")

    def _read(self, response: urllib3.BaseHTTPResponse, url: str) -> Iterator[bytes]:
        """Yield what comes, as it comes: waiting for a whole chunk would hide how slowly it does."""
        self._meter.restart()
        while True:
            try:
                chunk = self._meter.measure(lambda: response.read1(CHUNK_BYTES, decode_content=False))
            except _BAD_ANSWERS as error:
                raise TemporaryError(f"{url}: broke off: {_reason(error)}") from error
            if not chunk:
                return
            if self._on_bytes is not None:
                self._on_bytes(len(chunk))
            yield chunk
            found = self._meter.too_slow()
            if found is not None:
                expected = self._meter.min_bytes_per_second
                raise SlowError(
                    f"{url}: delivers {found} bytes/s, expected at least {expected}; try again over a better connection"
                )


def check_url(url: str) -> str:
    """Return `url` if it can be fetched from.

    Raises:
        ValueError: Not ``http://`` or ``https://`` with a host.
    """
    parts = urlsplit(url)
    has_place = (
        parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    )  # a port that is none raises, too
    if not has_place or parts.query or parts.fragment:
        raise ValueError(f"{url!r}: expected http:// or https://, a host and a path")
    return url


def check_redirect(url: str, target: str) -> None:
    """Refuse a redirect that leaves the host, or goes from https to anything else.

    Raises:
        LastingError: It does; a captive portal does so, too, hence it may pass.
    """
    old, new = urlsplit(url), urlsplit(target)
    if new.hostname != old.hostname or new.scheme not in ("https", old.scheme):
        raise LastingError(f"{url}: redirects to {target}; expected the same host, and https to stay https")


class _Closing:
    """Closes a response that may not have been read to its end, instead of giving its connection back."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        if not self._response.closed:
            self._response.close()
        self._response.release_conn()


def _checked(response: urllib3.BaseHTTPResponse, url: str, *, ranged: bool) -> urllib3.BaseHTTPResponse:
    """Return a response that carries the content as it is."""
    try:
        if response.status in (_FORBIDDEN, _NOT_FOUND, _GONE):  # stores answer 403 where listing is not allowed
            raise NotFoundError(f"{url}: not found (HTTP {response.status})")
        if response.status == _NO_SUCH_RANGE:
            raise LastingError(f"{url}: the server's file ends before the byte asked for; it is cut short")
        if response.status != _OK and not (ranged and response.status == _PARTIAL):
            passes = response.status >= _SERVER_ERROR or response.status in (_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS)
            kind = TemporaryError if passes else LastingError
            raise kind(f"{url}: HTTP {response.status} {response.reason}, expected 200")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise TemporaryError(
                f"{url}: content is coded with {encoding!r}, expected no coding; check proxies on the way"
            )
    except TemporaryError:
        response.close()
        raise
    return response


def _check_range(response: urllib3.BaseHTTPResponse, url: str, offset: int) -> None:
    text = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[1]) != offset:
        raise LastingError(f"{url}: answered range {text!r}, expected bytes {offset} on")


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
