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
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from packager.model.jobs import BuiltBundle, Plan
from packager.model.policy import KeyPolicy
from packager.model.release import Release
from packager.pipeline import work
from packager.pipeline.evidence import Evidence
from packager.pipeline.report import check_budgets, measurements, report
from packager.pipeline.staging import Stage, staging
from packager.pipeline.workers import run
from packager.repo.ceremony import load_root
from packager.repo.keys import load_public_keys, load_signers
from packager.repo.repository import Authority, Contents, write_metadata
from packager.repo.targets_set import Chain
from packager.vehicle.head import SignedHead
from packager.vehicle.identity import ImageId
from packager.vehicle.targets import BundleTarget, ImageTarget

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Called with a label and a length; provides the function that takes steps."""
TOOLS: Final = ("delta-packager", "bsdiff4", "zstandard", "cryptography", "in-toto", "securesystemslib", "tuf")


@dataclass(frozen=True, slots=True)
class Request:
    """What to build.

    Attributes:
        release_file: The release file, which is evidence, too.
        release: Its content.
        plan: Images and jobs.
        authority: Who signs.
        issued_at: Time of issue, UTC, whole seconds.
        out: Where the release goes.
    """

    release_file: Path
    release: Release
    plan: Plan
    authority: Authority
    issued_at: datetime
    out: Path


def load_authority(policy: KeyPolicy, directory: Path) -> Authority:
    """Load all keys that a build signs with; the root's private keys are not among them.

    Raises:
        KeyMaterialError: One is missing or unfit.
    """
    roles = [policy.targets, policy.snapshot, policy.timestamp, policy.layout]
    signers = load_signers(directory, [*roles, *policy.domains.values(), *policy.steps.values()])
    return Authority(policy, load_public_keys(policy, directory), signers, load_root(directory))


def make_release(request: Request, executor: Executor, progress: Progress) -> Sequence[BuiltBundle]:
    """Build a release.

    Args:
        request: What to build.
        executor: Where aligning, packing and checking run.
        progress: Shows how far each step is.

    Returns:
        The bundles, in the order of the plan.

    Raises:
        PackagerError: Any step failed; nothing appears at ``request.out``.
    """
    with staging(request.out) as stage:
        evidence = Evidence.start(request.release, request.release_file, request.plan, request.authority, request.issued_at)
        alignments = _align(request, stage, executor, progress)
        evidence.diff(alignments)
        bundles = _pack(request, stage, alignments, executor, progress)
        evidence.bundle(alignments, bundles)
        bundles, rebuilt = _check(stage, bundles, executor, progress)
        evidence.self_check(bundles, rebuilt)
        check_budgets(request.release, bundles)
        _publish(request, stage, bundles, evidence.publish(bundles, rebuilt))
    return bundles


def _align(request: Request, stage: Stage, executor: Executor, progress: Progress) -> Mapping[str, work.Alignment]:
    jobs = [job for job in request.plan.jobs if job.old is not None]
    with progress("diff", sum(job.weight_bytes for job in jobs)) as step:
        align = functools.partial(work.align, directory=stage.work)
        made = run(executor, align, jobs, lambda job: job.weight_bytes, step)
    return {alignment.job.path: alignment for alignment in made}


def _pack(
    request: Request,
    stage: Stage,
    alignments: Mapping[str, work.Alignment],
    executor: Executor,
    progress: Progress,
) -> list[BuiltBundle]:
    jobs = [(job, alignments.get(job.path)) for job in request.plan.jobs]
    with progress("bundle", sum(job.weight_bytes for job, _ in jobs)) as step:
        pack = functools.partial(work.pack, directory=stage.work)
        return run(executor, pack, jobs, lambda item: item[0].weight_bytes, step)


def _check(
    stage: Stage, bundles: Sequence[BuiltBundle], executor: Executor, progress: Progress
) -> tuple[list[BuiltBundle], list[ImageId]]:
    with progress("self-check", sum(built.job.weight_bytes for built in bundles)) as step:
        check = functools.partial(work.check, directory=stage.work)
        checked = run(executor, check, bundles, lambda built: built.job.weight_bytes, step)
    return [built for built, _ in checked], [rebuilt for _, rebuilt in checked]


def _publish(request: Request, stage: Stage, bundles: Sequence[BuiltBundle], chain: Chain) -> None:
    """Put everything in its place; the metadata, and of it the timestamp, comes last."""
    for built in bundles:
        place = stage.out / "repo" / "targets" / built.job.path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(built.file, place)
    for name, data in chain.files.items():
        place = stage.out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    _write_json(stage.out / "report.json", report(request.release, request.plan, bundles, request.issued_at))
    _write_json(stage.out / "measurements.json", measurements(bundles, tool_versions()))
    write_metadata(stage.out / "repo" / "metadata", request.authority, _contents(request, bundles, chain), request.issued_at)


def _contents(request: Request, bundles: Sequence[BuiltBundle], chain: Chain) -> Contents:
    hardware: dict[str, list[str]] = {}
    targets: dict[str, list[ImageTarget | BundleTarget]] = {}
    for ecu in request.release.ecus:
        hardware.setdefault(ecu.domain, []).append(ecu.hardware_id)
    for built in bundles:
        job = built.job
        into = targets.setdefault(job.ecu.domain, [])
        if job.old is None:
            counter = job.ecu.release_counter
            hardware_id = job.ecu.hardware_id
            into.append(ImageTarget(hardware_id, job.new.source.version, job.new.image, counter, (hardware_id,)))
        into.append(_target(built))
    return Contents(hardware, targets, chain)


def _target(built: BuiltBundle) -> BundleTarget:
    job = built.job
    return BundleTarget(
        job.ecu.hardware_id,
        job.new.source.version,
        built.bundle.length_bytes,
        built.bundle.digest,
        None if job.old is None else job.old.image,
        job.new.image,
        SignedHead(built.head.length_bytes, built.head.digest),
    )


def tool_versions() -> dict[str, str]:
    """Return the versions of what the bytes of a release depend on."""
    versions = {name: importlib.metadata.version(name) for name in TOOLS}
    return {"python": platform.python_version(), **versions}


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


