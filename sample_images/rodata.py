"""Constant data of one module of generated firmware: strings, tables, and tables of pointers."""

import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from sample_images.streams import digest

_WORDS_TEXT: Final = """
engine torque lambda ignition injector boost rail pressure fuel oil coolant temperature sensor actuator valve throttle
gear shift clutch speed wheel brake slip yaw steering angle airbag squib crash buckle seat door window mirror light
wiper lock key immobiliser gateway diagnostic session routine request response timeout checksum flash erase program
verify bootloader application calibration variant coding fault memory snapshot counter limit plausibility signal bus
message cycle missing invalid range high low open short circuit ground battery voltage current power supply mode sleep
wakeup network state init ready error warning lamp display cluster audio navigation antenna modem position satellite
map route voice phone camera radar object lane distance cruise control target hybrid charger cell inverter motor phase
"""
_WORDS: Final = _WORDS_TEXT.split()


@dataclass(frozen=True, slots=True)
class Rodata:
    """Constant data before it has an address.

    Attributes:
        strings: All strings, each ended by a zero byte, padded to 4 bytes.
        string_offsets: Where each one starts.
        tables: Constant tables.
        pointer_choices: What the pointer table points to: an even number chooses a function, an odd one a string.
    """

    strings: bytes
    string_offsets: tuple[int, ...]
    tables: bytes
    pointer_choices: tuple[int, ...]

    def length_bytes(self, pointer_bytes: int) -> int:
        """Return the length of all of it."""
        return len(self.strings) + len(self.tables) + len(self.pointer_choices) * pointer_bytes


def plan_rodata(key: str, code_bytes: int, edits: tuple[int, ...]) -> Rodata:
    """Make the constant data that goes with about `code_bytes` of code.

    Args:
        key: Names the module's random stream.
        code_bytes: Planned length of the module's code, the same in every version.
        edits: Versions that changed a text or a table.
    """
    count = max(4, code_bytes // 320)
    draws = digest(3 * count, key, "strings")
    words = len(_WORDS)
    texts = [
        f"{_WORDS[a % words]}_{_WORDS[b % words]}" if c & 1 else f"{_WORDS[a % words]} {_WORDS[b % words]} {c}: %d"
        for a, b, c in zip(draws[::3], draws[1::3], draws[2::3], strict=True)
    ]
    table = digest(max(64, code_bytes // 16) & ~3, key, "tables")
    numbers = struct.unpack(f"<{len(table) // 4}I", table)
    values = [(number & 0x3FF) + 8 * index for index, number in enumerate(numbers)]
    pointers = list(struct.unpack(f"<{count}H", digest(2 * count, key, "pointers")))
    for edit in edits:
        draw = digest(4, key, "data edit", edit)
        texts[draw[0] % count] = f"{texts[draw[0] % count].partition(' v')[0]} v{edit}"
        values[draw[1] % len(values)] += 1 + draw[2]
        pointers[draw[3] % count] ^= 2
    encoded = [text.encode() + b"\0" for text in texts]
    offsets = (0, *accumulate(map(len, encoded[:-1])))
    strings = b"".join(encoded)
    strings += bytes(-len(strings) % 4)
    return Rodata(strings, offsets, struct.pack(f"<{len(values)}I", *values), tuple(pointers))
