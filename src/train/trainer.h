/* The training loop: batches → forward → losses → backward → optimizer, with checkpoints from which it goes on bit for
 * bit. Files of a run, beside the model OUT that it makes:
 *     OUT.vocab      the vocabulary, a GGUF without tensors
 *     OUT.tokens/    one memory-mapped token file a domain
 *     OUT.ckpt       the state: weights, optimizer, random numbers, data position, router biases
 *     OUT.log.jsonl  one JSON object a logged step */
#ifndef CADRE_TRAIN_TRAINER_H
#define CADRE_TRAIN_TRAINER_H

#include "base/cpu.h"
#include "train/config.h"

/* What `cadre_train` does, on a chosen kernel level and number of threads. */
cadre_err train_run(const cadre_train_options *o, int n_threads, enum isa isa, cadre_error *err);

#endif
