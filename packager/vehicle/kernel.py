"""Chooses the decoding kernel once: compiled where a compiler was found at installation, else the pure Python twin."""

import os

from packager.vehicle import _pure, _pure_predict, _pure_segments

apply_delta = _pure.apply_delta
label_source = _pure_predict.label_source
label_block = _pure_predict.label_block
add_units = _pure.add_units
read_segments = _pure_segments.read_segments
cut_pieces = _pure_segments.cut_pieces
plan_reads = _pure_segments.plan_reads
scatter = _pure_segments.scatter
join_pieces = _pure_segments.join_pieces
address_map = _pure_segments.address_map
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
        read_segments = _native.read_segments
        cut_pieces = _native.cut_pieces
        plan_reads = _native.plan_reads
        scatter = _native.scatter
        join_pieces = _native.join_pieces
        address_map = _native.address_map
        NAME = _native.NAME
