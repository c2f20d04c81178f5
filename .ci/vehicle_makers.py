# ruff: noqa: INP001
"""A pytest plug-in for `.ci/vehicle-wheel-test`: `packager.vehicle` from the installed wheel, the makers of test bundles from the checkout.

`packager.diff.bsdiff`, which needs bsdiff4, is replaced by an aligner that finds unchanged beginnings and ends.
"""

import sys
from pathlib import Path
from types import ModuleType

PROJECT = Path(__file__).resolve().parent.parent
before = list(sys.path)
sys.path[:] = [entry for entry in before if Path(entry).resolve() != PROJECT]  # pytest has put the checkout there
import packager  # noqa: E402
import packager.vehicle  # noqa: E402
from packager.vehicle.core.segments import Segment  # noqa: E402

sys.path[:] = before


def alike(one: bytes, other: bytes) -> int:
    """Return how many bytes both begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def segments(old: bytes, new: bytes) -> list[Segment]:
    """Stand in for `packager.diff.bsdiff.segments`."""
    first = alike(old, new)
    last = min(alike(old[::-1], new[::-1]), min(len(old), len(new)) - first)
    found = [Segment(0, 0, first), Segment(len(new) - last, len(old) - last, last)]
    return [segment for segment in found if segment.length_bytes]


if Path(packager.vehicle.__file__).resolve() == PROJECT / "packager/vehicle/__init__.py":
    sys.exit(f"packager.vehicle comes from {packager.vehicle.__file__}, expected the installed wheel")
packager.__path__.append(str(PROJECT / "packager"))
stand_in = ModuleType("packager.diff.bsdiff")
stand_in.segments = segments
sys.modules[stand_in.__name__] = stand_in
