"""What the supply chains prove is what is signed, release by release."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from packager.model.errors import SupplyChainError
from packager.pipeline import bound_chain
from packager.pipeline.bound_chain import verify_chains
from packager.repo.authority import Authority
from packager.repo.contents import Contents
from packager.supplychain.chain import VerifiedChain
from packager.vehicle.identity import Digest
from tests.release_series import Series, make_authority, proven_by
from tests.signed_metadata import load_metadata, sign_metadata

SERIES = Series.of(hardware_ids=5, olds=1)
NOW = SERIES.issued_at(2)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


def only(contents: Contents, *domains: str) -> Contents:
    return replace(contents, targets={domain: contents.targets[domain] for domain in domains})


def verified(
    directory: Path,
    authority: Authority,
    releases: list[Contents],
    chains: Mapping[str, VerifiedChain],
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """Publish releases whose chains prove what `chains` says, and verify all."""
    metadata: dict[str, bytes] = {}
    by_layout = {}
    for contents in releases:
        metadata |= sign_metadata(authority, contents, NOW, metadata)
        by_layout[contents.chain.files["root.layout"]] = chains[contents.release]
        (directory / contents.release).mkdir(parents=True)
        for name, data in contents.chain.files.items():
            (directory / contents.release / name).write_bytes(data)
    monkeypatch.setattr(bound_chain, "verify_chain", lambda files, keys, now: by_layout[files["root.layout"]])
    trusted = load_metadata(metadata, authority.root, NOW)
    return list(verify_chains(directory, trusted, trusted.delegations.everything(), NOW))


def test_every_release_that_a_car_reads_is_held_against_its_chain(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, fix = SERIES.release(1, authority), only(SERIES.release(2, authority), "body")
    chains = {contents.release: proven_by(contents) for contents in (first, fix)}
    assert verified(tmp_path, authority, [first, fix], chains, monkeypatch) == [fix.release, first.release]


def test_a_release_that_no_car_reads_any_more_is_left_alone(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = SERIES.release(1, authority), SERIES.release(2, authority)
    chains = {second.release: proven_by(second), first.release: proven_by(second)}
    assert verified(tmp_path, authority, [first, second], chains, monkeypatch) == [second.release]


@pytest.mark.parametrize("change", ["missing", "more", "other", "image", "no image"])
@pytest.mark.parametrize("of", [1, 2])
def test_signed_and_proven_must_be_the_same(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, of: int, change: str
) -> None:
    first, fix = SERIES.release(1, authority), only(SERIES.release(2, authority), "body")
    chains = {contents.release: proven_by(contents) for contents in (first, fix)}
    wrong = chains[(first, fix)[of - 1].release]
    domain = "telematics" if of == 1 else "body"
    path = f"{SERIES.hardware[domain][0]}/7.0.0{of}/full.bundle"
    image = f"images/{path.replace('full.bundle', 'image')}"
    targets, images = dict(wrong.targets), dict(wrong.images)
    if change == "missing":
        del targets[path]
    elif change == "more":
        targets["HW-99999/1/full.bundle"] = Digest.of(b"")
    elif change == "other":
        targets[path] = Digest.of(b"")
    elif change == "image":
        images[image] = Digest.of(b"")
    else:
        del images[image]
    chains[wrong.release.version] = replace(wrong, targets=targets, images=images)
    with pytest.raises(SupplyChainError, match=f"the supply chain of 07-2020.0{of} (proves|collected)"):
        verified(tmp_path, authority, [first, fix], chains, monkeypatch)
