"""The verification core that every car carries.

Two rings. The inner one verifies and applies bundles; it needs only the standard library, `zstandard` and, if there, the compiled kernel:

- `head`, `manifest`, `index`, `segments`, `predictors`, `instructions`, `spills`, `wire`: what a bundle says, read from authentic bytes;
- `applier`, `makers`, `blocks`, `codec`, `predicted`, `kernel`: blobs to verified blocks;
- `_native`, and its twins `_pure`, `_pure_adaptive`, `_pure_segments`, `_pure_predict` (`_pure_fields`, `_pure_stretch`, `_pure_tables`);
- `destination`, `inplace`, `journal`, `missing`, `storage`: where blocks go, through power cuts;
- `pull`, `batch`: bundles from files and streams, one or many;
- `identity`, `profile`, `table`, `targets`, `errors`, `version`: the words that all of them share.

The outer ring adds trust and transport, with `tuf`, `securesystemslib`, `cryptography` and `urllib3`:

- `trust`, `trust_policy`, `signatures`, `delegations`, `metadata_json`, `metadata_store`: TUF metadata;
- `summary`, `clearance`: what the release gate says of a supply chain, and that nothing is installed without;
- `fetch`, `connections`, `speed`: HTTP, and servers that are too slow;
- `home`, `clock`, `state`, `selection`, `inventory`, `preflight`, `preparation`, `repair`, `completion`, `activation`, `install`:
  the update of a whole vehicle;
- `cli`, `cli_output`, `cli_reports`: the program `packager-vehicle`;
- `plain`, `cli_plain`: the same program as a client of any TUF repository.

The names below are the interface for integrators, described in ``docs/vehicle-library.md``; the errors are in `packager.vehicle.errors`.
They are imported when they are first used: who uses names of the inner ring alone never imports the outer one. The byte format is specified
in ``FORMAT.md`` beside this file. Messages go to the logger ``packager.vehicle``, nowhere by default.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from packager.vehicle.applier import Applier, Progress
    from packager.vehicle.fetch import HttpFetcher
    from packager.vehicle.head import SignedHead, read_head
    from packager.vehicle.home import open_home
    from packager.vehicle.identity import Digest
    from packager.vehicle.install import update
    from packager.vehicle.inventory import status
    from packager.vehicle.profile import UpdateProfile
    from packager.vehicle.pull import apply_stream
    from packager.vehicle.storage import FileOnDisk

__all__ = [
    "Applier",
    "Digest",
    "FileOnDisk",
    "HttpFetcher",
    "Progress",
    "SignedHead",
    "UpdateProfile",
    "apply_stream",
    "open_home",
    "read_head",
    "status",
    "update",
]

_MODULES: Final = {
    "Applier": "applier",
    "Digest": "identity",
    "FileOnDisk": "storage",
    "HttpFetcher": "fetch",
    "Progress": "applier",
    "SignedHead": "head",
    "UpdateProfile": "profile",
    "apply_stream": "pull",
    "open_home": "home",
    "read_head": "head",
    "status": "inventory",
    "update": "install",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
