"""The join of the steps: collect, diff, bundle, self-check, publish; each verifies the link before it and leaves its own.

Nothing is signed as a target before the chain of all steps was verified, and nothing appears in the output before everything holds.
"""

import functools
import importlib.metadata
import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from securesystemslib.signer import SecretsHandler

from packager.diff import lzma
from packager.model.errors import SupplyChainError
from packager.model.jobs import BuiltBundle, CollectedImage, Plan
from packager.model.policy import KeyPolicy
from packager.model.release import Release
from packager.pipeline import work
from packager.pipeline.evidence import Evidence
from packager.pipeline.exported import EVIDENCE, write_provenance
from packager.pipeline.gate import approve_release
from packager.pipeline.report import check_budgets, measurements, report
from packager.pipeline.repository import publish_at_once
from packager.pipeline.staging import Stage, staging
from packager.pipeline.workers import run
from packager.repo.admission import check_hardware, role_name
from packager.repo.authority import Authority
from packager.repo.ceremony import load_root
from packager.repo.contents import CONTENTS_NAME, TARGETS, Chain, Contents, write_contents
from packager.repo.keys import load_public_keys, load_signers
from packager.supplychain.chain import VerifiedChain
from packager.supplychain.intoto import ReleaseId
from packager.supplychain.sbom import SBOM_NAME, Firmware, make_sbom
from packager.supplychain.steps import (
    BUNDLE,
    COLLECT,
    DESCRIPTION,
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
from packager.vehicle.core.head import SignedHead
from packager.vehicle.core.targets import CHAIN, BundleTarget, ImageTarget, image_path, summary_path
from packager.vehicle.identity import Digest, ImageId

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Called with a label and a length; provides the function that takes steps."""
TOOLS: Final = ("delta-packager", "bsdiff4", "zstandard", "cryptography", "in-toto", "securesystemslib", "tuf")


@dataclass(frozen=True, slots=True)
class Request:
    """What to build.

    Attributes:
        release: Content of the release file.
        description: Digest of the release file, which is evidence, too.
        plan: Images and jobs.
        authority: Who signs.
        issued_at: Time of issue, UTC, whole seconds.
        out: Where the release goes.
        efforts: By path of the job's bundle, 1 (fast) to 9 (small).
        is_signed: Whether metadata is signed, too; else what is to be signed is left for those who hold the keys.
        links: Of the company's own steps before the build, by file name.
    """

    release: Release
    description: Digest
    plan: Plan
    authority: Authority
    issued_at: datetime
    out: Path
    efforts: Mapping[str, int]
    is_signed: bool = True
    links: Mapping[str, bytes] = field(default_factory=dict)


def load_authority(
    policy: KeyPolicy,
    release: Release,
    directory: Path,
    secrets_handler: SecretsHandler | None = None,
    *,
    is_signed: bool = True,
) -> Authority:
    """Load all keys that a build signs with; the root's private keys are not among them.

    Args:
        policy: Names them.
        release: What will be built.
        directory: Of the keys.
        secrets_handler: Asks for passphrases and PINs.
        is_signed: False for the keys of the supply chain alone: steps and layout.

    Raises:
        RepositoryError: The release has a domain without a role in the policy.
        KeyMaterialError: A key is missing or unfit.
    """
    check_hardware(policy, _hardware(release))
    roles = [policy.layout, *(policy.steps[name] for name in STEPS if name in policy.steps)]
    if is_signed:
        roles += [policy.targets, policy.snapshot, policy.timestamp, *policy.domains.values()]
        roles += [policy.gate] if policy.gate else []
    signers = load_signers(directory, roles, secrets_handler)
    return Authority(policy, load_public_keys(policy, directory), signers, load_root(directory) if is_signed else b"")


def make_release(
    request: Request, workers: AbstractContextManager[Executor], progress: Progress
) -> Sequence[BuiltBundle]:
    """Build a release.

    Args:
        request: What to build.
        workers: Where aligning, packing and checking run; left before anything is moved or removed.
        progress: Shows how far each step is.

    Returns:
        The bundles, in the order of the plan.

    Raises:
        PackagerError: Any step failed; nothing appears at ``request.out``.
    """
    tools = tool_versions()
    evidence = Evidence(request.authority, tools, request.links)
    images = {_image_name(image): image.image.digest for image in request.plan.images}
    with staging(request.out) as stage, workers as executor:
        with evidence.step(COLLECT, evidence.supplied(_new_images(request))) as products:
            products |= {DESCRIPTION: request.description, **images}
        with evidence.step(DIFF, {COLLECT: images}) as products:
            alignments = _align(request, stage, executor, progress)
            products |= {_alignment_name(made): made.identity.digest for made in alignments.values()}
            aligned = dict(products)
        with evidence.step(BUNDLE, {COLLECT: images, DIFF: aligned}) as products:
            bundles = _pack(request, stage, alignments, executor, progress)
            products |= {bundle_artifact(built.job.path): built.bundle.digest for built in bundles}
            packed = dict(products)
            place = stage.out / EVIDENCE / request.release.id
            signers = evidence.signers(BUNDLE)
            write_provenance(place, bundles, request.description, request.efforts, tools, signers)
        with evidence.step(SELF_CHECK, {BUNDLE: packed, COLLECT: images}) as products:
            bundles, made_again = _check(stage, bundles, executor, progress)
            products |= {_rebuilt_name(built): image.digest for built, image in zip(bundles, made_again, strict=True)}
            rebuilt = dict(products)
        check_budgets(request.release, bundles)
        with evidence.step(PUBLISH, {BUNDLE: packed, SELF_CHECK: rebuilt}) as products:
            products |= {target_artifact(built.job.path): built.bundle.digest for built in bundles}
        release = ReleaseId(request.release.name, request.release.version, request.description)
        olds = sorted({_old(built) for built in bundles}, key=str)
        chain, proven = evidence.finish(release, olds, request.issued_at)
        sbom = make_sbom(release, _firmware(request), tools, request.issued_at)
        chain = replace(chain, files={**chain.files, SBOM_NAME: sbom})
        _publish(request, stage, bundles, chain, proven)
        _write_json(stage.out / "measurements.json", measurements(bundles, tools))
    return bundles


def _align(request: Request, stage: Stage, executor: Executor, progress: Progress) -> Mapping[str, work.AlignmentFile]:
    jobs = [job for job in request.plan.jobs if job.old is not None]
    with progress("diff", sum(job.weight_bytes for job in jobs)) as step:
        align = functools.partial(work.align, directory=stage.work, efforts=request.efforts)
        made = run(executor, align, jobs, lambda job: job.weight_bytes, step)
    return {alignment.job.path: alignment for alignment in made}


def _pack(
    request: Request, stage: Stage, alignments: Mapping[str, work.AlignmentFile], executor: Executor, progress: Progress
) -> list[BuiltBundle]:
    jobs = [(job, alignments.get(job.path)) for job in request.plan.jobs]
    with progress("bundle", sum(job.weight_bytes for job, _ in jobs)) as step:
        pack = functools.partial(work.pack, directory=stage.work, efforts=request.efforts)
        return run(executor, pack, jobs, lambda item: item[0].weight_bytes, step)


def _check(
    stage: Stage, bundles: Sequence[BuiltBundle], executor: Executor, progress: Progress
) -> tuple[list[BuiltBundle], list[ImageId]]:
    with progress("self-check", sum(built.job.weight_bytes for built in bundles)) as step:
        check = functools.partial(work.check, directory=stage.work)
        checked = run(executor, check, bundles, lambda built: built.job.weight_bytes, step)
    return [built for built, _ in checked], [image for _, image in checked]


def _publish(
    request: Request, stage: Stage, bundles: Sequence[BuiltBundle], chain: Chain, proven: VerifiedChain
) -> None:
    """Put everything in its place; the metadata comes last, of it the timestamp. Only what the chain proves is signed.

    What is signed is read back from what a build machine without those keys would hand over: there is one way to a signature.
    """
    contents = _contents(request, bundles, chain)
    signed = {
        target.path: target.digest
        for targets in contents.targets.values()
        for target in targets
        if isinstance(target, BundleTarget)
    }
    if signed != proven.targets:
        raise SupplyChainError("targets: what is to be signed differs from what the supply chain proves; build again")
    for built in bundles:
        place = stage.out / TARGETS / built.job.path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(built.file, place)
    place = stage.out / CHAIN / contents.release
    place.mkdir(parents=True)
    for name, data in chain.files.items():
        (place / name).write_bytes(data)
    _write_json(stage.out / "report.json", report(request.release, request.plan, bundles, request.issued_at))
    (stage.out / CONTENTS_NAME).write_bytes(write_contents(contents))
    if request.is_signed:
        approve_release(stage.out, request.authority, request.issued_at)
        publish_at_once(stage.out, request.authority, request.issued_at)


def _contents(request: Request, bundles: Sequence[BuiltBundle], chain: Chain) -> Contents:
    targets: dict[str, list[ImageTarget | BundleTarget]] = {}
    for built in bundles:
        job = built.job
        into = targets.setdefault(job.ecu.domain, [])
        if job.old is None:
            counter = job.ecu.release_counter
            hardware_id = job.ecu.hardware_id
            version, image = job.new.source.version, job.new.image
            repair_bytes = image.length_bytes * job.ecu.repair_percent // 100
            role = role_name(job.ecu.domain, request.release.id)
            summary = summary_path(role) if request.authority.policy.gate else None
            into.append(ImageTarget(hardware_id, version, image, counter, (hardware_id,), repair_bytes, summary))
        into.append(_target(built))
    return Contents(request.release.id, _hardware(request.release), targets, chain)


def _firmware(request: Request) -> list[Firmware]:
    return [
        Firmware(
            image_path(job.ecu.hardware_id, job.ecu.new.version),
            job.ecu.name,
            job.ecu.new.version,
            job.ecu.supplier,
            (job.ecu.hardware_id,),
            job.ecu.release_counter,
            job.new.image.length_bytes,
            job.new.image.digest,
        )
        for job in request.plan.jobs
        if job.old is None
    ]


def _hardware(release: Release) -> dict[str, list[str]]:
    hardware: dict[str, list[str]] = {}
    for ecu in release.ecus:
        hardware.setdefault(ecu.domain, []).append(ecu.hardware_id)
    return hardware


def _target(built: BuiltBundle) -> BundleTarget:
    job = built.job
    return BundleTarget(
        job.ecu.hardware_id,
        job.new.source.version,
        built.bundle.length_bytes,
        built.bundle.digest,
        _old(built),
        SignedHead(built.head.length_bytes, built.head.digest),
    )


def tool_versions() -> dict[str, str]:
    """Return the versions of what the bytes of a release depend on."""
    versions = {name: importlib.metadata.version(name) for name in TOOLS}
    return {"python": platform.python_version(), "liblzma": lzma.liblzma_version(), **versions}


def _old(built: BuiltBundle) -> Digest | None:
    return None if built.job.old is None else built.job.old.image.digest


def _new_images(request: Request) -> dict[str, Digest]:
    return {_image_name(job.new): job.new.image.digest for job in request.plan.jobs if job.old is None}


def _image_name(image: CollectedImage) -> str:
    return image_artifact(image.hardware_id, image.source.version)


def _alignment_name(alignment: work.AlignmentFile) -> str:
    job = alignment.job
    assert job.old is not None  # noqa: S101 - only delta jobs are aligned
    return alignment_artifact(job.ecu.hardware_id, job.new.source.version, job.old.image.digest)


def _rebuilt_name(built: BuiltBundle) -> str:
    return rebuilt_artifact(built.job.ecu.hardware_id, built.job.new.source.version, _old(built))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
