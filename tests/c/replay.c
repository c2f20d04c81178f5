/* Gives files to a fuzz target where no libFuzzer is: replay FILE... */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int count, char **arguments)
{
    int index;

    for (index = 1; index < count; index++) {
        FILE *file = fopen(arguments[index], "rb");
        uint8_t *data = malloc(1 << 16);
        size_t size = file != NULL && data != NULL ? fread(data, 1, 1 << 16, file) : 0;

        if (size == 0) {
            return 2;
        }
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    return 0;
}
