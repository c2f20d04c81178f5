"""Chooses the decoding kernel once: compiled where a compiler was found at installation, else the pure Python twin."""

import os
from importlib.util import find_spec
from typing import Final

from packager.vehicle import _pure, _pure_adaptive, _pure_predict, _pure_segments

apply_delta = _pure.apply_delta
label_source = _pure_predict.label_source
label_block = _pure_predict.label_block
add_units = _pure.add_units
add_adaptive = _pure_adaptive.add_adaptive
write_adaptive = _pure_adaptive.write_adaptive
read_segments = _pure_segments.read_segments
read_values = _pure_segments.read_values
cut_pieces = _pure_segments.cut_pieces
plan_reads = _pure_segments.plan_reads
scatter = _pure_segments.scatter
join_pieces = _pure_segments.join_pieces
address_map = _pure_segments.address_map
NAME = _pure.NAME

INTERFACE: Final = 3
"""Grows with every change of what the compiled functions take, return or do; `_native.c` states the one it was compiled for."""
PROBLEM = ""
"""Why the compiled kernel is not in use; empty if it is."""
IS_UNEXPECTED = False
"""Whether there is a compiled kernel that ought to be in use."""

if os.environ.get("PACKAGER_PURE"):
    PROBLEM = "PACKAGER_PURE is set"
else:
    try:
        from packager.vehicle import _native
    except ImportError as error:
        IS_UNEXPECTED = find_spec("packager.vehicle._native") is not None
        PROBLEM = f"the compiled one can't be loaded: {error}" if IS_UNEXPECTED else "no compiled one was built"
    else:
        found = getattr(_native, "INTERFACE", 0)
        if found != INTERFACE:
            IS_UNEXPECTED = True
            PROBLEM = f"the compiled one has interface {found}, expected {INTERFACE}; compile it again with make setup"
        else:
            apply_delta = _native.apply_delta
            label_source = _native.label_source
            label_block = _native.label_block
            add_units = _native.add_units
            add_adaptive = _native.add_adaptive
            write_adaptive = _native.write_adaptive
            read_segments = _native.read_segments
            read_values = _native.read_values
            cut_pieces = _native.cut_pieces
            plan_reads = _native.plan_reads
            scatter = _native.scatter
            join_pieces = _native.join_pieces
            address_map = _native.address_map
            NAME = _native.NAME

DESCRIPTION = f"{NAME}: {PROBLEM}" if PROBLEM else NAME
"""The kernel in use, and if it is not the compiled one, why."""
