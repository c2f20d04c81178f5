"""Files on disk: errors are typed, short reads and writes are finished, names change atomically."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from packager.vehicle.errors import IncompatibleError, ResourceError
from packager.vehicle.storage import DirectoryStorage, FileOnDisk, sync_directory, write_atomically


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


def read(file: FileOnDisk, offset: int, count: int) -> bytes:
    buffer = bytearray(count)
    file.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def test_a_file_is_made_as_long_as_asked_and_zero(tmp_path: Path) -> None:
    with FileOnDisk.open(tmp_path / "slot", 10) as file:
        assert file.length_bytes == 10
        assert read(file, 0, 10) == bytes(10)
        file.write(3, b"abc")
        file.sync()
    assert (tmp_path / "slot").read_bytes() == b"\0\0\0abc\0\0\0\0"
    with FileOnDisk.open(tmp_path / "slot", 5) as file:
        assert read(file, 0, 5) == b"\0\0\0ab"
    with FileOnDisk.open(tmp_path / "slot") as file:
        assert file.length_bytes == 5


def test_reading_alone_does_not_make_or_write(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="can't be opened: No such file"):
        FileOnDisk.open(tmp_path / "gone")
    (tmp_path / "old").write_bytes(b"old")
    with FileOnDisk.open(tmp_path / "old") as file, pytest.raises(ResourceError, match="can't write at byte 0"):
        file.write(0, b"x")


def test_the_end_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"12345")
    with FileOnDisk.open(tmp_path / "old") as file:
        assert read(file, 2, 3) == b"345"
        with pytest.raises(IncompatibleError, match="ends at byte 5, expected 4 bytes at byte 2"):
            read(file, 2, 4)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_the_device_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    with FileOnDisk.open(tmp_path / "slot", 10) as file:
        for call, act, message in (
            ("pwrite", lambda: file.write(4, b"abc"), "can't write at byte 4"),
            ("preadv", lambda: read(file, 4, 3), "can't read at byte 4"),
            ("fdatasync", file.sync, "can't be synced"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(os, call, failing(code))
                with pytest.raises(ResourceError, match=f"{message}: {os.strerror(code)}"):
                    act()
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", failing(code))
        with pytest.raises(ResourceError, match="can't be made 9 bytes long"):
            FileOnDisk.open(tmp_path / "slot", 9)
        patch.setattr(os, "open", failing(code))
        with pytest.raises(ResourceError, match="can't be opened"):
            FileOnDisk.open(tmp_path / "slot", 9)


def test_short_reads_and_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write, real_read = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real_write(fd, data[:3], offset))
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: real_read(fd, [buffers[0][:2]], offset))
    data = bytes(range(20))
    with FileOnDisk.open(tmp_path / "slot", 20) as file:
        file.write(0, data)
        assert read(file, 0, 20) == data


def test_a_write_of_nothing_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda *_: 0)
    with FileOnDisk.open(tmp_path / "slot", 20) as file, pytest.raises(ResourceError, match="nothing could be written"):
        file.write(0, b"x")


def test_offsets_beyond_four_gibibytes(tmp_path: Path) -> None:
    far = (1 << 32) + 12345
    with FileOnDisk.open(tmp_path / "slot", far + 3) as file:  # sparse
        file.write(far, b"abc")
        assert read(file, far, 3) == b"abc"
        assert read(file, 12345, 3) == bytes(3)


def test_closing_twice(tmp_path: Path) -> None:
    file = FileOnDisk.open(tmp_path / "slot", 1)
    file.close()
    file.close()


def test_named_files_of_a_directory(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path / "home")
    assert storage.length("slots/dme/a") is None
    assert storage.read("state/x", 10) is None
    with storage.open("slots/dme/a", 7) as file:
        file.write(0, b"1234567")
    assert storage.length("slots/dme/a") == 7
    storage.replace("state/x", b"0123456789")
    assert storage.read("state/x", 10) == b"0123456789"
    with pytest.raises(ResourceError, match="longer than 9 bytes"):
        storage.read("state/x", 9)
    storage.remove("state/x")
    storage.remove("state/x")
    assert storage.length("state/x") is None


def test_a_new_file_survives_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("packager.vehicle.storage.sync_directory", synced.append)
    storage = DirectoryStorage(tmp_path)
    storage.open("slots/a", 1).close()
    assert synced == [tmp_path / "slots"]
    storage.open("slots/a", 1).close()
    assert len(synced) == 1
    monkeypatch.setattr("packager.vehicle.storage.sync_directory", failing(errno.EIO))
    with pytest.raises(ResourceError, match="can't be synced"):
        storage.open("slots/b", 1)


def test_errors_of_a_directory_are_typed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    storage = DirectoryStorage(tmp_path)
    for act in (
        lambda: storage.open("file/x", 1),
        lambda: storage.length("file/x"),
        lambda: storage.read("file/x", 1),
        lambda: storage.replace("file/x", b""),
        lambda: storage.remove("file/x"),
    ):
        with pytest.raises(ResourceError, match="file"):
            act()


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_failed_replacement_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"old")
    if call == "fsync":
        monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    else:
        monkeypatch.setattr(Path, "replace", failing(errno.EROFS))
    with pytest.raises(ResourceError, match="can't be written"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_a_replacement_syncs_content_then_name_then_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "content")  # noqa: PTH112
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        steps.append("name")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_atomically(tmp_path / "deep" / "state", b"new")
    assert steps == ["content", "name", "directory"]
    assert (tmp_path / "deep" / "state").stat().st_mode & 0o777 == 0o644
    sync_directory(tmp_path)
