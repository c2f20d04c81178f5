/* See sha256.h. Names and section numbers are those of FIPS 180-4. */
#include "sha256.h"

/* Freestanding compilers ask for these but have no <string.h>. */
void *memcpy(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);

enum { ROUNDS = 64, WORDS = 16, LENGTH_AT = OTA_SHA256_BLOCK_BYTES - 8 };

/* 4.2.2 */
static const uint32_t K[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* 5.3.3 */
static const uint32_t INITIAL[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static uint32_t rotate(uint32_t value, unsigned int bits)
{
    return value >> bits | value << (32 - bits);
}

/* 6.2.2, with the message schedule kept in a ring of 16 words. */
static void compress(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[WORDS], s[8], first, second;
    int t;

    memcpy(s, state, sizeof s);
    for (t = 0; t < ROUNDS; t++) {
        uint32_t word;

        if (t < WORDS) {
            word = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 | (uint32_t)block[4 * t + 2] << 8
                   | (uint32_t)block[4 * t + 3];
        } else {
            uint32_t before2 = w[(t - 2) % WORDS], before15 = w[(t - 15) % WORDS];

            word = w[t % WORDS] + w[(t - 7) % WORDS]
                   + (rotate(before2, 17) ^ rotate(before2, 19) ^ before2 >> 10)
                   + (rotate(before15, 7) ^ rotate(before15, 18) ^ before15 >> 3);
        }
        w[t % WORDS] = word;
        first = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + K[t] + word;
        second = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        s[7] = s[6];
        s[6] = s[5];
        s[5] = s[4];
        s[4] = s[3] + first;
        s[3] = s[2];
        s[2] = s[1];
        s[1] = s[0];
        s[0] = first + second;
    }
    for (t = 0; t < 8; t++) {
        state[t] += s[t];
    }
}

void ota_sha256_begin(struct ota_sha256 *hash)
{
    memcpy(hash->state, INITIAL, sizeof hash->state);
    hash->length_bytes = 0;
}

void ota_sha256_update(struct ota_sha256 *hash, const uint8_t *data, size_t count)
{
    size_t held = (size_t)(hash->length_bytes % OTA_SHA256_BLOCK_BYTES);

    hash->length_bytes += count;
    while (count > 0) {
        size_t part = OTA_SHA256_BLOCK_BYTES - held;

        if (held == 0 && count >= OTA_SHA256_BLOCK_BYTES) {
            compress(hash->state, data);
        } else {
            part = part < count ? part : count;
            memcpy(hash->pending + held, data, part);
            held += part;
            if (held < OTA_SHA256_BLOCK_BYTES) {
                return;
            }
            compress(hash->state, hash->pending);
            held = 0;
        }
        data += part;
        count -= part;
    }
}

void ota_sha256_end(struct ota_sha256 *hash, uint8_t digest[OTA_SHA256_BYTES])
{
    size_t held = (size_t)(hash->length_bytes % OTA_SHA256_BLOCK_BYTES);
    uint64_t length_bits = hash->length_bytes * 8;
    int index;

    hash->pending[held++] = 0x80; /* 5.1.1 */
    if (held > LENGTH_AT) {
        memset(hash->pending + held, 0, OTA_SHA256_BLOCK_BYTES - held);
        compress(hash->state, hash->pending);
        held = 0;
    }
    memset(hash->pending + held, 0, LENGTH_AT - held);
    for (index = 0; index < 8; index++) {
        hash->pending[LENGTH_AT + index] = (uint8_t)(length_bits >> (56 - 8 * index));
    }
    compress(hash->state, hash->pending);
    for (index = 0; index < OTA_SHA256_BYTES; index++) {
        digest[index] = (uint8_t)(hash->state[index / 4] >> (24 - 8 * (index % 4)));
    }
}
