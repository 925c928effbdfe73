/* Writes the tiny model of tests/engine/tiny.h: make_tiny FILE [f32|q8_0] [no-tokenizer]. */
#include "engine/tiny.h"

int main(int argc, char **argv)
{
    struct tiny_options o = {.type = DTYPE_F32, .seed = 3};
    cadre_error err = {0};
    for (int i = 2; i < argc; i++) {
        o.no_tokenizer |= strcmp(argv[i], "no-tokenizer") == 0;
        o.type = strcmp(argv[i], "q8_0") == 0 ? DTYPE_Q8_0 : o.type;
    }
    if (argc < 2 || tiny_write(argv[1], &o, &err)) {
        fprintf(stderr, "make_tiny: %s\n", argc < 2 ? "name a file" : err.text);
        return 1;
    }
    return 0;
}
