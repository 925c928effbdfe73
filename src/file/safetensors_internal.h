/* What the reader and the writer of safetensors share. */
#ifndef CADRE_FILE_SAFETENSORS_INTERNAL_H
#define CADRE_FILE_SAFETENSORS_INTERNAL_H

#define ST_METADATA "__metadata__"

enum {
    ST_LENGTH_BYTES = 8,
    ST_HEADER_ALIGNMENT = 8,
    ST_MAX_HEADER = 100000000 /* as other readers have it */
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "lengths and data are copied as they lie in the file");

#endif
