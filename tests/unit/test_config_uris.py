"""The file of a machine that says where private keys lie: none is fine, and everything wrong is told at once."""

from pathlib import Path

import pytest

from packager.config.uris import read_uris
from packager.model.errors import ConfigError


def test_no_file_means_no_uris(tmp_path: Path) -> None:
    assert read_uris(tmp_path / "uris.toml") == {}


def test_reads_uris_by_name(tmp_path: Path) -> None:
    path = tmp_path / "uris.toml"
    path.write_text('root-1 = "hsm:2?label=root-1"\nsnapshot = "awskms:alias/snapshot"\n')
    assert read_uris(path) == {"root-1": "hsm:2?label=root-1", "snapshot": "awskms:alias/snapshot"}


def test_lists_all_problems(tmp_path: Path) -> None:
    path = tmp_path / "uris.toml"
    path.write_text('root-1 = 7\n"../a" = "file:a"\n[b]\n')
    with pytest.raises(ConfigError) as caught:
        read_uris(path)
    assert len(caught.value.problems) == 3
    path.write_text("root-1 = ")
    with pytest.raises(ConfigError, match="TOML"):
        read_uris(path)
