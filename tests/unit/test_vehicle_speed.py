"""Slow retrieval (attack 33): measured with an injected clock, and against a server that really drips."""

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from itertools import count

import pytest

from packager.vehicle.installation.home import ConfigurationError, read_configuration
from packager.vehicle.transport.fetch import HttpFetcher, SlowError
from packager.vehicle.transport.speed import Speed, SpeedMeter
from tests.loopback import PATIENCE_S, LoopbackServer

VEHICLE = '\n[[ecu]]\nname = "A"\nserial = "1"\nhardware_id = "a"\n[ecu.profile]\nram_kib = 64\nflash_kib = 64\n'


def wait(meter: SpeedMeter, clock: list[float], length_bytes: int, seconds: float) -> int | None:
    def read() -> bytes:
        clock[0] += seconds
        return bytes(length_bytes)

    meter.measure(read)
    return meter.too_slow()


@pytest.mark.parametrize(("per_second", "found"), [(100, None), (99, 99)])
def test_the_least_speed_holds_from_both_sides(per_second: int, found: int | None) -> None:
    clock = [0.0]
    meter = SpeedMeter(100, window_s=10, clock_s=lambda: clock[0])
    assert [wait(meter, clock, per_second, 1) for _ in range(9)] == [None] * 9
    assert wait(meter, clock, per_second, 1) == found
    assert meter.speed == Speed(10 * per_second, 10.0, per_second)
    assert meter.speed.bytes_per_second == per_second


def test_a_pause_of_the_caller_does_not_count() -> None:
    clock = [0.0]
    meter = SpeedMeter(100, window_s=10, clock_s=lambda: clock[0])
    for _ in range(30):
        clock[0] += 60
        assert wait(meter, clock, 1000, 1) is None
    assert meter.speed.bytes_per_second == 1000


def test_a_fast_start_does_not_excuse_a_slow_window_and_zero_allows_any() -> None:
    clock = [0.0]
    meter = SpeedMeter(100, window_s=10, clock_s=lambda: clock[0])
    assert wait(meter, clock, 1_000_000, 10) is None
    assert wait(meter, clock, 10, 10) == 1
    assert wait(SpeedMeter(0, window_s=10, clock_s=lambda: clock[0]), clock, 0, 99) is None


def test_the_clock_is_a_real_one_where_none_is_given() -> None:
    meter = SpeedMeter()
    meter.measure(lambda: (time.sleep(0.01), b"x")[1])
    assert meter.speed.waited_s >= 0.01


def test_speeds_add_up() -> None:
    assert Speed(1, 1.0, 5) + Speed(2, 1.0, None) == Speed(3, 2.0, 5)
    assert Speed(1, 1.0, 5) + Speed(2, 1.0, 4) == Speed(3, 2.0, 4)
    assert Speed().bytes_per_second is None


@pytest.mark.parametrize("kind", ["metadata", "target", "part"])
def test_a_server_that_drips_is_given_up_with_the_speed_found(kind: str) -> None:
    """A byte is sent when the one before was received: a 64th of a second by the clock given, however slow the machine."""
    requests = []
    received = threading.Semaphore(1)
    ticks = count()

    class Drip(LoopbackServer):
        def answer(self, request: BaseHTTPRequestHandler) -> None:
            requests.append(request.path)
            request.send_response(206 if request.headers["Range"] else 200)
            if request.headers["Range"]:
                request.send_header("Content-Range", "bytes 0-99999/100000")
            request.send_header("Content-Length", "100000")
            request.end_headers()
            with suppress(OSError):
                while received.acquire(timeout=PATIENCE_S):
                    request.wfile.write(b"x")

    meter = SpeedMeter(1000, window_s=0.25, clock_s=lambda: next(ticks) / 64)
    options = {"meter": meter, "read_timeout_s": PATIENCE_S, "on_bytes": lambda _: received.release()}
    with Drip() as server, HttpFetcher(server.url, **options) as fetcher:
        calls = {
            "metadata": lambda: fetcher.fetch("timestamp.json", 100_000),
            "target": lambda: list(fetcher.stream("a", 0, 100_000)),
            "part": lambda: fetcher.read("a", 0, 100_000),
        }
        with pytest.raises(SlowError, match=r"delivers 64 bytes/s, expected at least 1000") as raised:
            calls[kind]()
        assert raised.value.exit_code == 75
        assert fetcher.speed.slowest_bytes_per_second == 64
    assert len(requests) == 1  # trying again at once would go on like that for ever


def test_the_least_speed_is_configured() -> None:
    assert read_configuration('vin = "X"' + VEHICLE).min_bytes_per_second == 1000
    assert read_configuration('vin = "X"\nmin_bytes_per_second = 0' + VEHICLE).min_bytes_per_second == 0
    with pytest.raises(ConfigurationError, match="min_bytes_per_second: found -1, expected 0 to"):
        read_configuration('vin = "X"\nmin_bytes_per_second = -1' + VEHICLE)
