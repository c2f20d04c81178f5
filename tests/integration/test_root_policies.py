"""Roots of other shapes than the sample's, through the commands: five of eight, and a hybrid of elliptic curves and lattices."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from packager.cli import packager
from packager.cli.failure import run
from packager.repo.staged import read_file
from packager.vehicle.errors import UntrustedError
from packager.vehicle.trust import workflow

PROJECT = Path(__file__).parents[2]
EIGHT = [f"root-{number}" for number in range(1, 9)]
CURVES, LATTICES = ("root-1", "root-2"), ("root-3", "root-4")

Cli = Callable[..., tuple[int, str]]


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs `packager` with the keys of this test; returns the exit code and all that was shown."""

    def call(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = run(packager, [*map(str, words), "--keys", str(tmp_path / "keys")], "packager")
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return call


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site"


def write_policy(place: Path, names: Iterable[str], threshold: int, schemes: str = "") -> None:
    text = (PROJECT / "keys/policy.toml").read_text()
    role = f"[root]\nkeys = {json.dumps([*names])}\nthreshold = {threshold}\n"
    text = re.sub(r"\[root\]\nkeys = .*\nthreshold = .*\n", role, text)
    (place / "keys").mkdir(exist_ok=True)
    (place / "keys/policy.toml").write_text(f"{text}\n{schemes}")


def sign(cli: Cli, site: Path, file: str, *names: str) -> str:
    shown = ""
    for name in names:
        digest = read_file(site / "staged" / file).digest.hex
        code, shown = cli("repo", "sign", site / "staged" / file, "--key", name, "--sha256", digest)
        assert code == 0, shown
    return shown


def refused(cli: Cli, site: Path, message: str) -> None:
    before = sorted(site.rglob("*"))
    code, shown = cli("repo", "publish", site, "--allow-demo-keys")
    assert (code, message in shown) == (40, True), shown
    assert sorted(site.rglob("*")) == before


def test_five_of_eight(tmp_path: Path, site: Path, cli: Cli) -> None:
    write_policy(tmp_path, EIGHT, 5)
    assert cli("keys", "create")[0] == 0
    (tmp_path / "keys/public/root.json").unlink()
    assert cli("repo", "init", site)[0] == 0
    sign(cli, site, "1.root.json", *EIGHT[:4])
    assert "1 more of root-5, root-6, root-7, root-8" in cli("repo", "status", site)[1]
    refused(cli, site, "4 of 5 signatures that root 1 demands")
    assert "root 1 asks for 5, has 5" in sign(cli, site, "1.root.json", "root-8")
    assert cli("repo", "publish", site, "--allow-demo-keys")[0] == 0

    # Three of the eight are lost at once: five of the old ones, and five of the new ones, who may be the same.
    write_policy(tmp_path, [*EIGHT[:5], "root-9", "root-10", "root-11"], 5)
    assert cli("keys", "create", "root-9", "root-10", "root-11")[0] == 0
    assert cli("repo", "propose", site)[0] == 0
    sign(cli, site, "2.root.json", "root-9", "root-10", "root-11", *EIGHT[:4])
    refused(cli, site, "4 of 5 signatures that root 1 demands")
    sign(cli, site, "2.root.json", "root-5")
    assert cli("repo", "publish", site, "--allow-demo-keys")[0] == 0

    # Four more would be too many: what is left of the old ones is no threshold.
    write_policy(tmp_path, ["root-1", *(f"root-{number}" for number in range(9, 16))], 5)
    assert cli("keys", "create", *(f"root-{number}" for number in range(12, 16)))[0] == 0
    assert cli("repo", "propose", site)[0] == 0
    sign(cli, site, "3.root.json", "root-1", *(f"root-{number}" for number in range(9, 16)))
    refused(cli, site, "4 of 5 signatures that root 2 demands")

    roots = [(site / f"repo/metadata/{version}.root.json").read_bytes() for version in (1, 2)]
    assert workflow.read_next_root(roots[1], workflow.read_root(roots[0])).version == 2


def test_hybrid_root(tmp_path: Path, site: Path, cli: Cli) -> None:
    """Three of two and two: neither all curves nor all lattices are enough, and whoever breaks one kind has two keys at most."""
    schemes = [f'{name} = "ecdsa-sha2-nistp384"' for name in CURVES] + [f'{name} = "ml-dsa-65"' for name in LATTICES]
    write_policy(tmp_path, [*CURVES, *LATTICES], 3, "\n".join(("[schemes]", *schemes)))
    assert cli("keys", "create")[0] == 0
    (tmp_path / "keys/public/root.json").unlink()
    for kind, other in ((CURVES, LATTICES), (LATTICES, CURVES)):
        place = site / kind[0]
        assert cli("repo", "init", place)[0] == 0
        sign(cli, place, "1.root.json", *kind)
        refused(cli, place, "2 of 3 signatures that root 1 demands")
        with pytest.raises(UntrustedError, match="signed by 2 different keys that it trusts for it, expected 3"):
            workflow.read_root((place / "staged/1.root.json").read_bytes())
        sign(cli, place, "1.root.json", other[0])
        assert cli("repo", "publish", place, "--allow-demo-keys")[0] == 0
        root = workflow.read_root((place / "repo/metadata/1.root.json").read_bytes())
        assert {key.scheme for key_id, key in root.keys.items() if key_id in root.roles["root"].keyids} == {
            "ecdsa-sha2-nistp384",
            "ml-dsa-65/1",
        }
