/* Any bytes as a tokenizer.json: it becomes a tokenizer that takes any text, or it is refused with a text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
    if (!ok)
        abort();
}

static void use(const struct tokenizer_tables *tables)
{
    static const char text[] =
        "Ab ab  <s>a<l> \r\n\n'S 1234 \xc3\xa9\xe4\xbd\xa0\xff\xed\xa0\x80 e\xcc\x81 word\xe2\x96\x81";
    struct tokenizer *t = NULL;
    cadre_error err = {0};
    cadre_err rc = tokenizer_new(&t, tables, &err);
    require((rc == 0) == (t != NULL) && (rc == 0 || err.text[0]));
    if (!t)
        return;
    for (unsigned flags = 0; flags < 4; flags++) {
        int32_t *ids = NULL;
        size_t n, n_back;
        char *back = NULL;
        rc = tokenizer_encode(t, text, sizeof text - 1, flags, &ids, &n, &err);
        require(rc == 0 || err.text[0]);
        for (size_t i = 0; rc == 0 && i < n; i++)
            require(ids[i] >= 0 && ids[i] < tokenizer_size(t));
        if (rc == 0)
            require(tokenizer_decode(t, ids, n, flags & 1, &back, &n_back, &err) == 0 && back[n_back] == 0);
        free(ids);
        free(back);
    }
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char config[] =
        "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"a\"}, \"add_bos_token\": true}";
    struct tokenizer_json *j = NULL;
    const struct tokenizer_tables *named;
    cadre_error err = {0};
    char *json = NULL;
    size_t n;
    struct text_span c = {config, size & 1 ? sizeof config - 1 : 0};
    cadre_err rc = tokenizer_json_read(&j, (struct text_span){(const char *)data, size}, c, 0, &err);
    require((rc == 0) == (j != NULL) && (rc == 0 || err.text[0]));
    if (!j)
        return 0;
    use(tokenizer_json_tables(j));
    if (tokenizer_json_named(j, &named, NULL, &err) == 0) {
        use(named);
        if (tokenizer_json_write(&json, &n, named, &err) == 0)
            require(strlen(json) == n);
        free(json);
    }
    tokenizer_json_free(j);
    return 0;
}
