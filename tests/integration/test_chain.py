"""Steps of a company's own, the release gate and the check of the chain, with the real commands, each with the keys of its machine only."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from packager.cli import packager
from packager.cli.failure import run
from sample_images.catalogue import CATALOGUE, read_catalogue
from sample_images.obtaining import obtain
from sample_images.registry import Registry

pytestmark = pytest.mark.usefixtures("clock_stands_still")
PROJECT = Path(__file__).parents[2]
ISSUED_AT = "--issued-at=2026-11-20"
OWN_STEPS = """
[steps.compile]
keys = ["compiler"]
threshold = 1

[steps.harden]
keys = ["hardener"]
threshold = 1
command = "true hardened"
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("workshop")
    (directory / "keys").mkdir()
    (directory / "keys/policy.toml").write_text((PROJECT / "keys/policy.toml").read_text() + OWN_STEPS)
    assert command("keys", "create", "--keys", directory / "keys", "--issued-at=2026-11-01") == 0
    wanted = [image for image in read_catalogue(CATALOGUE) if image.kind.startswith("small-")]
    obtain(wanted, directory / "images", Registry(directory / "cache", None), lambda _: None)
    shutil.copy(PROJECT / "sample_images/small.toml", directory)
    return directory


def command(*arguments: object) -> int:
    return run(packager, [str(argument) for argument in arguments], "packager")


def machine(workshop: Path, place: Path, *keys: str) -> Path:
    """Return a key directory that holds the policy, all public keys, and these private ones."""
    shutil.copytree(workshop / "keys", place, ignore=shutil.ignore_patterns("private"))
    (place / "private").mkdir(mode=0o700)
    for key in keys:
        shutil.copy(workshop / f"keys/private/{key}.pem", place / "private")
    return place


def images(workshop: Path, option: str) -> list[object]:
    found = []
    for line in (workshop / "small.toml").read_text().splitlines():
        if line.startswith("hardware_id"):
            hardware_id = line.split('"')[1]
        if line.startswith("image") and "1.2.0" in line:
            found += [option, f"images/{hardware_id}/1.2.0/image={workshop / line.split(chr(34))[1]}"]
    return found


def test_each_machine_with_its_own_keys(workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, links = tmp_path / "out", tmp_path / "links"
    compiler = machine(workshop, tmp_path / "1", "compiler")
    hardener = machine(workshop, tmp_path / "2", "hardener")
    builder = machine(workshop, tmp_path / "3", "collect", "diff", "bundle", "self-check", "publish", "layout-owner")
    gate = machine(workshop, tmp_path / "4", "gate")
    source = tmp_path / "source.c"
    source.write_text("int main")

    assert command("chain", "run", "harden", "--keys", hardener, "--links", links, "--material",
                   f"work/x={source}", "--", "true", "hardened") == 50  # fmt: skip
    assert "work/x: is no product of any step" in capsys.readouterr().err
    assert command("chain", "run", "compile", "--keys", compiler, "--links", links, "--material",
                   f"input/source.c={source}", "--tool", "gcc=13.2", *images(workshop, "--product"),
                   "--", sys.executable, "-c", "print('compiled')") == 0  # fmt: skip
    captured = capsys.readouterr()
    assert captured.out.startswith("step compile: signed compile.")  # the command's output is not the result

    build = ["build", workshop / "small.toml", "--keys", builder, "--jobs=1", "--unsigned", ISSUED_AT]
    assert command(*build, "--out", tmp_path / "no") == 50
    assert "is no product of any step" in capsys.readouterr().err
    assert command(*build, "--out", tmp_path / "no", "--links", links) == 50  # not hardened
    assert "step 'harden': found 0 links, expected 1" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    assert command("chain", "run", "harden", "--keys", hardener, "--links", links, *images(workshop, "--material"),
                   *images(workshop, "--product"), "--", "true", "hardened") == 0  # fmt: skip
    assert len(list(links.iterdir())) == 2
    assert command(*build, "--out", out, "--links", links) == 0

    assert not (out / "repo/targets/summary").exists()
    assert command("chain", "approve", out, "--keys", builder, ISSUED_AT) == 30  # the build machine is not the gate
    assert command("chain", "approve", out, "--keys", gate, ISSUED_AT) == 0
    assert command("chain", "approve", out, "--keys", gate, ISSUED_AT) == 0  # once more changes nothing
    assert sorted(path.name for path in (out / "repo/targets/summary").iterdir()) == [
        f"{domain}.07-2020.45.json" for domain in ("body", "chassis-safety", "powertrain")
    ]
    capsys.readouterr()


def test_gate_refuses_a_release_whose_chain_does_not_hold(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tmp_path / "keys"
    plain.mkdir()
    shutil.copy(PROJECT / "keys/policy.toml", plain)
    assert command("keys", "create", "--keys", plain, "--issued-at=2026-11-01") == 0
    out = tmp_path / "out"
    build = ["build", workshop / "small.toml", "--keys", plain, "--jobs=1", "--out", out, ISSUED_AT]
    assert command(*build, "--unsigned") == 0
    other = machine(workshop, tmp_path / "other", "gate")
    assert command("chain", "approve", out, "--keys", other, ISSUED_AT) == 50
    assert "layout: found owners" in capsys.readouterr().err
    contents = out / "contents.json"
    whole = contents.read_text()
    fields = json.loads(whole)
    del fields["chain"]["files"]["sbom.cdx.json"]
    contents.write_text(json.dumps(fields))
    assert command("chain", "approve", out, "--keys", plain, ISSUED_AT) == 50
    assert "chain/07-2020.45/sbom.cdx.json: is missing" in capsys.readouterr().err
    fields = json.loads(whole)
    fields["targets"]["body"] = []
    contents.write_text(json.dumps(fields))
    assert command("chain", "approve", out, "--keys", plain, ISSUED_AT) == 50
    assert "to be signed is nothing, the supply chain proves" in capsys.readouterr().err
    contents.write_text(whole)
    assert command("chain", "approve", out, "--keys", plain, "--issued-at=2027-11-20") == 50
    assert "layout: expired" in capsys.readouterr().err
    assert not (out / "repo/targets/summary").exists()


def test_chain_is_verified_alone(workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    shutil.copy(PROJECT / "keys/policy.toml", keys)
    assert command("keys", "create", "--keys", keys, "--issued-at=2026-11-01") == 0
    out = tmp_path / "out"
    assert command("build", workshop / "small.toml", "--keys", keys, "--jobs=1", "--out", out, ISSUED_AT) == 0
    capsys.readouterr()
    verify = ["chain", "verify", out, "--root", keys / "public/root.json"]
    assert command(*verify) == 0
    assert "ok  07-2020.45: collect, diff, bundle, self-check, publish; 9 bundles" in capsys.readouterr().out
    extra = out / "evidence/07-2020.45/zgw-small/1.2.0/other.bundle.provenance.json"
    extra.write_text("{}")
    assert command(*verify) == 50
    assert f"{extra}: belongs to no bundle of the release" in capsys.readouterr().err
    extra.unlink()
    swapped = out / "evidence/07-2020.45/zgw-small/1.2.0/full.bundle.provenance.json"
    swapped.write_bytes((out / "evidence/07-2020.45/dme-small/1.2.0/full.bundle.provenance.json").read_bytes())
    assert command(*verify) == 50
    assert f"{swapped}: is about dme-small/1.2.0/full.bundle" in capsys.readouterr().err
