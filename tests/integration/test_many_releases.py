"""What `make bench-metadata` does at full size, small: release after release with the commands alone, and a car that reads the newest."""

from pathlib import Path

import pytest

from tests.perf.bench_metadata import PUBLISH_AND_VERIFY, measure


@pytest.mark.long
def test_two_releases_with_the_commands(tmp_path: Path) -> None:
    found = measure(tmp_path, hardware_ids=6, versions=2, olds=2)
    runs = {name: took["runs"] for name, took in found["commands"].items()}
    assert {name: runs[name] for name in PUBLISH_AND_VERIFY} == {
        "chain approve": 2,
        "repo propose": 2,
        "repo publish": 2,
        "verify": 1,
    }
    assert runs["repo sign"] == 2 * (5 + 2)
    assert [*found["cars"]] == [0, 1]
    assert all(reads["daily"] < 1000 < reads["fresh"] for reads in found["cars"].values())
