/* Charts of training logs and experiments. Each returns 0 or an exit status after a message. */
#ifndef CADRE_CLI_PLOTS_H
#define CADRE_CLI_PLOTS_H

#include "cli.h"

/* From a run's log (JSON lines): loss.svg, heldout.svg, load.svg in `folder`, which is made if it is not there. */
int plot_run(const char *folder, const char *log, const char *name);
/* From the table of cadre_experiment, whose runs lie in `folder`: bits.svg, loss.svg, load-VARIANT.svg. */
int plot_experiment(const char *folder, const json_t *table);

#endif
