/* Domain × expert: what eval collects of each window, its test and its chart. */
#ifndef CADRE_CLI_EXPERT_MAP_H
#define CADRE_CLI_EXPERT_MAP_H

#include "cli.h"

struct expert_map {
    int64_t *count; /* [n, layers, experts] */
    int *group;     /* [n] index of the text */
    int64_t n, layers, experts;
    int text;    /* which one is being read */
    bool failed; /* no memory */
};

/* For cadre_eval_options.on_use. */
void expert_map_add(struct expert_map *m, const int64_t *count, int64_t layers, int64_t experts);
/* The test into `out` ("association") and, unless json, a line; the chart to path. 0 or an exit status. */
int expert_map_finish(const struct expert_map *m, const struct texts *files, const char *path, bool json, json_t *out);
void expert_map_free(struct expert_map *m);

#endif
