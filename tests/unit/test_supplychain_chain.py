"""The supply chain: what holds, and for every way to break it, that it is found and named."""

import base64
import json
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import SSlibKey

from packager.model.errors import ConfigError, KeyMaterialError, SupplyChainError
from packager.model.policy import RolePolicy
from packager.supplychain import intoto
from packager.supplychain.chain import read_chain, verify_chain
from packager.supplychain.envelope import open_envelope, verify_link, verify_previous
from packager.supplychain.intoto import ReleaseId, link_name, make_layout, record_link
from packager.supplychain.steps import (
    BUNDLE,
    COLLECT,
    DIFF,
    PUBLISH,
    SELF_CHECK,
    STEPS,
    bundle_artifact,
    image_artifact,
    rebuilt_artifact,
)
from packager.vehicle.core.targets import bundle_path
from packager.vehicle.identity import Digest
from tests.supply_chain import (
    KEYS,
    NOW,
    POLICY,
    SIGNERS,
    TWO_BUNDLERS,
    Build,
    digest,
    edit_payload,
    make_build,
)


@pytest.fixture
def build() -> Build:
    return make_build()


def file_of(step: str, name: str | None = None) -> str:
    return link_name(step, KEYS[name or step].keyid)


def broken(build: Build, match: str, files: Mapping[str, bytes] | None = None, now: datetime = NOW) -> SupplyChainError:
    with pytest.raises(SupplyChainError, match=match) as caught:
        build.verify(files, now)
    assert caught.value.exit_code == 50
    return caught.value


def test_a_whole_chain_holds_and_tells_what_may_be_published(build: Build) -> None:
    chain = build.verify()
    assert chain.release == build.release
    assert chain.targets == {name.removeprefix("targets/"): value for name, value in build.products[PUBLISH].items()}
    assert chain.images == {name: value for name, value in build.products[COLLECT].items() if name != "release.toml"}
    assert set(chain.links) == set(STEPS)


def test_same_step_same_bytes_whatever_the_order(build: Build) -> None:
    reordered = Build(
        {step: dict(reversed(items.items())) for step, items in build.materials.items()},
        {step: dict(reversed(items.items())) for step, items in build.products.items()},
        build.olds[::-1],
    )
    assert reordered.files() == build.files()


def test_links_hold_no_path_and_no_time(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = build.files()
    monkeypatch.chdir(tmp_path)
    assert build.files() == here
    for name, data in here.items():
        payload = base64.b64decode(json.loads(data)["payload"]).decode()
        assert '"/' not in payload
        assert "2026" not in payload or name == "root.layout"


def test_verification_leaves_directory_logging_and_streams_alone(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger("in_toto").level
    build.verify()
    broken(build, "missing", {})
    assert Path.cwd() == tmp_path
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger("in_toto").level == level
    assert capfd.readouterr() == ("", "")


def test_a_hundred_ecus_with_five_old_images_each() -> None:
    build = make_build(ecus=100, olds=5)
    assert len(build.verify().targets) == 600


# --- signatures and functionaries


@pytest.mark.parametrize("step", STEPS)
def test_tampered_link(build: Build, step: str) -> None:
    def change(payload: dict[str, Any]) -> None:
        next(iter(payload["products"].values()))["sha256"] = "00" * 32

    files = build.files()
    files[file_of(step)] = edit_payload(files[file_of(step)], change)
    broken(build, f"link of step '{step}': found signatures", files)


@pytest.mark.parametrize("step", STEPS)
def test_missing_link(build: Build, step: str) -> None:
    files = build.files()
    del files[file_of(step)]
    broken(build, f"step '{step}': found 0 links, expected 1 of {file_of(step)}", files)


@pytest.mark.parametrize("signer", ["mallory", COLLECT])
def test_link_of_a_foreign_functionary(build: Build, signer: str) -> None:
    files = build.files()
    foreign = record_link(DIFF, build.materials[DIFF], build.products[DIFF], SIGNERS[signer])
    broken(build, "link of step 'diff': found signatures", {**files, file_of(DIFF): foreign})
    error = broken(build, f"found '{file_of(DIFF, signer)}'", {**files, file_of(DIFF, signer): foreign})
    assert "remove it" in error.hint
    del files[file_of(DIFF)]
    broken(build, "step 'diff': found 0 links", {**files, file_of(DIFF, signer): foreign})


def test_link_under_the_name_of_another_step(build: Build) -> None:
    one_machine = replace(POLICY, steps={**POLICY.steps, DIFF: RolePolicy((BUNDLE,), 1, 90)})
    build.policy = one_machine
    build.signers[DIFF] = SIGNERS[BUNDLE]
    files = build.files()
    build.verify(files)
    broken(
        build,
        "link of step 'diff': found a link named 'bundle'",
        {**files, file_of(DIFF, BUNDLE): files[file_of(BUNDLE)]},
    )


def test_step_with_a_threshold_of_two(build: Build) -> None:
    build.policy = TWO_BUNDLERS
    files = build.files()
    assert len(files) == 7
    build.verify(files)
    one = {name: data for name, data in files.items() if name != file_of(BUNDLE, "bundle-2")}
    broken(build, "step 'bundle': found 1 links, expected 2", one)
    # one machine's link under both names
    broken(
        build, "link of step 'bundle': found signatures", {**files, file_of(BUNDLE, "bundle-2"): files[file_of(BUNDLE)]}
    )
    # they disagree
    build.products[BUNDLE] = {**build.products[BUNDLE], bundle_artifact("E0/new/full.bundle"): digest("other")}
    broken(build, "disagree on its artifacts", {**files, file_of(BUNDLE, "bundle-2"): build.link(BUNDLE, "bundle-2")})


def test_one_key_under_two_ids_does_not_make_two(build: Build) -> None:
    double = SSlibKey.from_dict("ab" * 32, KEYS[BUNDLE].to_dict())
    with pytest.raises(SupplyChainError, match="same key under two key ids"):
        make_layout(TWO_BUNDLERS, {**KEYS, "bundle-2": double}, SIGNERS, build.release, build.olds, NOW)
    owner = KEYS["owner-1"]
    with pytest.raises(SupplyChainError, match="same key under two key ids"):
        verify_chain(build.files(), [owner, SSlibKey.from_dict("ab" * 32, owner.to_dict())], NOW)


# --- the layout


def test_layout_must_be_signed_by_every_given_key(build: Build) -> None:
    build.policy = replace(POLICY, layout=RolePolicy(("owner-1", "owner-2", "owner-3"), 2, 90))
    layout = make_layout(
        build.policy, KEYS, {name: SIGNERS[name] for name in ("owner-1", "owner-3")}, build.release, build.olds, NOW
    )
    assert layout.keys == (KEYS["owner-1"], KEYS["owner-3"])
    files = {**build.files(), "root.layout": layout.data}
    verify_chain(files, layout.keys, NOW)
    with pytest.raises(SupplyChainError, match=r"layout: found signatures .* 2 of"):
        verify_chain(files, [KEYS["owner-1"], KEYS["owner-2"]], NOW)
    with pytest.raises(SupplyChainError, match="no key"):
        verify_chain(files, [], NOW)


def test_layout_needs_its_owners(build: Build) -> None:
    policy = replace(POLICY, layout=RolePolicy(("owner-1", "owner-2"), 2, 90))
    with pytest.raises(KeyMaterialError, match="found 1 of its owners"):
        make_layout(policy, KEYS, {"owner-1": SIGNERS["owner-1"]}, build.release, build.olds, NOW)


def test_layout_of_somebody_else(build: Build) -> None:
    files = build.files()
    files["root.layout"] = edit_payload(files["root.layout"], lambda _: None, SIGNERS["mallory"])
    broken(build, "layout: found signatures", files)


@pytest.mark.parametrize(
    ("after", "holds"),
    [(timedelta(days=90, seconds=-1), True), (timedelta(days=90), False), (timedelta(days=-3650), True)],
)
def test_expiry_is_judged_by_the_given_time(build: Build, after: timedelta, holds: bool) -> None:
    if holds:
        build.verify(now=NOW + after)
    else:
        broken(build, "layout: expired at 2026-05-30", now=NOW + after)


def test_long_expired_layout_holds_at_its_own_time(build: Build) -> None:
    layout = make_layout(POLICY, KEYS, SIGNERS, build.release, build.olds, datetime(2001, 1, 1, tzinfo=UTC))
    build.verify({**build.files(), "root.layout": layout.data}, now=datetime(2001, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda layout: layout["inspect"].append({"_type": "inspection", "name": "x", "run": ["touch", "pwned"]}),
            "inspections",
        ),
        (lambda layout: layout["steps"].pop(1), "found steps collect, bundle"),
        (lambda layout: layout["steps"].reverse(), "found steps publish"),
        (lambda layout: layout["steps"][2].update(threshold=0), "threshold 0"),
        (lambda layout: layout["steps"][2].update(threshold=True), "threshold True"),
        (lambda layout: layout["steps"][2].update(threshold=2), "threshold 2 of 1"),
        (lambda layout: layout["steps"][2]["expected_products"].pop(), "must end with DISALLOW"),
        (lambda layout: layout["steps"][4].update(expected_materials=[]), "expected_materials must end with DISALLOW"),
        (lambda layout: layout.update(expires="soon"), "does not match format.*expected a layout"),
        (lambda layout: layout.update(readme="{}"), "'release'.*expected a layout"),
        (lambda layout: layout.update(readme=""), "readme"),
        (lambda layout: layout.update(_type="link"), "found a link"),
        (lambda layout: layout["keys"].clear(), "expected a public key"),
        (lambda layout: layout.pop("steps"), "'steps'.*expected a layout"),
    ],
)
def test_layout_that_says_too_little_is_refused_even_if_signed(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    monkeypatch.chdir(tmp_path)
    files = build.files()
    files["root.layout"] = edit_payload(files["root.layout"], change, SIGNERS["owner-1"])
    broken(build, match, files)
    assert list(tmp_path.iterdir()) == []


def test_one_functionary_under_two_ids_in_a_signed_layout(build: Build) -> None:
    build.policy = TWO_BUNDLERS
    double = "ab" * 32

    def change(layout: dict[str, Any]) -> None:
        layout["keys"][double] = {**layout["keys"][KEYS[BUNDLE].keyid], "keyid": double}
        layout["steps"][2]["pubkeys"] = [KEYS[BUNDLE].keyid, double]

    files = build.files()
    files["root.layout"] = edit_payload(files["root.layout"], change, SIGNERS["owner-1"])
    broken(build, "same key under two key ids", files)


def test_layout_is_for_one_release(build: Build) -> None:
    build.release = ReleaseId("OS 7.0", "07/2020.46", Digest.of(b"another release.toml"))
    error = broken(build, r"step 'collect': found release\.toml")
    assert "different releases" in error.hint


def test_links_of_another_release_are_not_reused(build: Build) -> None:
    other = make_build(release="7.1").files()
    files = build.files()
    for step in (BUNDLE, SELF_CHECK, PUBLISH):
        broken(build, "step", {**files, file_of(step): other[file_of(step)]})


@pytest.mark.parametrize("issued_at", [NOW.replace(tzinfo=None), NOW.replace(microsecond=1)])
def test_time_of_issue_is_whole_seconds_of_utc(build: Build, issued_at: datetime) -> None:
    with pytest.raises(SupplyChainError, match="whole seconds"):
        make_layout(POLICY, KEYS, SIGNERS, build.release, build.olds, issued_at)


def test_steps_must_be_those_of_a_release(build: Build) -> None:
    steps = {name: role for name, role in POLICY.steps.items() if name != DIFF}
    with pytest.raises(ConfigError) as caught:
        make_layout(
            replace(POLICY, steps={**steps, "Paint.": steps[BUNDLE]}), KEYS, SIGNERS, build.release, build.olds, NOW
        )
    assert len(caught.value.problems) == 2


# --- what the steps say


def test_rebuilt_image_that_differs_is_found(build: Build) -> None:
    name = rebuilt_artifact("E1", "new", build.olds[-1])
    build.products[SELF_CHECK][name] = build.materials[PUBLISH][name] = digest("not the image")
    broken(build, f"step 'self-check', products: 'DISALLOW.*{name}")


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (DIFF, "bundles/E0/new/extra.bundle"),
        (BUNDLE, "images/E0/new/image"),
        (BUNDLE, "alignments/E9/new/x.segments"),
        (SELF_CHECK, "rebuilt/full/E9/new/image"),
        (PUBLISH, "targets/E9/new/full.bundle"),
        (COLLECT, "bundles/E0/new/full.bundle"),
    ],
)
def test_extra_product(build: Build, step: str, name: str) -> None:
    build.products[step][name] = digest("extra")
    broken(build, f"step '{step}', products: 'DISALLOW")


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (COLLECT, "images/E0/new/image"),
        (DIFF, "images/E0/unknown/image"),
        (DIFF, "alignments/E0/new/x.segments"),
        (BUNDLE, "alignments/E0/new/x.segments"),
        (SELF_CHECK, "bundles/E0/new/x.bundle"),
        (PUBLISH, "images/E0/new/image"),
    ],
)
def test_extra_material(build: Build, step: str, name: str) -> None:
    build.materials[step][name] = digest("extra")
    broken(build, f"step '{step}', materials: 'DISALLOW")


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (DIFF, "images/E0/new/image"),
        (SELF_CHECK, "bundles/E0/new/full.bundle"),
        (PUBLISH, "bundles/E0/new/full.bundle"),
    ],
)
def test_material_changed_between_steps(build: Build, step: str, name: str) -> None:
    build.materials[step][name] = digest("changed")
    broken(build, f"step '{step}', materials: 'DISALLOW.*{name}")


def test_published_bundle_that_is_not_the_checked_one(build: Build) -> None:
    build.products[PUBLISH]["targets/E0/new/full.bundle"] = digest("another")
    broken(build, "step 'publish', products: 'DISALLOW.*full.bundle")


def test_bundle_that_nobody_checked(build: Build) -> None:
    del build.materials[SELF_CHECK]["bundles/E0/new/full.bundle"]
    broken(build, "step 'self-check': bundles: bundles/E0/new/full.bundle: found nothing")


def test_bundle_checked_but_not_rebuilt(build: Build) -> None:
    name = rebuilt_artifact("E0", "new", None)
    del build.products[SELF_CHECK][name]
    del build.materials[PUBLISH][name]
    broken(build, f"step 'self-check': rebuilt images: {name}: found nothing")


def test_old_image_passed_off_as_rebuilt(build: Build) -> None:
    """A digest that was collected, under a name that matches it, but not what the bundle is for."""
    name = rebuilt_artifact("E0", "new", None)
    del build.products[SELF_CHECK][name]
    del build.materials[PUBLISH][name]
    fake = rebuilt_artifact("E0", "o0", None)
    build.products[SELF_CHECK][fake] = build.materials[PUBLISH][fake] = build.products[COLLECT][
        image_artifact("E0", "o0")
    ]
    broken(build, "step 'self-check': rebuilt images: .*: found")


def test_bundle_from_an_image_that_was_not_collected(build: Build) -> None:
    stranger = digest("stranger")
    build.olds.append(stranger)
    bundle = bundle_artifact(bundle_path("E0", "new", stranger))
    build.products[BUNDLE][bundle] = digest("b")
    build.materials[SELF_CHECK][bundle] = digest("b")
    build.materials[PUBLISH][bundle] = digest("b")
    broken(build, "starts from an image that step 'collect' does not list")


def test_unpublished_bundle(build: Build) -> None:
    del build.products[PUBLISH]["targets/E0/new/full.bundle"]
    broken(build, "step 'publish': targets: E0/new/full.bundle: found nothing")


def test_missing_release_description(build: Build) -> None:
    del build.products[COLLECT]["release.toml"]
    broken(build, "step 'collect', products: .*release.toml")


def test_other_command(build: Build) -> None:
    build.command = ("sh", "-c", "true")
    broken(build, "step 'collect': found command 'sh -c true'")


NAMES = [
    "../image",
    "/etc/passwd",
    "images/../x/y/z",
    "images//E0/image",
    "images/E0/new/image/",
    "images/E0/*/image",
    "images/.E0/new/image",
    "",
    "x",
    "images/E0/image",
    "C:\\x",
    "images/E0/n\u00e9w/image",
    "images/" + "a" * 129 + "/new/image",
]


@pytest.mark.parametrize("name", NAMES)
def test_artifact_names_are_relative_and_normalised(build: Build, name: str) -> None:
    for materials, products in (({name: digest(1)}, {}), ({}, {name: digest(1)})):
        with pytest.raises(SupplyChainError, match="found artifact"):
            record_link(DIFF, materials, products, SIGNERS[DIFF])
    files = build.files()

    def change(link: dict[str, Any]) -> None:
        link["products"][name] = {"sha256": "00" * 32}

    files[file_of(DIFF)] = edit_payload(files[file_of(DIFF)], change, SIGNERS[DIFF])
    broken(build, "link of step 'diff': found artifact", files)


@pytest.mark.parametrize(
    "hashes",
    [{}, {"md5": "00"}, {"sha256": "00" * 32, "md5": "00"}, {"sha256": "00"}, {"sha256": "AA" * 32}, 3, {"sha256": 3}],
)
def test_artifacts_have_one_sha256(build: Build, hashes: object) -> None:
    files = build.files()
    files[file_of(DIFF)] = edit_payload(
        files[file_of(DIFF)], lambda link: link["products"].update({"alignments/a/b/c": hashes}), SIGNERS[DIFF]
    )
    broken(build, "product 'alignments/a/b/c'", files)


def test_longest_component_is_accepted() -> None:
    record_link(DIFF, {}, {"images/" + "a" * 128 + "/new/image": digest(1)}, SIGNERS[DIFF])


def test_unknown_step_is_not_recorded() -> None:
    with pytest.raises(SupplyChainError, match="step 'Paint': is unknown"):
        record_link("Paint", {}, {}, SIGNERS[DIFF])


# --- one link by itself: every step verifies the one before


def test_previous_link_vouches_for_what_is_used(build: Build) -> None:
    link = verify_previous(build.link(BUNDLE), BUNDLE, [KEYS["mallory"], KEYS[BUNDLE]], build.products[BUNDLE])
    assert (link.step, link.keyid, link.products) == (BUNDLE, KEYS[BUNDLE].keyid, build.products[BUNDLE])


@pytest.mark.parametrize("name", ["bundles/E0/new/full.bundle", "bundles/E9/new/full.bundle"])
def test_previous_link_refuses_what_it_did_not_make(build: Build, name: str) -> None:
    with pytest.raises(SupplyChainError, match=f"{name}: found sha256:.* by the link of step 'bundle'"):
        verify_previous(build.link(BUNDLE), BUNDLE, [KEYS[BUNDLE]], {name: digest("changed")})


def test_previous_link_must_be_signed_by_its_functionary(build: Build) -> None:
    for keys in ([KEYS["mallory"]], [KEYS[COLLECT], KEYS[DIFF]], []):
        with pytest.raises(SupplyChainError, match="found signatures"):
            verify_link(build.link(BUNDLE), BUNDLE, keys)
    with pytest.raises(SupplyChainError, match="named 'bundle'"):
        verify_link(build.link(BUNDLE), DIFF, [KEYS[BUNDLE]])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"payload":"!","payloadType":"a","signatures":[]}',
        b'{"signed":{},"signatures":[]}',
    ],
)
def test_what_is_no_envelope(data: bytes) -> None:
    with pytest.raises(SupplyChainError, match="expected"):
        open_envelope(data, "link", [KEYS[DIFF]], 1)


def test_envelope_of_another_type_is_not_taken_for_one(build: Build) -> None:
    data = build.link(DIFF).replace(b"application/vnd.in-toto+json", b"application/vnd.other+json")
    with pytest.raises(SupplyChainError, match="payload type"):
        verify_link(data, DIFF, [KEYS[DIFF]])


def test_every_flipped_byte_of_a_link_is_found(build: Build) -> None:
    files = build.files()
    good = build.verify(files)
    name = file_of(DIFF)
    for position in range(0, len(files[name]), 53):
        damaged = bytearray(files[name])
        damaged[position] ^= 1
        try:
            assert build.verify({**files, name: bytes(damaged)}) == good
        except SupplyChainError:
            continue


# --- from and to disk


def test_chain_is_read_from_its_directory(build: Build, tmp_path: Path) -> None:
    files = build.files()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert read_chain(tmp_path) == files
    (tmp_path / "directory").mkdir()
    with pytest.raises(SupplyChainError, match=r"expected root\.layout and links"):
        read_chain(tmp_path)
    with pytest.raises(SupplyChainError, match="No such file"):
        read_chain(tmp_path / "none")


def test_two_chains_at_once(build: Build) -> None:
    bad = make_build()
    bad.products[PUBLISH]["targets/E9/new/full.bundle"] = digest("extra")
    with ThreadPoolExecutor(4) as pool:
        good_results = [pool.submit(build.verify) for _ in range(8)]
        bad_results = [pool.submit(bad.verify) for _ in range(8)]
        assert len({str(result.result().targets) for result in good_results}) == 1
        for result in bad_results:
            with pytest.raises(SupplyChainError, match="step 'publish', products"):
                result.result()


def test_in_toto_runs_for_one_chain_at_a_time(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its trace in a global."""
    inside = 0
    most = 0

    def verify(*_: object, **__: object) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.002)
        inside -= 1

    monkeypatch.setattr(intoto, "in_toto_verify", verify)
    with ThreadPoolExecutor(4) as pool:
        for result in [pool.submit(build.verify) for _ in range(8)]:
            result.result()
    assert most == 1
