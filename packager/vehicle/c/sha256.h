/* SHA-256 of FIPS 180-4, for integrators without a library or hardware of their own. Freestanding C99, no allocation, no tables but the
 * 64 constants. It hashes public data, so that nothing here depends on constant time.
 */
#ifndef OTA_SHA256_H
#define OTA_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { OTA_SHA256_BYTES = 32, OTA_SHA256_BLOCK_BYTES = 64 };

/* A hash in the making. */
struct ota_sha256 {
    uint32_t state[8];
    uint64_t length_bytes;
    uint8_t pending[OTA_SHA256_BLOCK_BYTES];
};

/* Start a hash. */
void ota_sha256_begin(struct ota_sha256 *hash);

/* Hash `count` more bytes. */
void ota_sha256_update(struct ota_sha256 *hash, const uint8_t *data, size_t count);

/* End the hash and write its digest; `hash` must be begun anew before it is used again. */
void ota_sha256_end(struct ota_sha256 *hash, uint8_t digest[OTA_SHA256_BYTES]);

#endif
