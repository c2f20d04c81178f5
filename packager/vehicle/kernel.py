"""Chooses the decoding kernel once: compiled where a compiler was found at installation, else the pure Python twin."""

import os

from packager.vehicle import _pure

apply_delta = _pure.apply_delta
NAME = _pure.NAME

if not os.environ.get("PACKAGER_PURE"):
    try:
        from packager.vehicle import _native
    except ImportError:
        pass
    else:
        apply_delta = _native.apply_delta
        NAME = _native.NAME
