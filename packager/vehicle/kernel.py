"""Chooses the decoding kernel once: compiled where a compiler was found at installation, else the pure Python twin."""

import os

from packager.vehicle import _pure, _pure_predict

apply_delta = _pure.apply_delta
label_source = _pure_predict.label_source
label_block = _pure_predict.label_block
add_units = _pure_predict.add_units
NAME = _pure.NAME

if not os.environ.get("PACKAGER_PURE"):
    try:
        from packager.vehicle import _native
    except ImportError:
        pass
    else:
        apply_delta = _native.apply_delta
        label_source = _native.label_source
        label_block = _native.label_block
        add_units = _native.add_units
        NAME = _native.NAME
