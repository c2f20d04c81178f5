"""Metadata served from a directory or from memory, as a server would serve it to a vehicle."""

from pathlib import Path

import pytest

from packager.repo.serving import FetchFromDirectory, FetchFromMemory
from packager.vehicle.errors import ResourceError, UntrustedError
from packager.vehicle.trust.metadata_store import Fetcher, NotFoundError


@pytest.fixture(params=["directory", "memory", "beneath"])
def fetcher(request: pytest.FixtureRequest, tmp_path: Path) -> Fetcher:
    (tmp_path / "1.body.7+fix.json").write_bytes(b"12345")
    (tmp_path.parent / "outside.json").write_bytes(b"secret")
    directory = FetchFromDirectory(tmp_path)
    return {
        "directory": directory,
        "memory": FetchFromMemory({"1.body.7+fix.json": b"12345"}),
        "beneath": FetchFromMemory({}, directory),
    }[request.param]


def test_quoted_names_are_those_of_files(fetcher: Fetcher) -> None:
    assert fetcher.fetch("1.body.7%2Bfix.json", 5) == fetcher.fetch("1.body.7+fix.json", 5) == b"12345"


def test_no_more_than_was_asked_for(fetcher: Fetcher) -> None:
    with pytest.raises(UntrustedError, match="longer than 4 bytes"):
        fetcher.fetch("1.body.7+fix.json", 4)


@pytest.mark.parametrize("path", ["none.json", "../outside.json", "..%2Foutside.json", "%2Fetc%2Fpasswd"])
def test_nothing_outside(fetcher: Fetcher, path: str) -> None:
    with pytest.raises(NotFoundError):
        fetcher.fetch(path, 100)


def test_what_can_t_be_read(tmp_path: Path) -> None:
    (tmp_path / "1.root.json").mkdir()
    with pytest.raises(ResourceError, match="can't be read"):
        FetchFromDirectory(tmp_path).fetch("1.root.json", 100)
