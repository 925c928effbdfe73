/* What the tests of this room share: a folder of its own for every test, tiny models in it. */
#ifndef CADRE_TESTS_ENGINE_TEST_H
#define CADRE_TESTS_ENGINE_TEST_H

#include "test.h"

#include <ftw.h>
#include <unistd.h>

#include "base/fileio.h"
#include "engine/tiny.h"

enum { FOLDER_PATH = 256 };

struct folder {
    char dir[64];
};

static inline int folder_open(void **state)
{
    struct folder *f = calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/cadre-engine-XXXXXX");
    *state = f;
    return mkdtemp(f->dir) ? 0 : -1;
}

static inline int folder_remove(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static inline int folder_close(void **state)
{
    struct folder *f = *state;
    nftw(f->dir, folder_remove, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

/* A path in the folder, in one of a few buffers that take turns. */
static inline const char *in(const struct folder *f, const char *name)
{
    static char path[8][FOLDER_PATH];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, FOLDER_PATH, "%s/%s", f->dir, name);
    return p;
}

static inline const char *tiny_file(struct folder *f, const char *name, struct tiny_options o)
{
    cadre_error e = {0};
    const char *path = in(f, name);
    assert_ok(tiny_write(path, &o, &e), e);
    return path;
}

static inline cadre_model *open_with(const char *path, int threads, uint64_t memory)
{
    cadre_error e = {0};
    cadre_model *m;
    cadre_model_options o = cadre_model_options_default();
    o.threads = threads;
    o.memory = memory;
    assert_ok(cadre_model_open(&m, path, &o, &e), e);
    return m;
}

static inline cadre_model *tiny_open(struct folder *f, struct tiny_options o)
{
    return open_with(tiny_file(f, "tiny.gguf", o), 2, 0);
}

/* Fails unless the call failed with this code and its text names `text`. */
static inline void assert_fails(cadre_err rc, cadre_err want, const cadre_error *e, const char *text)
{
    if (rc != want || !strstr(e->text, text))
        fail_msg("expected error %d naming '%s', found %d: %s", want, text, rc, e->text);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, folder_open, folder_close)

#endif
