"""What one ECU can do: the limits that a bundle must stay under, and the block grid that follows from them."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from packager.vehicle.table import Table

MIN_BLOCK_LOG2: Final = 12
MAX_BLOCK_LOG2: Final = 22
KIB: Final = 1024
MIB: Final = 1 << 20
DEFAULT_BLOCK_BYTES: Final = MIB


class Coder(IntEnum):
    """How a column or block is compressed; `ADAPTIVE` is for residuals of predicted blocks alone."""

    RAW = 0
    ZSTD = 1
    LZMA = 2
    ADAPTIVE = 3


@dataclass(frozen=True, slots=True)
class UpdateProfile:
    """The limits of an ECU.

    Attributes:
        ram_bytes: Memory that an update may use on the ECU or its gateway.
        flash_bytes: Size of one slot; no image may be larger.
        spare_slot: Whether the new image goes to a second slot; otherwise it is installed in place.
        coders: Decompressors that the ECU has; `Coder.RAW` is always there.
        block_bytes: Fixed block size, a power of two from 4 KiB to 4 MiB; None lets it follow from image size and memory.
        scratch_bytes: Flash that an in-place update may use besides the slot.
        predictors: Whether the ECU can decode predicted delta blocks (delta coding 2).
    """

    ram_bytes: int = 256 * MIB
    flash_bytes: int = 1 << 40
    spare_slot: bool = True
    coders: frozenset[Coder] = frozenset({Coder.RAW, Coder.ZSTD})
    block_bytes: int | None = None
    scratch_bytes: int = 0
    predictors: bool = True

    def __post_init__(self) -> None:
        if self.block_bytes is not None:
            check_block_bytes(self.block_bytes)


DEFAULT_PROFILE: Final = UpdateProfile()
"""For loose files: a gateway-class computer with zstd."""


def check_block_bytes(block_bytes: int) -> int:
    """Return log2 of a valid block size.

    Raises:
        ValueError: Not a power of two from 4 KiB to 4 MiB.
    """
    log2 = block_bytes.bit_length() - 1
    if not MIN_BLOCK_LOG2 <= log2 <= MAX_BLOCK_LOG2 or block_bytes != 1 << log2:
        raise ValueError(f"block size: found {block_bytes} bytes, expected a power of two from 4 KiB to 4 MiB")
    return log2


def grid_block_bytes(new_length_bytes: int, profile: UpdateProfile) -> int:
    """Choose the block size from the new image's size and the profile alone, so that every bundle to that image shares one grid.

    Images of up to 4 MiB get the smallest block that holds them whole, others 1 MiB; little memory lowers it (a block is held about
    four times while it is decoded), and so does little scratch of an in-place update, half of which is left for spilled bytes.
    """
    if profile.block_bytes is not None:
        return profile.block_bytes
    block_bytes = 1 << MAX_BLOCK_LOG2 if new_length_bytes <= 1 << MAX_BLOCK_LOG2 else DEFAULT_BLOCK_BYTES
    while block_bytes > 1 << MIN_BLOCK_LOG2 and block_bytes * 4 > profile.ram_bytes // 2:
        block_bytes >>= 1
    while block_bytes > 1 << MIN_BLOCK_LOG2 and block_bytes >> 1 >= new_length_bytes:
        block_bytes >>= 1
    while not profile.spare_slot and block_bytes > 1 << MIN_BLOCK_LOG2 and block_bytes * 2 > profile.scratch_bytes:
        block_bytes >>= 1
    return block_bytes


def read_profile(table: Table) -> UpdateProfile:
    """Read the ``[profile]`` of an ECU, in the release file as in the vehicle's configuration; problems go to the table.

    Keys: ``ram_kib``, ``flash_kib``, and optionally ``spare_slot``, ``coders`` (of "zstd", "lzma", "adaptive"), ``block_kib``,
    ``scratch_kib``, ``predictors`` (false for a reader without predicted blocks, such as the C core).
    """
    ram_kib = table.integer("ram_kib", least=16, most=1 << 30)
    flash_kib = table.integer("flash_kib", least=1, most=1 << 30)
    spare_slot = table.boolean("spare_slot", default=True)
    names = table.names("coders", default=("zstd",))
    block_kib = table.integer("block_kib", least=0, most=1 << 12, default=0)
    scratch_kib = table.integer("scratch_kib", least=0, most=1 << 30, default=0)
    predictors = table.boolean("predictors", default=True)
    table.end()
    coders = {Coder.RAW}
    for name in names:
        if name in ("zstd", "lzma", "adaptive"):
            coders.add(Coder[name.upper()])
        else:
            table.problem(f"coders: found {name!r}, expected zstd, lzma or adaptive")
    try:
        return UpdateProfile(
            ram_bytes=ram_kib * KIB,
            flash_bytes=flash_kib * KIB,
            spare_slot=spare_slot,
            coders=frozenset(coders),
            block_bytes=block_kib * KIB or None,
            scratch_bytes=scratch_kib * KIB,
            predictors=predictors,
        )
    except ValueError as error:
        table.problem(f"block_kib: {error}")
        return DEFAULT_PROFILE
