"""Release after release in one repository, with real bundles: built without its keys, signed elsewhere, verified, and what breaks that."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from packager.cli import packager
from packager.cli.failure import run
from packager.config.policy import read_policy
from packager.config.release import read_release
from packager.model.errors import RepositoryError, SupplyChainError
from packager.pipeline import repository
from packager.pipeline.build import load_authority
from packager.pipeline.gate import approve_release
from packager.pipeline.verify import check_roots, verify_evidence
from packager.repo import targets_set
from packager.repo.authority import Authority
from packager.repo.contents import Contents, read_contents
from packager.repo.staged import read_file
from packager.vehicle.core.targets import ImageTarget
from packager.vehicle.errors import UntrustedError
from packager.vehicle.identity import Digest
from sample_images.catalogue import CATALOGUE, read_catalogue
from sample_images.obtaining import obtain
from sample_images.registry import Registry
from tests import needs
from tests.signed_metadata import write_metadata

pytestmark = pytest.mark.usefixtures("clock_stands_still")
PROJECT = Path(__file__).parents[2]
ISSUED_AT = datetime(2026, 11, 20, tzinfo=UTC)
FIX_VERSION = "07/2020.45+fix"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with keys, images, a release of all ECUs and a hot fix for one of them; both built, neither signed."""
    place = tmp_path_factory.mktemp("workshop")
    (place / "keys").mkdir()
    shutil.copy(PROJECT / "keys" / "policy.toml", place / "keys")
    assert run(packager, ["keys", "create", "--keys", str(place / "keys"), "--issued-at=2026-11-01"], "packager") == 0
    wanted = [image for image in read_catalogue(CATALOGUE) if image.kind.startswith("small-")]
    obtain(wanted, place / "images", Registry(place / "cache", None), lambda _: None)
    text = (PROJECT / "sample_images" / "small.toml").read_text()
    (place / "all.toml").write_text(text)
    new = bytearray((place / "images/small-engine/1.2.0.bin").read_bytes())
    new[1000:1004] = b"fix!"
    (place / "images/small-engine/1.2.1.bin").write_bytes(new)
    parts = text.split("[[ecu]]")
    fix = parts[0] + "[[ecu]]" + parts[1].replace("release_counter = 3", "release_counter = 4")
    fix = fix.replace('"07/2020.45"', f'"{FIX_VERSION}"').replace("1.2.0", "1.2.1").replace("1.1.0", "1.2.0")
    (place / "fix.toml").write_text(fix)
    policy = read_policy(place / "keys" / "policy.toml")
    needed = {name for role in (policy.layout, *policy.steps.values()) for name in role.keys}
    build_machine = shutil.copytree(place / "keys", place / "build-keys")
    for key in (build_machine / "private").iterdir():
        if key.stem not in needed:
            key.unlink()
    (build_machine / "public" / "root.json").unlink()
    for name in ("all", "fix"):
        assert build(place, f"{name}.toml", f"{name}-unsigned", "--unsigned", keys="build-keys") == 0
    return place


def build(place: Path, release: str, out: str, *options: str, keys: str = "keys") -> int:
    arguments = ["build", str(place / release), "--out", str(place / out), "--keys", str(place / keys), "--jobs=1"]
    return run(packager, [*arguments, "--issued-at=2026-11-20", *options], "packager")


def authority_of(place: Path) -> Authority:
    return load_authority(
        read_policy(place / "keys" / "policy.toml"), read_release(place / "all.toml")[0], place / "keys"
    )


def add(place: Path, repository: Path, unsigned: str) -> None:
    """Approve and sign a release that was built, and put it into a repository."""
    handed_over = shutil.copytree(place / unsigned, repository.parent / f"{repository.name}-{unsigned}")
    approve_release(handed_over, authority_of(place), ISSUED_AT)
    contents = read_contents(handed_over)
    for folder in ("repo", "chain", "evidence"):
        shutil.copytree(handed_over / folder, repository / folder, dirs_exist_ok=True)
    write_metadata(repository / "repo/metadata", authority_of(place), contents, ISSUED_AT)


def files(directory: Path) -> Mapping[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def both(workshop: Path) -> Path:
    """A repository with both releases."""
    add(workshop, workshop / "both", "all-unsigned")
    add(workshop, workshop / "both", "fix-unsigned")
    return workshop / "both"


@pytest.fixture
def verify(workshop: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], tuple[int, str, str]]:
    """Runs `packager verify` on a directory; returns code, stdout and stderr."""

    def call(directory: Path) -> tuple[int, str, str]:
        arguments = ["--root", str(workshop / "keys/public/root.json"), "--images", str(workshop / "images")]
        code = run(packager, ["verify", str(directory), *arguments], "packager")
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_build_machine_needs_no_key_of_the_repository(workshop: Path) -> None:
    assert build(workshop, "all.toml", "signed") == 0
    signed, unsigned = files(workshop / "signed"), files(workshop / "all-unsigned")
    metadata = {name for name in signed if name.startswith("repo/metadata/")}
    summaries = {name for name in signed if name.startswith("repo/targets/summary/")}
    assert metadata
    assert summaries
    assert set(unsigned) == set(signed) - metadata - summaries
    assert {name for name in unsigned if unsigned[name] != signed[name]} == {"measurements.json"}
    assert build(workshop, "all.toml", "no", keys="build-keys") == 30
    assert not (workshop / "no").exists()


def test_what_was_built_elsewhere_is_signed_to_the_same_bytes(workshop: Path, tmp_path: Path) -> None:
    assert (workshop / "signed").exists() or build(workshop, "all.toml", "signed") == 0
    add(workshop, tmp_path / "out", "all-unsigned")
    assert files(tmp_path / "out/repo") == files(workshop / "signed" / "repo")


def test_the_first_release_is_proposed_under_the_root_that_is_trusted(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = shutil.copytree(workshop / "all-unsigned", tmp_path / "release")
    keys = shutil.copytree(workshop / "keys", tmp_path / "keys")
    approve_release(release, authority_of(workshop), ISSUED_AT)
    command = ["repo", "propose", str(tmp_path / "site"), str(release), "--keys", str(keys), "--issued-at=2026-11-20"]
    assert run(packager, [*command, "--json"], "packager") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["staged"] == ["1.root.json", *said["to_sign"]]
    root = (keys / "public/root.json").read_bytes()
    assert (tmp_path / "site/staged/1.root.json").read_bytes() == root
    shutil.rmtree(tmp_path / "site")
    policy = (keys / "policy.toml").read_text()
    (keys / "policy.toml").write_text(policy.replace("threshold = 2", "threshold = 3", 1))
    assert run(packager, command, "packager") == 40
    assert "1.root.json: its keys or thresholds differ from the policy's" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_a_build_without_a_functionary_s_key_is_refused(workshop: Path, tmp_path: Path) -> None:
    keys = shutil.copytree(workshop / "build-keys", tmp_path / "keys")
    next((keys / "private").glob("diff*")).unlink()
    assert build(workshop, "all.toml", str(tmp_path / "out"), "--unsigned", keys=str(keys)) == 30
    assert not (tmp_path / "out").exists()


def test_both_releases_are_verified(both: Path, verify: Callable[[Path], tuple[int, str, str]]) -> None:
    code, out, err = verify(both)
    assert (code, err) == (0, "")
    assert f"OS 7.0 small {FIX_VERSION} (and 1 before it) is verified" in out
    assert "dme-small/1.2.1/full.bundle" in out
    assert "zgw-small/1.2.0/full.bundle" in out
    assert "dme-small/1.2.0" not in out, "its hardware has a newer release"


@pytest.mark.parametrize(
    ("path", "release"), [("chain/07-2020.45/root.layout", "07-2020.45"), ("chain/07-2020.45+fix/root.layout", "fix")]
)
def test_the_chain_of_every_release_must_hold(
    both: Path, tmp_path: Path, verify: Callable[[Path], tuple[int, str, str]], path: str, release: str
) -> None:
    damaged = shutil.copytree(both, tmp_path / "damaged")
    good = (damaged / path).read_bytes()
    (damaged / path).write_bytes(good + b" ")
    code, _, err = verify(damaged)
    assert (code, release in err, "root.layout: found" in err) == (50, True, True)
    (damaged / path).write_bytes(good)
    (damaged / "chain/other").mkdir()
    code, _, err = verify(damaged)
    assert (code, "is of no release that was signed" in err) == (50, True)
    (damaged / "staged").mkdir(exist_ok=True)
    (damaged / "staged/9.targets.json").touch()
    assert verify(damaged)[0] == 0, "a publication is under way, or was killed: the old release is valid"


@pytest.mark.parametrize("change", ["file", "missing", "more", "release", "none"])
def test_a_role_is_bound_to_its_chain(
    workshop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verify: Callable[[Path], tuple[int, str, str]],
    change: str,
) -> None:
    """Who signs the role above can't exchange the chain that the domain's keys signed for (ITE-2)."""
    real = targets_set.binding

    def other(contents: Any) -> dict[str, Any]:
        bound = json.loads(json.dumps(real(contents)))
        name = next(name for name in bound["files"] if name.startswith("diff."))
        if change == "file":
            bound["files"][name] = "0" * 64
        elif change == "missing":
            del bound["files"][name]
        elif change == "more":
            bound["files"]["more.link"] = "0" * 64
        elif change == "release":
            bound["release"] = "07-2020.44"
        return {} if change == "none" else bound

    monkeypatch.setattr(targets_set, "binding", other)
    add(workshop, tmp_path / "out", "all-unsigned")
    code, _, err = verify(tmp_path / "out")
    assert (code, "is bound to the supply chain" in err) == (50, True)


def test_a_signed_counter_that_the_manifest_does_not_state_is_found(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: Callable[[Path], tuple[int, str, str]]
) -> None:
    real = read_contents

    def other(release_dir: Path) -> Contents:
        contents = real(release_dir)
        targets = {
            domain: [replace(t, release_counter=9) if isinstance(t, ImageTarget) else t for t in entries]
            for domain, entries in contents.targets.items()
        }
        return replace(contents, targets=targets)

    monkeypatch.setitem(globals(), "read_contents", other)
    add(workshop, tmp_path / "out", "all-unsigned")
    code, _, err = verify(tmp_path / "out")
    assert (code, "its manifest disagrees with signed metadata: release counter 3, expected 9" in err) == (60, True)


def test_an_older_release_is_not_added(workshop: Path, tmp_path: Path) -> None:
    add(workshop, tmp_path / "out", "fix-unsigned")
    before = files(tmp_path / "out/repo/metadata")
    with pytest.raises(RepositoryError, match=r"release counter 3, but 'dme-small/1\.2\.1/image' with 4 is in force"):
        add(workshop, tmp_path / "out", "all-unsigned")
    assert files(tmp_path / "out/repo/metadata") == before


def test_another_release_gate_shuts_out_no_car(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verify: Callable[[Path], tuple[int, str, str]]
) -> None:
    """An exchanged gate vouches for nothing that is in force: cars would refuse it, so it is not even proposed."""
    site, keys = tmp_path / "site", shutil.copytree(workshop / "keys", tmp_path / "keys")
    assert build(workshop, "all.toml", str(site)) == 0
    policy = keys / "policy.toml"
    policy.write_text(policy.read_text().replace('"gate"', '"gate-2"'))
    assert run(packager, ["keys", "create", "gate-2", "--keys", str(keys)], "packager") == 0
    place = ["--keys", str(keys), "--issued-at=2026-11-20"]
    capsys.readouterr()
    assert run(packager, ["repo", "propose", str(site), *place], "packager") == 50
    err = capsys.readouterr().err
    assert "summary/body.07-2020.45.json: signed by 0 different keys of the release gate" in err
    assert "cars would refuse its images" in err
    assert not (site / "staged").exists()

    again = (workshop / "all.toml").read_text().replace('"07/2020.45"', '"07/2020.45b"')
    (workshop / "again.toml").write_text(again)
    assert build(workshop, "again.toml", str(tmp_path / "again"), "--unsigned", keys="build-keys") == 0
    assert run(packager, ["chain", "approve", str(tmp_path / "again"), *place], "packager") == 0
    assert run(packager, ["repo", "propose", str(site), str(tmp_path / "again"), *place], "packager") == 0
    for file in sorted((site / "staged").glob("*.json")):
        role = file.name.split(".")[1]
        for key in ("targets-1", "targets-2") if role == "targets" else (role,):
            digest = read_file(file).digest.hex
            assert run(packager, ["repo", "sign", str(file), f"--key={key}", f"--sha256={digest}", *place[:2]], "") == 0
    assert run(packager, ["repo", "publish", str(site), "--allow-demo-keys", *place], "packager") == 0
    code, out, err = verify(site)
    assert (code, "07/2020.45b is verified: 3 images, 9 bundles" in out) == (0, True), err


def test_a_gate_that_is_exchanged_after_the_proposal_is_found_by_the_publication(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, keys = tmp_path / "site", shutil.copytree(workshop / "keys", tmp_path / "keys")
    assert build(workshop, "all.toml", str(site)) == 0
    policy = keys / "policy.toml"
    policy.write_text(policy.read_text().replace('"gate"', '"gate-2"'))
    place = ["--keys", str(keys), "--issued-at=2026-11-20"]
    assert run(packager, ["keys", "create", "gate-2", "--keys", str(keys)], "packager") == 0
    with monkeypatch.context() as patch:
        patch.setattr(repository, "check_vouched", lambda *_: None)
        assert run(packager, ["repo", "propose", str(site), *place], "packager") == 0
    file = site / "staged/2.targets.json"
    for key in ("targets-1", "targets-2"):
        digest = read_file(file).digest.hex
        assert run(packager, ["repo", "sign", str(file), f"--key={key}", f"--sha256={digest}", *place[:2]], "") == 0
    before = files(site)
    assert run(packager, ["repo", "publish", str(site), "--allow-demo-keys", *place], "packager") == 50
    assert files(site) == before


@pytest.mark.parametrize("has_gate", [True, False])
def test_a_release_stays_verified_when_its_layout_has_expired(workshop: Path, tmp_path: Path, has_gate: bool) -> None:
    """What the gate approved in time is offered for as long as TUF metadata says so; nobody else says when a layout was judged."""
    keys = shutil.copytree(workshop / "keys", tmp_path / "keys")
    head, layout, rest = re.split(r"(\[layout\][^\[]*\[[^\[]*)", (keys / "policy.toml").read_text())
    text = head + layout.replace("expires_days = 90", "expires_days = 1") + rest
    (keys / "policy.toml").write_text(text if has_gate else text[: text.index("[gate]")])
    site = tmp_path / "site"
    assert build(workshop, "all.toml", str(site), keys=str(keys)) == 0
    root = (keys / "public/root.json").read_bytes()
    assert verify_evidence(site, root, ISSUED_AT + timedelta(hours=23))
    if has_gate:
        assert verify_evidence(site, root, ISSUED_AT + timedelta(days=10))
    else:
        with pytest.raises(SupplyChainError, match="layout: expired at 2026-11-21"):
            verify_evidence(site, root, ISSUED_AT + timedelta(days=10))


@pytest.mark.parametrize(
    ("path", "what", "problem"),
    [
        ("repo/metadata/1.root.json", "flip", "1.root.json: "),
        ("repo/metadata/1.root.json", "missing", "found no root of version 1, which is trusted"),
        ("repo/metadata/1.body.07-2020.45.json", "flip", "body.07-2020.45.json: found .* for version 1"),
        ("repo/metadata/1.body.07-2020.45.json", "missing", "1.body.07-2020.45.json: is missing"),
        ("repo/metadata/1.powertrain.07-2020.45+fix.json", "missing", "07-2020.45.fix.json: is missing"),
        ("repo/targets/zgw-small/1.2.0/full.bundle", "missing", "zgw-small/1.2.0/full.bundle: is missing"),
    ],
)
def test_what_is_damaged_or_missing_is_named(
    both: Path, tmp_path: Path, verify: Callable[[Path], tuple[int, str, str]], path: str, what: str, problem: str
) -> None:
    site = shutil.copytree(both, tmp_path / "site")
    data = bytearray((site / path).read_bytes())
    (site / path).unlink()
    if what == "flip":
        data[len(data) // 2] ^= 1
        (site / path).write_bytes(data)
    code, _, err = verify(site)
    assert code == 60, err
    assert re.search(problem, err), err


@pytest.mark.system
@needs.commands("openssl", "jq")
def test_provenance_and_summaries_are_checked_without_this_program(workshop: Path, both: Path, tmp_path: Path) -> None:
    """With the commands that docs/supply-chain.md gives."""
    text = (PROJECT / "docs/supply-chain.md").read_text()
    recipe = text[text.index("      jq -r .payload FILE") : text.index("  What a statement should say")]
    script = re.sub("^      ", "", recipe, flags=re.MULTILINE)
    bundle = both / "repo/targets/zgw-small/1.2.0/full.bundle"
    provenance = both / "evidence/07-2020.45/zgw-small/1.2.0/full.bundle.provenance.json"
    for key, file in (("bundle", provenance), ("gate", both / "repo/targets/summary/body.07-2020.45.json")):
        shown = CliRunner().invoke(packager, ["keys", "show", key, "--pem", "--keys", str(workshop / "keys")])
        (tmp_path / "key.pem").write_text(shown.stdout)
        done = subprocess.run(
            ["bash", "-ec", script.replace("FILE", str(file))], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, "Signature Verified Successfully" in done.stdout) == (0, True), done.stderr
        if key == "bundle":
            assert done.stdout.splitlines()[-1] == Digest.of(bundle.read_bytes()).hex


def test_a_gap_between_roots_is_named(both: Path, workshop: Path, tmp_path: Path) -> None:
    metadata = shutil.copytree(both / "repo/metadata", tmp_path / "metadata")
    root = (workshop / "keys/public/root.json").read_bytes()
    check_roots(metadata, root)
    shutil.copy(metadata / "1.root.json", metadata / "3.root.json")
    with pytest.raises(UntrustedError, match=r"metadata/2\.root\.json: is missing, expected it before 3\.root\.json"):
        check_roots(metadata, root)
