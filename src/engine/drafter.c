#include "engine/drafter.h"

#include <string.h>

static const struct drafter *const drafters[] = {&drafter_ngram, &drafter_model};

const struct drafter *drafter_at(int i)
{
    return i >= 0 && (size_t)i < sizeof drafters / sizeof *drafters ? drafters[i] : NULL;
}

const struct drafter *drafter_find(const char *name)
{
    const struct drafter *d;
    for (int i = 0; (d = drafter_at(i)); i++)
        if (strcmp(d->name, name) == 0)
            return d;
    return NULL;
}
