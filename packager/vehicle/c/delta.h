/* The decoding kernel of delta blocks: FORMAT.md section 7, the compiled twin of _pure.py.
 *
 * Freestanding C99: no allocation, no library beyond the memory functions that every C compiler asks for. The same file serves
 * CPython (_native.c) and gateways or ECUs without Python (core.c). All input may be hostile; nothing outside the given ranges is
 * read or written.
 */
#ifndef OTA_DELTA_H
#define OTA_DELTA_H

#include <stddef.h>
#include <stdint.h>

enum ota_delta_fault {
    OTA_DELTA_OK = 0,
    OTA_DELTA_VARINT,    /* a varint is cut short, longer than nine bytes or not in its shortest form */
    OTA_DELTA_RUN,       /* a run is empty, or leaves the source or the values */
    OTA_DELTA_PIECE,     /* a piece leaves the block, the source or the literals, or overlaps the one before */
    OTA_DELTA_LEFT_OVER  /* source, literals, controls or values are left over or short */
};

/* One block in the making. Fill in the inputs, set the rest to zero; or use ota_delta_begin. */
struct ota_delta {
    uint8_t *out;            /* the block */
    size_t out_bytes;
    const uint8_t *source;   /* old bytes of the pieces, one after the other; may be the tail of the block itself */
    size_t source_bytes;
    const uint8_t *literals; /* bytes of the gaps between the pieces */
    size_t literals_bytes;
    const uint8_t *controls; /* varint pairs: unchanged source bytes to skip, changed bytes */
    size_t controls_bytes;
    const uint8_t *values;   /* what is added to each changed byte */
    size_t values_bytes;
    size_t at, taken, literal, control, used; /* how far block, source, literals, controls and values are consumed */
    size_t skip, run;        /* what is left of the current control pair */
};

/* Set the five ranges; the rest becomes zero. Of them only source may overlap out, as its tail (or all of it): the block is made
 * from its start, and literals keep it from overtaking what is left of its source. */
void ota_delta_begin(struct ota_delta *delta, uint8_t *out, size_t out_bytes, const uint8_t *source, size_t source_bytes);

/* Make the gap before the piece and the piece. After a fault the block is undefined and `delta` must not be used further. */
enum ota_delta_fault ota_delta_piece(struct ota_delta *delta, uint64_t start, uint64_t piece_bytes);

/* Make the gap after the last piece, and require that every column was used up. */
enum ota_delta_fault ota_delta_end(struct ota_delta *delta);

/* Read an LEB128 varint in its shortest form, at most nine bytes. Returns its length, or 0 for a malformed one. */
size_t ota_varint(const uint8_t *data, size_t data_bytes, uint64_t *value);

#endif
