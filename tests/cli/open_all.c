/* Opens every model whose path stands on a line of standard input, weights and tokenizer and all, and prints one line
 * for each: the error code, a tab, the text. One process for all, so that a thousand files take seconds. */
#include <stdio.h>
#include <string.h>

#include <cadre.h>

int main(void)
{
    char path[4096];
    const cadre_model_options options = {.threads = 1};
    while (fgets(path, sizeof path, stdin)) {
        path[strcspn(path, "\n")] = 0;
        cadre_model *m;
        cadre_error err = {0};
        cadre_err rc = cadre_model_open(&m, path, &options, &err);
        printf("%d\t%s\n", (int)rc, rc ? err.text : "");
        cadre_model_close(m);
    }
    return 0;
}
