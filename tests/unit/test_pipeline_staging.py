"""Output appears whole or not at all."""

from pathlib import Path

import pytest

from packager.model.errors import ConfigError, SpaceError
from packager.pipeline.staging import check_place, staging


def names(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir())


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with staging(out) as stage:
        (stage.out / "file").write_text("x")
        (stage.work / "temporary").write_text("x")
        assert not out.exists()
    assert names(out) == ["file"]
    assert names(out.parent) == ["out"]


@pytest.mark.parametrize("failure", [ValueError("bad"), KeyboardInterrupt()])
def test_nothing_appears_after_a_failure(tmp_path: Path, failure: BaseException) -> None:
    def build() -> None:
        with staging(tmp_path / "out") as stage:
            (stage.out / "file").write_text("x")
            raise failure

    with pytest.raises(type(failure)):
        build()
    assert names(tmp_path) == []


def test_an_empty_directory_may_be_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    check_place(out, 1)
    with staging(out) as stage:
        (stage.out / "file").write_text("x")
    assert names(out) == ["file"]


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(ConfigError, match="expected a new or empty directory"):
        check_place(tmp_path / "out", 1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="expected a new or empty directory"):
        check_place(tmp_path / "file", 1)


def test_space_is_checked_first(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="are free, the build may need"):
        check_place(tmp_path / "a" / "b", 1 << 60)


def test_a_full_disk_is_an_error_of_space(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="No space left"), staging(tmp_path / "out"):
        raise OSError(28, "No space left on device", "x")
    assert names(tmp_path) == []
