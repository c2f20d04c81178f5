"""Leaves a signed link for every step of a build, and lets no step begin before the links that it builds on were verified."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from securesystemslib.signer import Signer

from packager.model.errors import KeyMaterialError, SupplyChainError
from packager.repo.authority import Authority
from packager.repo.contents import Chain
from packager.supplychain.chain import LAYOUT_NAME, VerifiedChain, verify_chain
from packager.supplychain.envelope import verify_previous
from packager.supplychain.front import read_front, require_made
from packager.supplychain.intoto import ReleaseId, link_name, make_layout, record_link
from packager.supplychain.steps import STEPS, check_steps
from packager.vehicle.identity import Digest


class Evidence:
    """The links of one build.

    Args:
        authority: Keys and policy; the functionaries' private keys are among its signers.
        tools: Versions of what the bytes depend on.
        front: Links of the company's own steps before the build, by file name.
    """

    def __init__(
        self, authority: Authority, tools: Mapping[str, str], front: Mapping[str, bytes] | None = None
    ) -> None:
        self._authority = authority
        self._tools = tools
        self._front = dict(front or {})
        self._links: dict[str, dict[str, bytes]] = {}

    def supplied(self, images: Mapping[str, Digest]) -> dict[str, dict[str, Digest]]:
        """Hold the new images against the links of the company's own steps.

        Args:
            images: Digests by artifact name.

        Returns:
            What to begin with, by the step that made it last; nothing if the policy has no steps before the build.

        Raises:
            SupplyChainError: A link does not hold or is missing, or an image is not what the last step made.
        """
        policy, keys = self._authority.policy, self._authority.keys
        steps = check_steps(policy)[: -len(STEPS)]
        if not steps:
            if self._front:
                raise SupplyChainError(
                    f"links: found {min(self._front)}, expected none: the policy has no steps before the build",
                    hint="add the step to the policy",
                )
            return {}
        front = read_front(policy, keys, self._front, steps)
        for step in steps:
            names = [link_name(step, keys[key].keyid) for key in policy.steps[step].keys]
            self._links[step] = {name: self._front[name] for name in names if name in self._front}
        return require_made(images, front)

    @contextmanager
    def step(self, name: str, used: Mapping[str, Mapping[str, Digest]]) -> Iterator[dict[str, Digest]]:
        """Perform a step: on entry what it uses is held against the links before, at the end its own links are signed.

        Args:
            name: The step.
            used: Digests by artifact name, by the step that made them.

        Yields:
            The products; the caller fills them in.

        Raises:
            SupplyChainError: A link before does not hold, or says something else.
            KeyMaterialError: Too few functionaries' keys are at hand.
        """
        for before, artifacts in used.items():
            keys = [self._authority.keys[key] for key in self._authority.policy.steps[before].keys]
            for link in self._links[before].values():
                verify_previous(link, before, keys, artifacts)
        products: dict[str, Digest] = {}
        yield products
        materials = {artifact: digest for artifacts in used.values() for artifact, digest in artifacts.items()}
        self._links[name] = self._record(name, materials, products)

    def finish(
        self, release: ReleaseId, olds: Sequence[Digest | None], issued_at: datetime
    ) -> tuple[Chain, VerifiedChain]:
        """Sign the layout and verify the whole chain.

        Args:
            release: What it is about.
            olds: What bundles start from; None for nothing.
            issued_at: Time of issue, by which expiry is judged, too.

        Returns:
            The files of the chain, and what they prove.

        Raises:
            SupplyChainError: The chain does not hold; nothing may be signed.
        """
        layout = make_layout(
            self._authority.policy, self._authority.keys, self._authority.signers, release, olds, issued_at
        )
        files = {LAYOUT_NAME: layout.data}
        for links in self._links.values():
            files |= links
        return Chain(files, layout.keys), verify_chain(files, layout.keys, issued_at)

    def signers(self, name: str) -> list[Signer]:
        """Return the functionaries of a step that are at hand.

        Raises:
            KeyMaterialError: Fewer than its threshold are.
        """
        return [self._authority.signers[key] for key in self._at_hand(name)]

    def _record(self, name: str, materials: Mapping[str, Digest], products: Mapping[str, Digest]) -> dict[str, bytes]:
        return {
            link_name(name, self._authority.keys[key].keyid): record_link(
                name, materials, products, self._authority.signers[key], tools=self._tools
            )
            for key in self._at_hand(name)
        }

    def _at_hand(self, name: str) -> list[str]:
        role = self._authority.policy.steps[name]
        mine = [key for key in role.keys if key in self._authority.signers]
        if len(mine) < role.threshold:
            raise KeyMaterialError(
                f"step {name!r}: found {len(mine)} of its keys to sign with, expected {role.threshold}",
                hint="packager keys create",
            )
        return mine
