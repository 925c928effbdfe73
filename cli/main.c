/* cadre VERB [MODEL] [options]: one file per verb, one row here. */
#include <stdio.h>
#include <string.h>

#include "cli.h"

static const struct verb *const verbs[] = {&verb_run,      &verb_chat,    &verb_train,    &verb_compare,
                                           &verb_eval,     &verb_inspect, &verb_tokenize, &verb_bench,
                                           &verb_quantize, &verb_convert, &verb_pack,     &verb_doctor};

const struct verb *cli_verb_at(int i)
{
    return i >= 0 && (size_t)i < sizeof verbs / sizeof *verbs ? verbs[i] : NULL;
}

static void help(FILE *f)
{
    fprintf(f, "usage: cadre VERB [MODEL] [options]\n\n"
               "MODEL is a GGUF file or a Hugging Face directory; without one it is the model\n"
               "that ships with cadre.\n\n");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        fprintf(f, "  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
    fprintf(f, "\n`cadre VERB --help` lists a verb's options; `cadre --version` the version.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        help(stdout);
        return cli_end_output(EXIT_DONE);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("cadre %s\n", cadre_version());
        return cli_end_output(EXIT_DONE);
    }
    cli_catch_interrupt();
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(argv[1], verbs[i]->name) == 0)
            return cli_end_output(verbs[i]->run(verbs[i], argc - 2, argv + 2));
    fprintf(stderr, "cadre: unknown verb '%s'\n", argv[1]);
    help(stderr);
    return EXIT_USAGE;
}
