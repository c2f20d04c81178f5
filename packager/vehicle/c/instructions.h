/* Made by `python -m packager.vehicle.instructions`; do not edit. See instructions.py for what the fields mean. */
#ifndef OTA_INSTRUCTIONS_H
#define OTA_INSTRUCTIONS_H

#include "predict.h"

static const struct ota_instruction ota_thumb2[] = {
    {0xD000F800u, 0xD000F000u, 0x2FFF07FFu, 4, 1, 1, 1, 4, 1, 1, 24, 5, 3,
     {{0x000003FFu, 11}, {0x00000400u, 13}, {0x07FF0000u, 16}, {0x08000000u, 26}, {0x20000000u, 25}}, {{0x000007FFu, 0}, {0x0FFF0000u, 27}, {0x20000000u, 26}}}, /* BL */
    {0xD000F800u, 0x9000F000u, 0x2FFF07FFu, 4, 1, 1, 1, 4, 1, 1, 24, 5, 3,
     {{0x000003FFu, 11}, {0x00000400u, 13}, {0x07FF0000u, 16}, {0x08000000u, 26}, {0x20000000u, 25}}, {{0x000007FFu, 0}, {0x0FFF0000u, 27}, {0x20000000u, 26}}}, /* B.W */
    {0xD000FA00u, 0x8000F000u, 0x2FFF043Fu, 4, 2, 0, 1, 4, 1, 1, 20, 5, 4,
     {{0x0000003Fu, 11}, {0x00000400u, 9}, {0x07FF0000u, 16}, {0x08000000u, 23}, {0x20000000u, 20}}, {{0x0000003Fu, 0}, {0x00000400u, 28}, {0x0FFF0000u, 23}, {0x20000000u, 22}}}, /* Bcc.W */
    {0xD000FB00u, 0x8000F200u, 0x2FFF043Fu, 4, 2, 0, 1, 4, 1, 1, 20, 5, 4,
     {{0x0000003Fu, 11}, {0x00000400u, 9}, {0x07FF0000u, 16}, {0x08000000u, 23}, {0x20000000u, 20}}, {{0x0000003Fu, 0}, {0x00000400u, 28}, {0x0FFF0000u, 23}, {0x20000000u, 22}}}, /* Bcc.W */
    {0xD000FB80u, 0x8000F300u, 0x2FFF043Fu, 4, 2, 0, 1, 4, 1, 1, 20, 5, 4,
     {{0x0000003Fu, 11}, {0x00000400u, 9}, {0x07FF0000u, 16}, {0x08000000u, 23}, {0x20000000u, 20}}, {{0x0000003Fu, 0}, {0x00000400u, 28}, {0x0FFF0000u, 23}, {0x20000000u, 22}}}, /* Bcc.W */
    {0x0000F800u, 0x00004800u, 0x000000FFu, 2, 64, 0, 2, 4, 4, 0, 8, 1, 1,
     {{0x000000FFu, 0}}, {{0x000000FFu, 0}}}, /* LDR literal */
    {0x0000F800u, 0x0000E000u, 0x000007FFu, 2, 8, 0, 1, 4, 1, 1, 11, 1, 1,
     {{0x000007FFu, 0}}, {{0x000007FFu, 0}}}, /* B.N */
};

static const struct ota_instruction ota_arm32[] = {
    {0x8E000000u, 0x0A000000u, 0x00FFFFFFu, 4, 1, 0, 2, 8, 1, 1, 24, 1, 1,
     {{0x00FFFFFFu, 0}}, {{0x00FFFFFFu, 0}}}, /* B, BL */
    {0xCE000000u, 0x8A000000u, 0x00FFFFFFu, 4, 1, 0, 2, 8, 1, 1, 24, 1, 1,
     {{0x00FFFFFFu, 0}}, {{0x00FFFFFFu, 0}}}, /* B, BL */
    {0xEE000000u, 0xCA000000u, 0x00FFFFFFu, 4, 1, 0, 2, 8, 1, 1, 24, 1, 1,
     {{0x00FFFFFFu, 0}}, {{0x00FFFFFFu, 0}}}, /* B, BL */
    {0xFE000000u, 0xEA000000u, 0x00FFFFFFu, 4, 1, 0, 2, 8, 1, 1, 24, 1, 1,
     {{0x00FFFFFFu, 0}}, {{0x00FFFFFFu, 0}}}, /* B, BL */
};

static const struct ota_instruction ota_aarch64[] = {
    {0x7C000000u, 0x14000000u, 0x03FFFFFFu, 4, 1, 0, 2, 0, 1, 1, 26, 1, 1,
     {{0x03FFFFFFu, 0}}, {{0x03FFFFFFu, 0}}}, /* B, BL */
    {0x9F000000u, 0x90000000u, 0x60FFFFE0u, 4, 4, 2, 12, 0, 1, 1, 21, 2, 2,
     {{0x00FFFFE0u, 29}, {0x60000000u, 3}}, {{0x00FFFFE0u, 27}, {0x60000000u, 22}}}, /* ADRP */
    {0xFF000010u, 0x54000000u, 0x00FFFFE0u, 4, 2, 0, 2, 0, 1, 1, 19, 1, 1,
     {{0x00FFFFE0u, 27}}, {{0x00FFFFE0u, 27}}}, /* B.cond */
    {0x7E000000u, 0x34000000u, 0x00FFFFE0u, 4, 2, 0, 2, 0, 1, 1, 19, 1, 1,
     {{0x00FFFFE0u, 27}}, {{0x00FFFFE0u, 27}}}, /* CBZ, CBNZ */
    {0x7E000000u, 0x36000000u, 0x0007FFE0u, 4, 2, 0, 2, 0, 1, 1, 14, 1, 1,
     {{0x0007FFE0u, 27}}, {{0x0007FFE0u, 27}}}, /* TBZ, TBNZ */
    {0x3B000000u, 0x18000000u, 0x00FFFFE0u, 4, 64, 0, 2, 0, 1, 1, 19, 1, 1,
     {{0x00FFFFE0u, 27}}, {{0x00FFFFE0u, 27}}}, /* LDR literal */
};

static const struct ota_instruction ota_riscv[] = {
    {0x0000007Fu, 0x0000006Fu, 0xFFFFF000u, 4, 1, 0, 1, 0, 1, 1, 20, 4, 1,
     {{0x000FF000u, 31}, {0x00100000u, 22}, {0x7FE00000u, 11}, {0x80000000u, 20}}, {{0xFFFFF000u, 20}}}, /* JAL */
    {0x0000007Fu, 0x00000017u, 0xFFFFF000u, 4, 4, 3, 12, 0, 1, 1, 20, 1, 1,
     {{0xFFFFF000u, 20}}, {{0xFFFFF000u, 20}}}, /* AUIPC */
    {0x0000007Fu, 0x00000063u, 0xFE000F80u, 4, 2, 0, 1, 0, 1, 1, 12, 4, 2,
     {{0x00000080u, 3}, {0x00000F00u, 24}, {0x7E000000u, 11}, {0x80000000u, 12}}, {{0x00000F80u, 25}, {0xFE000000u, 12}}}, /* branch */
    {0x0000E003u, 0x0000A001u, 0x00001FFCu, 2, 8, 0, 1, 0, 1, 1, 11, 8, 1,
     {{0x00000004u, 2}, {0x00000038u, 29}, {0x00000040u, 0}, {0x00000080u, 30}, {0x00000100u, 1}, {0x00000600u, 30}, {0x00000800u, 24}, {0x00001000u, 30}}, {{0x00001FFCu, 30}}}, /* C.J */
};

static const struct ota_prefix ota_x86_prefixes[] = {
    {0x00FE, 0x00E8, 1, 1}, /* CALL, JMP */
    {0xF0FF, 0x800F, 2, 2}, /* Jcc */
    {0xC7FF, 0x058D, 2, 4}, /* LEA RIP */
    {0xC7FD, 0x0589, 2, 4}, /* MOV RIP */
    {0xC7FD, 0x0539, 2, 4}, /* CMP RIP */
    {0xC7FF, 0x05FF, 2, 4}, /* CALL, JMP, PUSH RIP */
};

#endif
