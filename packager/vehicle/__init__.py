"""The verification core that every car carries.

Two rings. The inner one verifies and applies bundles; it needs only the standard library, `zstandard` and, if there, the compiled kernel:

- `core`: bundles to verified images, through power cuts;
- `kernel`: `_native`, or its twins `_pure`, `_pure_adaptive`, `_pure_segments` and `_pure_predict` (`_pure_fields`, `_pure_stretch`,
  `_pure_tables`), over the table of `instructions`;
- `identity`, `profile`, `storage`, `table`, `wire`, `errors`, `version`: the words that both rings share.

The outer ring adds trust and transport, with `tuf`, `securesystemslib`, `cryptography` and `urllib3`:

- `trust`: TUF metadata, and what the release gate says of a supply chain;
- `transport`: HTTP, and servers that are too slow;
- `installation`: the update of a whole vehicle;
- `cli`: the program `packager-vehicle`.

The names below are the interface for integrators, described in ``docs/vehicle-library.md``; the errors are in `packager.vehicle.errors`.
They are imported when they are first used: who uses names of the inner ring alone never imports the outer one. The byte format is specified
in ``FORMAT.md`` beside this file. Messages go to the logger ``packager.vehicle``, nowhere by default.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from packager.vehicle.core.applier import Applier, Progress
    from packager.vehicle.core.head import SignedHead, read_head
    from packager.vehicle.core.journal import Binding, Journal
    from packager.vehicle.core.pull import apply_stream
    from packager.vehicle.identity import Digest
    from packager.vehicle.installation.home import open_home
    from packager.vehicle.installation.install import update
    from packager.vehicle.installation.inventory import status
    from packager.vehicle.profile import UpdateProfile
    from packager.vehicle.storage import FileOnDisk
    from packager.vehicle.transport.fetch import HttpFetcher

__all__ = [
    "Applier",
    "Binding",
    "Digest",
    "FileOnDisk",
    "HttpFetcher",
    "Journal",
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
    "Applier": "core.applier",
    "Binding": "core.journal",
    "Digest": "identity",
    "FileOnDisk": "storage",
    "HttpFetcher": "transport.fetch",
    "Journal": "core.journal",
    "Progress": "core.applier",
    "SignedHead": "core.head",
    "UpdateProfile": "profile",
    "apply_stream": "core.pull",
    "open_home": "installation.home",
    "read_head": "core.head",
    "status": "installation.inventory",
    "update": "installation.install",
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
