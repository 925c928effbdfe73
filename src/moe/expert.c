/* The table of expert kinds. */
#include "moe/expert.h"

#include <string.h>

static const struct expert_kind *const kinds[] = {&expert_swiglu};

const struct expert_kind *expert_kind_at(int i)
{
    return i >= 0 && (size_t)i < sizeof kinds / sizeof *kinds ? kinds[i] : NULL;
}

const struct expert_kind *expert_kind_find(const char *name)
{
    const struct expert_kind *k;
    for (int i = 0; (k = expert_kind_at(i)); i++)
        if (strcmp(k->name, name) == 0)
            return k;
    return NULL;
}
