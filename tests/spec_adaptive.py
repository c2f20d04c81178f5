"""Adaptive residuals for the second reader, written from FORMAT.md section 14 alone. It shares no code with the package."""

import math

LOWER = [int(4096 / (1 + math.exp((16 - number) / 2))) for number in range(16)]
SQUASHED = (*LOWER, 2047, *(4095 - value for value in reversed(LOWER)))
M = 1 << 32


def squash(x):
    if x > 2047:
        return 4095
    if x < -2047:
        return 1
    s, r = (x + 2048) >> 7, (x + 2048) & 127
    return (SQUASHED[s] * (128 - r) + SQUASHED[s + 1] * r + 64) >> 7


ALL_SQUASHED = [squash(x) for x in range(-2047, 2048)]
STRETCHED = [next((x - 2047 for x, value in enumerate(ALL_SQUASHED) if value >= p), 2047) for p in range(4096)]


def h(a, b):
    m = (a * 0x9E3779B1 % M) ^ (b * 0x85EBCA6B % M)
    m = (m ^ (m >> 15)) * 0x2C1B3C6D % M
    return m ^ (m >> 13)


class Residuals:
    """What is known while a block is made."""

    def __init__(self, stream, size):
        self.stream, self.taken = stream, 0
        self.low, self.high, self.code = 0, M - 1, 0
        for _ in range(4):
            self.code = self.code * 256 + self.next_byte()
        k = next((k for k in range(12, 17) if 4 << k >= size), 16)
        self.slots = [(0, 32768, 0)] * (1 << k)
        self.weights = [[24576] * 7 for _ in range(39)]
        self.c = self.f = self.d = self.e = self.s = 0

    def next_byte(self):
        self.taken += 1
        return self.stream[self.taken - 1] if self.taken <= len(self.stream) else 0

    def plain_bit(self, one):
        middle = self.low + ((self.high - self.low) >> 12) * one
        bit = int(self.code <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while self.low >> 24 == self.high >> 24:
            self.low = self.low * 256 % M
            self.high = self.high * 256 % M + 255
            self.code = self.code * 256 % M + self.next_byte()
        return bit

    def bit(self, contexts, node, set_number):
        weights = self.weights[set_number]
        places, before, inputs = [], [], []
        for context in contexts:
            p = (context ^ (node * 0x3D4D51CB % M)) * 0x9E3779B1 % M
            p ^= p >> 15
            slot = self.slots[p % len(self.slots)]
            if slot[0] != p >> 24:
                slot = (p >> 24, 32768, 0)
            places.append(p % len(self.slots))
            before.append(slot)
            inputs.append(STRETCHED[slot[1] >> 4] if slot[2] else 0)
        one = squash(sum(w * x for w, x in zip(weights, inputs, strict=False)) >> 16)
        bit = self.plain_bit(one)
        for i, (place, (check, chance, seen), x) in enumerate(zip(places, before, inputs, strict=True)):
            w = weights[i] + ((x * ((bit * 4096 - one) * 80) + 32768) >> 16)
            weights[i] = max(min(w, 1 << 20), -(1 << 20))
            chance += ((65535 * bit - chance) * (655360 // (10 * seen + 13))) >> 16
            self.slots[place] = (check, chance, min(seen + 1, 60))
        return bit

    def byte(self, contexts, q):
        digits = "1"
        for i in range(7, -1, -1):
            digits += str(self.bit(contexts, int(digits, 2), 15 + 8 * q + i))
        return int(digits[1:], 2)

    def unit(self, block, at):
        here = block[at : at + 2]
        m, b = int.from_bytes(here, "little"), int.from_bytes(block[at - 2 : at], "little") if at else 0
        o, t = at // 2 % 2, m >> 8
        d = 0 if not self.s else next((n for n, end in enumerate((1, 2, 4, 8, 16, 64)) if self.s < end), 6)
        contexts = [h(8 * t + d, 11), h(m, 12), h((b >> 8) * 8 + d, 13), h(self.f, 14 + 256 * o), h(b, 17 + 256 * t)]
        changes = self.bit(contexts, 1, 1 + 2 * d + o)
        self.f = (2 * self.f + changes) % 256
        if not changes:
            self.s += 1
            return
        self.s = 0
        low = self.byte(
            [
                h(0, 20),
                h(t, 21),
                h(m, 22),
                h(self.d & 255, 24),
                h(self.d, 25),
                h((self.f & 15) + 16 * o + 256 * (b >> 8), 28),
                h((m & 255) + 256 * o, 30),
            ],
            0,
        )
        q = 2 if low else 1
        high = self.byte(
            [
                h(q, 20),
                h(256 * q + t, 21),
                h(m + 65536 * low, 23),
                h(low + 256 * q, 24),
                h(self.d + 65536 * q, 25),
                h(low + 256 * t, 29),
                h(low + 256 * self.e, 31),
            ],
            q,
        )
        self.e, self.d = self.d, low + 256 * high
        block[at : at + 2] = ((m + self.d) % 65536).to_bytes(2, "little")[: len(here)]


def add_adaptive(block, pieces, stream, need):
    """Change the covered units of a block."""
    covered = sorted({at // 2 for first, length in pieces for at in range(first, first + length)})
    residuals = Residuals(stream, len(block))
    for start in range(0, len(covered), 32):
        chunk = covered[start : start + 32]
        bit = residuals.bit([h(residuals.c & 7, 1), h(residuals.c, 2), h(0, 3)], 1, 0)
        residuals.c = (2 * residuals.c + bit) % 256
        if bit:
            for number in chunk:
                residuals.unit(block, 2 * number)
        else:
            residuals.f = 0
            residuals.s += len(chunk)
    need(residuals.taken >= len(stream), "bytes of residuals left over")
