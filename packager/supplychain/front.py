"""Performs and reads the steps of the company's own, which come before a build: each on its own machine, with its own key.

Nothing is taken from the working directory or the environment: no configuration (CVE-2023-32076), no change of directory, no time limit
that nobody asked for. A step whose command fails leaves no link.
"""

import hashlib
import os
import signal
import stat
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from securesystemslib.signer import Key, Signer

from packager.model.errors import SupplyChainError
from packager.model.policy import KeyPolicy
from packager.supplychain.chain import Functionaries, verify_step
from packager.supplychain.envelope import MAX_ENVELOPE_BYTES, VerifiedLink
from packager.supplychain.intoto import link_name, record_link
from packager.supplychain.steps import INPUT, STEPS, WORK, check_artifacts, check_steps, last_makers
from packager.vehicle.identity import Digest

IMAGES: Final = "images"


class Run(Protocol):
    """Runs a command and returns its exit code; `run_command` is one."""

    def __call__(self, command: Sequence[str], timeout_s: float | None) -> int:
        """Run `command` for at most `timeout_s` seconds.

        Raises:
            SupplyChainError: It can't be started, or takes longer.
        """


def run_command(command: Sequence[str], timeout_s: float | None, stdout: int | None = None) -> int:
    """Run a command where the caller stands; see `Run`. What it started dies with it when its time is over.

    Args:
        command: Its words; no shell looks at them.
        timeout_s: Longest time; None for no limit.
        stdout: File descriptor that gets its output.

    Returns:
        Its exit code.

    Raises:
        SupplyChainError: It can't be started, or was not finished in time.
    """
    try:
        process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=stdout, start_new_session=True)
    except OSError as error:
        raise SupplyChainError(f"command {command[0]!r}: can't be started: {error.strerror}") from error
    try:
        return process.wait(timeout_s)
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        raise SupplyChainError(
            f"command {command[0]!r}: was not finished after {timeout_s:g} seconds, and was ended",
            hint="give it more time with --timeout, or none",
        ) from error


def perform(
    step: str,
    policy: KeyPolicy,
    keys: Mapping[str, Key],
    signers: Mapping[str, Signer],
    links: Mapping[str, bytes],
    materials: Mapping[str, Path],
    products: Mapping[str, Path],
    command: Sequence[str],
    *,
    tools: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    run: Run = run_command,
) -> dict[str, bytes]:
    """Perform one step: hold what it uses against the links before it, run its command, and sign what it made.

    Args:
        step: Its name, one of the policy that is none of a build's.
        policy: Steps and functionaries.
        keys: Public keys of the policy by name.
        signers: Private keys by name; all of the step's that are here sign.
        links: Links of the steps before, by file name.
        materials: Files or directories that the command uses, by artifact name: ``input/...`` from outside, else made by a step before.
        products: Files or directories that it makes, by artifact name: ``work/...`` or ``images/<hardware id>/<version>/image``.
        command: What to run.
        tools: Versions by name, for the record.
        timeout_s: Longest time of the command; None for no limit.
        run: Runs it.

    Returns:
        The new links by file name.

    Raises:
        ConfigError: The policy's steps are not those of a release.
        SupplyChainError: Another command than the policy says; something is missing, is not what a step before made, or is no plain file;
            the command failed.
        KeyMaterialError: The signer can't sign.
    """
    order, mine = _check_request(step, policy, keys, signers, links, products, command)
    used = _hash_all(step, materials, (INPUT, WORK, IMAGES))
    earlier = read_front(policy, keys, links, order[: order.index(step)])
    require_made({name: digest for name, digest in used.items() if not name.startswith(f"{INPUT}/")}, earlier)
    code = run(command, timeout_s)
    if code:
        raise SupplyChainError(
            f"step {step!r}: command {command[0]!r} ended with exit code {code}, expected 0; no link was signed",
            hint="correct what failed and perform the step again",
        )
    made = _hash_all(step, products, (WORK, IMAGES))
    if not made:
        raise SupplyChainError(f"step {step!r}: made nothing, expected at least one product")
    return {
        link_name(step, keys[name].keyid): record_link(step, used, made, signers[name], command=command, tools=tools)
        for name in mine
    }


def _check_request(
    step: str,
    policy: KeyPolicy,
    keys: Mapping[str, Key],
    signers: Mapping[str, Signer],
    links: Mapping[str, bytes],
    products: Iterable[str],
    command: Sequence[str],
) -> tuple[Sequence[str], list[str]]:
    """Check a request against the policy alone; return the order of all steps and the keys that will sign."""
    order = check_steps(policy)
    if step in STEPS or step not in order:
        own = [name for name in order if name not in STEPS]
        raise SupplyChainError(
            f"step {step!r}: found no such step of the policy's own, expected {' or '.join(own) or 'it in the policy'}",
            hint="packager build performs its own steps" if step in STEPS else "add [steps." + step + "] to the policy",
        )
    wanted = policy.commands.get(step, ())
    if not command or (wanted and tuple(command) != wanted):
        raise SupplyChainError(
            f"step {step!r}: found command {' '.join(command)!r}, expected {' '.join(wanted) or 'one'!r}"
        )
    mine = [name for name in policy.steps[step].keys if name in signers]
    if not mine:
        raise SupplyChainError(
            f"step {step!r}: found none of its keys, expected one of {', '.join(policy.steps[step].keys)}"
        )
    for name in mine:
        if link_name(step, keys[name].keyid) in links:
            raise SupplyChainError(
                f"step {step!r}: found its link {link_name(step, keys[name].keyid)}, expected none",
                hint="remove the link to perform the step again, and those of the steps after it",
            )
    hardware = policy.step_hardware.get(step, ())
    for name in products:
        if hardware and name.startswith(f"{IMAGES}/") and name.split("/")[1] not in hardware:
            raise SupplyChainError(
                f"step {step!r}: makes {name}, expected images of {', '.join(hardware)} alone",
                hint="the policy names the hardware of the step",
            )
    return order, mine


def read_links(directory: Path | None) -> dict[str, bytes]:
    """Read the links of a directory by file name; none without a directory or if there is none yet.

    Raises:
        SupplyChainError: One can't be read or is longer than any link.
    """
    found = {}
    try:
        for path in sorted(directory.glob("*.link")) if directory is not None else ():
            with path.open("rb") as file:
                found[path.name] = file.read(MAX_ENVELOPE_BYTES + 1)
    except OSError as error:
        raise SupplyChainError(f"{directory}: {error}; expected links") from error
    return found


def read_front(
    policy: KeyPolicy, keys: Mapping[str, Key], links: Mapping[str, bytes], steps: Sequence[str]
) -> dict[str, VerifiedLink]:
    """Verify the links of front steps, in order; steps of which no link is there are left out.

    Raises:
        SupplyChainError: A link does not hold, or a step has some links, but fewer than its threshold.
    """
    found = {}
    for step in steps:
        role = policy.steps[step]
        who = Functionaries(tuple(keys[name] for name in role.keys), role.threshold, policy.commands.get(step, ()))
        if any(link_name(step, key.keyid) in links for key in who.keys):
            found[step], _ = verify_step(step, who, links)
    return found


def require_made(used: Mapping[str, Digest], front: Mapping[str, VerifiedLink]) -> dict[str, dict[str, Digest]]:
    """Require that everything was made by a front step, and is as the last one left it.

    Args:
        used: Digests of the files at hand, by artifact name.
        front: Verified links of front steps, in order.

    Returns:
        The same, by the step that made it last.

    Raises:
        SupplyChainError: Something was made by none, or was changed.
    """
    makers = last_makers({step: link.products for step, link in front.items()}, used)
    by_step: dict[str, dict[str, Digest]] = {}
    for name, digest in used.items():
        if name not in makers:
            raise SupplyChainError(
                f"{name}: is no product of {', '.join(front) or 'any step: no link is there'}",
                hint="perform the step that makes it first, or give its links with --links",
            )
        by_step.setdefault(makers[name], {})[name] = digest
    for step, artifacts in by_step.items():
        front[step].require(artifacts)
    return by_step


def _hash_all(step: str, places: Mapping[str, Path], kinds: Sequence[str]) -> dict[str, Digest]:
    """Hash files, and all files below directories, by artifact name."""
    found: dict[str, Digest] = {}
    for name, path in places.items():
        below = sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [path]
        for file in below:
            if file is not path and stat.S_ISDIR(file.lstat().st_mode):
                continue
            artifact = name if file is path else f"{name}/{file.relative_to(path).as_posix()}"
            if artifact in found:
                raise SupplyChainError(f"step {step!r}: found artifact {artifact!r} twice, expected once")
            found[artifact] = _hash(file)
            if artifact.split("/")[0] not in kinds:
                raise SupplyChainError(
                    f"step {step!r}: found artifact {artifact!r}, expected a name that begins with {'/, '.join(kinds)}/"
                )
    check_artifacts(f"step {step!r}", found)
    return found


def _hash(path: Path) -> Digest:
    """Hash a plain file; a link says nothing of what it will point to tomorrow."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise SupplyChainError(f"{path}: is no plain file, expected one")
        with path.open("rb") as file:
            return Digest(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise SupplyChainError(f"{path}: can't be read: {error.strerror}; expected a file") from error
