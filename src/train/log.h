/* The log of a run: one JSON object a line. A resumed run cuts off what was logged after its checkpoint, so that the
 * log reads as if the run had never stopped. */
#ifndef CADRE_TRAIN_LOG_H
#define CADRE_TRAIN_LOG_H

#include <stdio.h>

#include "train/trainer.h"

struct train_log {
    FILE *f;
    char *path;
    int64_t last_eval; /* step of the last evaluation that was kept; 0: none */
};

/* Keep the lines of steps 1 … step of an older log, drop the rest (all of it when step is 0), and append. */
cadre_err train_log_open(struct train_log *log, const char *path, int64_t step, cadre_error *err);
cadre_err train_log_add(struct train_log *log, const cadre_train_progress *p, cadre_error *err);
void train_log_close(struct train_log *log);

#endif
