"""Who signs on this machine: the policy, the public keys, and the private ones at hand."""

from collections.abc import Mapping
from dataclasses import dataclass

from securesystemslib.signer import Signer
from tuf.api.metadata import Key

from packager.model.policy import KeyPolicy


@dataclass(frozen=True, slots=True)
class Authority:
    """Who may sign, and what is needed to do it here.

    Attributes:
        policy: Roles, thresholds, life times.
        keys: Every public key of the policy, by name.
        signers: The private keys at hand, by name.
        root: The signed root, which is copied; empty where no metadata is signed.
    """

    policy: KeyPolicy
    keys: Mapping[str, Key]
    signers: Mapping[str, Signer]
    root: bytes
