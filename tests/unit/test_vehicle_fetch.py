"""HTTP as servers really do it, and as hostile ones do."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from packager.vehicle.errors import TemporaryError, UntrustedError
from packager.vehicle.transport.fetch import RETRY_DELAYS_S, HttpFetcher, check_redirect, check_url
from packager.vehicle.trust.metadata_store import NotFoundError
from tests.loopback import PATIENCE_S, LoopbackServer

DATA = bytes(range(256)) * 1000

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(LoopbackServer):
    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.requests: list[tuple[str, str | None]] = []
        self._answer = answer

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append((request.path, request.headers["Range"]))
        self._answer(request)


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[Server, HttpFetcher, list[float]]]:
    pauses: list[float] = []
    with (
        Server(answer) as server,
        HttpFetcher(f"{server.url}/repo", sleep=pauses.append, read_timeout_s=PATIENCE_S) as fetcher,
    ):
        yield server, fetcher, pauses


def reply(
    request: BaseHTTPRequestHandler, status: int, body: bytes = b"", length: int | None = None, **headers: str
) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def whole(request: BaseHTTPRequestHandler) -> None:
    reply(request, 200, DATA)


def ranged(request: BaseHTTPRequestHandler) -> None:
    asked = request.headers["Range"]
    if asked is None:
        return whole(request)
    start, last = map(int, asked.removeprefix("bytes=").split("-"))
    if start >= len(DATA):
        return reply(request, 416)
    part = DATA[start : last + 1]
    return reply(request, 206, part, Content_Range=f"bytes {start}-{start + len(part) - 1}/{len(DATA)}")


def test_metadata_is_fetched_by_path() -> None:
    with serving(whole) as (server, fetcher, _):
        assert fetcher.fetch("1.root.json", len(DATA)) == DATA
        assert fetcher.fetch("a b/~+.json", len(DATA)) == DATA
        assert server.requests == [("/repo/1.root.json", None), ("/repo/a%20b/~%2B.json", None)]


def test_metadata_is_bounded_from_both_sides() -> None:
    with serving(whole) as (_, fetcher, pauses):
        with pytest.raises(UntrustedError, match=f"longer than {len(DATA) - 1} bytes"):
            fetcher.fetch("x", len(DATA) - 1)
        assert not pauses


def test_an_endless_body_is_cut_off() -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(b"x" * 65536)
        except OSError:
            pass

    read: list[int] = []
    with serving(endless) as (server, _, _), HttpFetcher(f"{server.url}/repo", on_bytes=read.append) as fetcher:
        with pytest.raises(UntrustedError, match="longer than 1000000 bytes"):
            fetcher.fetch("x", 1_000_000)
        assert sum(fetcher_read for fetcher_read in read) < 1_200_000


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_not_there_is_told_apart_and_not_tried_again(status: int) -> None:
    with serving(lambda request: reply(request, status)) as (server, fetcher, pauses):
        with pytest.raises(NotFoundError, match=f"HTTP {status}"):
            fetcher.fetch("2.root.json", 100)
        with pytest.raises(NotFoundError):
            list(fetcher.stream("x", 0, 100))
        assert len(server.requests) == 2
        assert not pauses


@pytest.mark.parametrize("status", [400, 401, 204, 206, 300])
def test_an_answer_that_would_be_the_same_is_not_asked_for_again(status: int) -> None:
    with serving(lambda request: reply(request, status)) as (server, fetcher, pauses):
        with pytest.raises(TemporaryError, match=f"HTTP {status}"):
            fetcher.fetch("x", 100)
        assert not pauses
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [500, 503, 408, 429])
def test_a_failing_server_is_tried_again_a_few_times(status: int) -> None:
    with serving(lambda request: reply(request, status)) as (server, fetcher, pauses):
        with pytest.raises(TemporaryError, match=f"HTTP {status}"):
            fetcher.fetch("x", 100)
        assert pauses == list(RETRY_DELAYS_S)
        assert len(server.requests) == 1 + len(RETRY_DELAYS_S)


def test_a_server_that_recovers_is_enough() -> None:
    answers = iter([lambda r: reply(r, 503), whole])
    with serving(lambda request: next(answers)(request)) as (_, fetcher, pauses):
        assert fetcher.fetch("x", len(DATA)) == DATA
        assert pauses == list(RETRY_DELAYS_S[:1])


def test_nobody_listening_is_temporary() -> None:
    pauses: list[float] = []
    with HttpFetcher("http://127.0.0.1:9", sleep=pauses.append) as fetcher, pytest.raises(TemporaryError):
        fetcher.fetch("x", 100)
    assert pauses == list(RETRY_DELAYS_S)


def test_a_silent_server_is_temporary() -> None:
    gate = threading.Event()

    def silent(request: BaseHTTPRequestHandler) -> None:
        gate.wait(PATIENCE_S)

    with serving(silent) as (server, _, _):
        try:
            fetcher = HttpFetcher(f"{server.url}/repo", sleep=lambda _: None, read_timeout_s=0.05)
            with fetcher, pytest.raises(TemporaryError, match="Timeout"):
                fetcher.fetch("x", 100)
        finally:
            gate.set()


@pytest.mark.parametrize("answer", [whole, ranged])
@pytest.mark.parametrize("offset", [0, 1, 65535, 65536, 65537, len(DATA) - 1])
def test_a_stream_starts_anywhere_whether_the_server_knows_ranges_or_not(answer: Answer, offset: int) -> None:
    with serving(answer) as (server, fetcher, _):
        assert b"".join(fetcher.stream("b", offset, len(DATA))) == DATA[offset:]
        assert server.requests == [("/repo/b", f"bytes={offset}-{len(DATA) - 1}" if offset else None)]
        assert fetcher.serves_ranges == (answer is ranged or not offset)


def test_a_stream_asks_for_its_own_bytes_and_no_more() -> None:
    with serving(ranged) as (server, fetcher, _):
        assert b"".join(fetcher.stream("b", 10, 1000)) == DATA[10:1000]
        assert server.requests == [("/repo/b", "bytes=10-999")]


def test_a_finished_stream_asks_nothing() -> None:
    with serving(ranged) as (server, fetcher, _):
        assert list(fetcher.stream("b", len(DATA), len(DATA))) == []
        assert not server.requests


@pytest.mark.parametrize("answer", [whole, ranged])
def test_a_stream_never_gives_more_than_was_signed(answer: Answer) -> None:
    with serving(answer) as (_, fetcher, _):
        assert b"".join(fetcher.stream("b", 10, 1000)) == DATA[10:1000]


@pytest.mark.parametrize("answer", [whole, ranged])
def test_a_file_that_is_too_short_is_temporary(answer: Answer) -> None:
    with serving(answer) as (_, fetcher, _):
        got: list[bytes] = []
        with pytest.raises(TemporaryError, match="cut short"):
            got.extend(fetcher.stream("b", 0, len(DATA) + 1))
        assert b"".join(got) == DATA
        with pytest.raises(TemporaryError, match="cut short"):
            list(fetcher.stream("b", len(DATA), len(DATA) + 1))


def test_a_connection_that_breaks_is_taken_up_where_it_broke() -> None:
    broken = iter(range(3))

    def breaks(request: BaseHTTPRequestHandler) -> None:
        asked = request.headers["Range"]
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        if next(broken, None) is None:
            return ranged(request)
        rest = DATA[start : start + 50_000]
        headers = {"Content_Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if asked else {}
        return reply(request, 206 if asked else 200, rest, len(DATA) - start, **headers)

    with serving(breaks) as (server, fetcher, pauses):
        assert b"".join(fetcher.stream("b", 0, len(DATA))) == DATA
        assert [asked for _, asked in server.requests] == [
            None,
            *(f"bytes={start}-{len(DATA) - 1}" for start in (50_000, 100_000, 150_000)),
        ]
        assert pauses == [RETRY_DELAYS_S[0]] * 3


def test_metadata_that_breaks_off_is_temporary() -> None:
    with serving(lambda request: reply(request, 200, b"half", 8)) as (_, fetcher, pauses):
        with pytest.raises(TemporaryError, match="broke off"):
            fetcher.fetch("x", 100)
        assert pauses == list(RETRY_DELAYS_S)


@pytest.mark.parametrize(
    "header", ["bytes 11-20/100", "bytes 9-20/100", "bytes */100", "lines 10-20/100", "", "bytes 10-"]
)
def test_a_range_other_than_asked_is_refused(header: str) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        reply(request, 206, b"0123456789", Content_Range=header)

    with serving(answer) as (_, fetcher, _), pytest.raises(TemporaryError, match="answered range"):
        list(fetcher.stream("b", 10, 20))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "x-any"])
def test_coded_content_is_refused_and_not_decoded(coding: str) -> None:
    with serving(lambda request: reply(request, 200, b"junk", Content_Encoding=coding)) as (_, fetcher, _):
        with pytest.raises(TemporaryError, match="coded with"):
            fetcher.fetch("x", 100)
        with pytest.raises(TemporaryError, match="coded with"):
            list(fetcher.stream("x", 0, 100))


def test_redirects_on_the_same_host_are_followed_a_few_times() -> None:
    def hops(request: BaseHTTPRequestHandler) -> None:
        left = int(request.path.rpartition("/")[2])
        if left:
            return reply(request, 302, Location=f"/other/{left - 1}")
        return whole(request)

    with serving(hops) as (server, fetcher, _):
        assert fetcher.fetch("3", len(DATA)) == DATA
        assert b"".join(fetcher.stream("1", 100, len(DATA))) == DATA[100:]
        assert server.requests[-1] == ("/other/0", f"bytes=100-{len(DATA) - 1}")
        with pytest.raises(TemporaryError, match="more than 3 redirects"):
            fetcher.fetch("4", len(DATA))


def test_a_redirect_to_another_host_is_refused() -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        reply(request, 302, Location="http://localhost:1/x")

    with serving(answer) as (_, fetcher, _), pytest.raises(TemporaryError, match="expected the same host"):
        fetcher.fetch("x", 100)


@pytest.mark.parametrize(
    ("url", "target", "is_allowed"),
    [
        ("https://a/x", "https://a/y", True),
        ("http://a/x", "http://a/y", True),
        ("http://a/x", "https://a/y", True),
        ("https://a/x", "http://a/y", False),
        ("https://a/x", "https://b/y", False),
        ("https://a/x", "https://a.b/y", False),
        ("http://a/x", "ftp://a/y", False),
        ("http://a/x", "file:///etc/passwd", False),
    ],
)
def test_redirects_keep_host_and_https(url: str, target: str, is_allowed: bool) -> None:
    if is_allowed:
        check_redirect(url, target)
    else:
        with pytest.raises(TemporaryError, match="redirects to"):
            check_redirect(url, target)


@pytest.mark.parametrize("url", ["", "ftp://a", "a/b", "http://", "file:///x", "http://a/?q", "http://a/#f"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected http"):
        check_url(url)


@pytest.mark.parametrize(
    ("port", "is_one"), [("0", False), ("1", True), ("65535", True), ("65536", False), ("x", False)]
)
def test_ports_are_bounded(port: str, is_one: bool) -> None:
    url = f"http://host:{port}/repo"
    if is_one:
        assert check_url(url) == url
    else:
        with pytest.raises(ValueError, match=r"expected http|[Pp]ort"):
            check_url(url)


def part(request: BaseHTTPRequestHandler) -> None:
    start, end = map(int, request.headers["Range"].removeprefix("bytes=").split("-"))
    reply(request, 206, DATA[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(DATA)}")


@pytest.mark.parametrize(("start", "end"), [(0, 10), (5, 6), (100, 300)])
def test_a_part_is_asked_for_and_no_more(start: int, end: int) -> None:
    with serving(part) as (server, fetcher, _):
        assert fetcher.read("x", start, end) == DATA[start:end]
        assert server.requests == [("/repo/x", f"bytes={start}-{end - 1}")]


def test_a_part_from_a_server_without_ranges_is_cut_out() -> None:
    with serving(whole) as (_, fetcher, _):
        assert fetcher.read("x", 50, 70) == DATA[50:70]
        assert fetcher.read("x", 0, 7) == DATA[:7]


def test_a_part_that_the_server_cuts_short_is_not_returned() -> None:
    def short(request: BaseHTTPRequestHandler) -> None:
        reply(request, 206, DATA[5:9], Content_Range=f"bytes 5-8/{len(DATA)}")

    with serving(short) as (_, fetcher, _), pytest.raises(TemporaryError, match="ended at byte 9, expected 20"):
        fetcher.read("x", 5, 20)
