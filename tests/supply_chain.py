"""A release as its supply chain sees it, without any image: for tests that break it."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from in_toto.models.metadata import Envelope
from securesystemslib.signer import CryptoSigner, Key, Signer

from packager.model.policy import KeyPolicy, RolePolicy
from packager.supplychain.chain import VerifiedChain, verify_chain
from packager.supplychain.intoto import ReleaseId, SignedLayout, link_name, make_layout, record_link
from packager.supplychain.steps import (
    BUNDLE,
    COLLECT,
    DIFF,
    PUBLISH,
    SELF_CHECK,
    STEPS,
    alignment_artifact,
    bundle_artifact,
    image_artifact,
    rebuilt_artifact,
    target_artifact,
)
from packager.vehicle.core.targets import bundle_path
from packager.vehicle.identity import Digest

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SIGNERS: dict[str, Signer] = {
    name: CryptoSigner.generate_ed25519()
    for name in (*STEPS, "bundle-2", "gate", "gate-2", "owner-1", "owner-2", "owner-3", "mallory")
}
KEYS: dict[str, Key] = {name: signer.public_key for name, signer in SIGNERS.items()}
UNUSED = RolePolicy((), 1, 1)
POLICY = KeyPolicy(
    demo=True,
    root=UNUSED,
    targets=UNUSED,
    snapshot=UNUSED,
    timestamp=UNUSED,
    domains={},
    layout=RolePolicy(("owner-1",), 1, 90),
    steps={name: RolePolicy((name,), 1, 90) for name in STEPS},
)
TWO_BUNDLERS = replace(POLICY, steps={**POLICY.steps, BUNDLE: RolePolicy((BUNDLE, "bundle-2"), 2, 90)})
DESCRIPTION = Digest.of(b"release.toml")
Artifacts = dict[str, Digest]


def digest(*parts: object) -> Digest:
    return Digest.of(repr(parts).encode())


@dataclass
class Build:
    """A release as the steps see it. Tests change a piece before it is signed."""

    materials: dict[str, Artifacts] = field(default_factory=dict)
    products: dict[str, Artifacts] = field(default_factory=dict)
    olds: list[Digest | None] = field(default_factory=list)
    signers: dict[str, Signer] = field(default_factory=lambda: dict(SIGNERS))
    policy: KeyPolicy = POLICY
    release: ReleaseId = field(default_factory=lambda: ReleaseId("OS 7.0", "07/2020.45", DESCRIPTION))
    command: tuple[str, ...] = ("packager", "build")
    commands: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def layout(self) -> SignedLayout:
        return make_layout(self.policy, KEYS, SIGNERS, self.release, self.olds, NOW)

    def link(self, step: str, signer: str | None = None) -> bytes:
        return record_link(
            step,
            self.materials[step],
            self.products[step],
            self.signers[signer or step],
            command=self.commands.get(step, self.command),
            tools={"bsdiff4": "1.3.2"},
        )

    def files(self) -> dict[str, bytes]:
        files = {"root.layout": self.layout().data}
        for step in self.policy.steps:
            for name in self.policy.steps[step].keys:
                files[link_name(step, KEYS[name].keyid)] = self.link(step, name)
        return files

    def verify(self, files: Mapping[str, bytes] | None = None, now: datetime = NOW) -> VerifiedChain:
        return verify_chain(self.files() if files is None else files, self.layout().keys, now)


def make_build(ecus: int = 2, olds: int = 2, release: object = "7.0") -> Build:
    images = {
        image_artifact(f"E{ecu}", version): digest("image", ecu, version)
        for ecu in range(ecus)
        for version in ("new", *(f"o{n}" for n in range(olds)))
    }
    bundles, rebuilt, alignments = {}, {}, {}
    starts: list[Digest | None] = [None]
    for ecu in range(ecus):
        for old in (None, *(images[image_artifact(f"E{ecu}", f"o{n}")] for n in range(olds))):
            bundles[bundle_artifact(bundle_path(f"E{ecu}", "new", old))] = digest("bundle", ecu, old, release)
            rebuilt[rebuilt_artifact(f"E{ecu}", "new", old)] = images[image_artifact(f"E{ecu}", "new")]
            if old:
                alignments[alignment_artifact(f"E{ecu}", "new", old)] = digest("alignment", ecu, old)
                starts.append(old)
    targets = {target_artifact(name.removeprefix("bundles/")): value for name, value in bundles.items()}
    olds_only = {name: value for name, value in images.items() if "/new/" not in name}
    return Build(
        materials={
            COLLECT: {},
            DIFF: dict(images),
            BUNDLE: images | alignments,
            SELF_CHECK: bundles | olds_only,
            PUBLISH: bundles | rebuilt,
        },
        products={
            COLLECT: {"release.toml": DESCRIPTION} | images,
            DIFF: alignments,
            BUNDLE: dict(bundles),
            SELF_CHECK: dict(rebuilt),
            PUBLISH: targets,
        },
        olds=starts,
    )


def edit_payload(data: bytes, change: Callable[[dict[str, Any]], None], signer: Signer | None = None) -> bytes:
    """Change what an envelope says; with `signer`, sign it again."""
    value = json.loads(data)
    payload = json.loads(base64.b64decode(value["payload"]))
    change(payload)
    raw = json.dumps(payload, sort_keys=True).encode()
    if signer is None:
        value["payload"] = base64.b64encode(raw).decode()
        return json.dumps(value).encode()
    envelope = Envelope(raw, value["payloadType"], {})
    envelope.create_signature(signer)
    return json.dumps(envelope.to_dict()).encode()


def with_front(build: Build, *steps: str) -> Build:
    """Return a build whose new images come from steps of the company's own, each of which makes all of them anew."""
    new = [name for name in build.products[COLLECT] if "/new/" in name]
    used = {"input/sources.tar": digest("sources")}
    for step in steps:
        SIGNERS.setdefault(step, CryptoSigner.generate_ed25519())
        KEYS.setdefault(step, SIGNERS[step].public_key)
        build.signers[step] = SIGNERS[step]
        build.materials[step] = dict(used)
        is_last = step == steps[-1]
        used = {name: build.products[COLLECT][name] if is_last else digest(step, name) for name in new}
        build.products[step] = dict(used)
    build.materials[COLLECT] = {name: build.products[COLLECT][name] for name in new}
    front = {step: RolePolicy((step,), 1, 90) for step in steps}
    build.policy = replace(build.policy, steps={**front, **build.policy.steps})
    return build
