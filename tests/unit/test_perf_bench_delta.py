import os
from pathlib import Path

import pytest

from tests.perf.limited import measure
from tests.perf.makers import PEERS, our_name
from tests.perf.pairs import Pair, corpus_pairs
from tests.perf.peer_cache import PeerCache
from tests.perf.summary import Compared, left_out_lines, summarise, summary_table, time_table

DONE = {"state": "done", "wall_s": 1.0, "verified": True}


def compared(
    kind: str, name: str, ours_bytes: int, peer_bytes: int, *, new_bytes: int = 1 << 20, s: float = 2.0
) -> Compared:
    pair = Pair(kind, name, ("1", "2"), Path("1.bin"), Path("2.bin"))
    peers = {
        "hdiffpatch-zstd": {**DONE, "bytes": peer_bytes},
        "bsdiff4": {"state": "timeout", "message": "no patch after 120 s"},
    }
    ours = {name: {**DONE, "bytes": ours_bytes, "wall_s": s} for name in ("zstd", "zstd-1")}
    return Compared(pair, new_bytes, ours, peers)


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(bytes(range(256)) * 64)
    new.write_bytes(bytes(range(256)) * 60 + b"changed")
    return old, new


@pytest.mark.parametrize(
    ("kind", "name", "ours_bytes", "peer_bytes", "group", "missed"),
    [
        ("mcu", "a", 500, 1024, "mcu, best peer 1 KiB or more", []),
        ("mcu", "a", 520, 1024, "mcu, best peer 1 KiB or more", ["mean"]),
        ("mcu", "a", 1273, 1023, "mcu, best peer under 1 KiB", []),
        ("mcu", "a", 1274, 1023, "mcu, best peer under 1 KiB", ["bytes above"]),
        ("app", "a", 6200, 10000, "app without compressed payload", []),
        ("app", "a", 10001, 10000, "app without compressed payload", ["mean", "worst pair"]),
        ("app", "ovmf-code", 20000, 10000, "app with compressed payload", []),
        ("data", "a", 11000, 10000, "data", []),
    ],
)
def test_a_figure_reaches_its_goal_or_misses_it(
    kind: str, name: str, ours_bytes: int, peer_bytes: int, group: str, missed: list[str]
) -> None:
    figures = summarise([compared(kind, name, ours_bytes, peer_bytes)], ["zstd"])

    assert [(row["group"], row["missed"]) for row in figures] == [(group, missed)]
    assert figures[0]["from_1_mib_worst_time_ratio"] == 2.0
    assert group in summary_table(figures)


@pytest.mark.parametrize(
    ("profile", "new_bytes", "seconds", "is_missed"),
    [
        ("zstd", (1 << 20) - 1, 1.5, False),
        ("zstd", (1 << 20) - 1, 1.501, True),
        ("zstd", 1 << 20, 2.0, False),
        ("zstd", 1 << 20, 2.001, True),
        ("zstd-1", 1 << 20, 1.0, False),
        ("zstd-1", 1 << 20, 1.001, True),
    ],
)
def test_build_time_reaches_its_goal_or_misses_it(
    profile: str, new_bytes: int, seconds: float, is_missed: bool
) -> None:
    """Under 1 MiB half a second more than the peer, above twice its time, at effort 1 its time."""
    figures = summarise([compared("app", "a", 1, 2000, new_bytes=new_bytes, s=seconds)], [profile])

    assert ("missed: app a 1 -> 2" in time_table(figures)) is is_missed
    assert figures[0]["mean_time_ratio"] == seconds


def test_sizes_have_goals_at_the_usual_effort_alone() -> None:
    figures = summarise([compared("app", "a", 3000, 2000)], ["zstd", "zstd-1"])

    assert [row["missed"] for row in figures] == [["mean", "worst pair"], []]


def test_an_effort_is_passed_on(images: tuple[Path, Path]) -> None:
    """At effort 1 zstd works at level 7, so literals that are nothing like the old image become longer."""
    old, new = images
    new.write_bytes(old.read_bytes() + bytes((at * at >> 5) % 251 for at in range(1 << 14)))

    sizes = [measure("ours", our_name("zstd", effort), old, new, limit_s=600)["bytes"] for effort in (1, 5)]

    assert sizes[0] > sizes[1]


def test_the_mean_is_geometric_and_the_worst_pair_is_named() -> None:
    rows = [compared("data", "a", 1000, 2000), compared("data", "b", 4000, 2000)]

    figures = summarise(rows, ["zstd"])[0]

    assert (figures["geometric_mean"], figures["worst"], figures["worst_pair"]) == (1.0, 2.0, "data b 1 -> 2")


def test_who_made_no_patch_is_named() -> None:
    assert left_out_lines(compared("mcu", "a", 1, 2)) == ["  left out: bsdiff4, timeout: no patch after 120 s"]


def test_a_result_is_remembered_per_version_of_the_peer(tmp_path: Path) -> None:
    file = tmp_path / "cache.json"
    PeerCache(file).result(b"o", b"n", ("peer", "1", "s"), 10, lambda: {"state": "done", "bytes": 7})

    known = PeerCache(file)

    assert known.result(b"o", b"n", ("peer", "1", "s"), 10, None)["bytes"] == 7
    assert known.result(b"o", b"n", ("peer", "2", "s"), 10, None)["state"] == "skipped"


@pytest.mark.parametrize(("limit_s", "state"), [(10, "timeout"), (11, "done")])
def test_what_ran_out_of_time_is_made_again_under_a_higher_limit(limit_s: float, state: str) -> None:
    cache = PeerCache(None)
    peer = ("peer", "1", "s")
    cache.result(b"o", b"n", peer, 10, lambda: {"state": "timeout", "limit_s": 10})

    assert cache.result(b"o", b"n", peer, limit_s, lambda: {"state": "done"})["state"] == state


def test_our_bundle_is_measured_and_checked(images: tuple[Path, Path]) -> None:
    result = measure("ours", "zstd", *images, limit_s=600)

    assert (result["state"], result["verified"]) == ("done", True)
    assert set(result) >= {"bytes", "wall_s", "cpu_s", "peak_bytes", "apply_s", "check_s", "forms"}


def test_a_child_is_ended_at_its_limit(images: tuple[Path, Path]) -> None:
    never = images[0].with_name("never")
    os.mkfifo(never)  # whoever reads it waits for a writer
    assert measure("ours", "zstd", never, images[1], limit_s=0.01)["state"] == "timeout"


def test_a_failure_says_what_happened(images: tuple[Path, Path]) -> None:
    result = measure("ours", "zstd", images[0].parent / "absent", images[1], limit_s=600)

    assert result["state"] == "failed"
    assert "absent" in str(result["message"])


def test_bsdiff4_is_kept_from_what_takes_it_hours() -> None:
    peer = PEERS["bsdiff4"]
    noise = bytes(range(256))

    assert "fill or periodic" in peer.refuses(bytes(1 << 16), noise)
    assert peer.refuses(noise, noise) == ""


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "pairs.tsv"
    table.write_text("class\tname\told\nmcu\ta\t1\n")

    with pytest.raises(SystemExit, match="expected the columns"):
        corpus_pairs(tmp_path, table)
