/* Training text as conversations: JSON lines {"messages": [{"role": …, "content": …}, …]}, made text by the model's own
 * chat template, so that training sees what `cadre chat` will send. Only what the assistant says is learnt.
 *
 *     template(m[0 … k), with the prompt for a reply)  ─┐
 *     template(m[0 … k])                               ─┴▶ what lies between is message k as the model has to write it
 *
 *     <|im_start|>user\nWhat is a cat?<|im_end|>\n<|im_start|>assistant\n | A small animal.<|im_end|> | \n<|endoftext|>
 *     └───────────────────────── read ──────────────────────────────────┘ └────── learnt ────────────┘ └──── read ────┘
 */
#ifndef CADRE_TRAIN_CONVERSATIONS_H
#define CADRE_TRAIN_CONVERSATIONS_H

#include "file/gguf.h"
#include "text/tokenizer.h"

/* Flags of an id in a marked token file. */
enum { ID_BEGINS = 1 << 30 };            /* the first of a conversation or document */
#define ID_READ_ONLY ((uint32_t)1 << 31) /* context: no target of the loss */
#define ID_BITS (((uint32_t)1 << 30) - 1)

struct conversations;

/* Whether a text file holds conversations: its name ends in .jsonl. */
bool conversations_is_file(const char *path);

/* The chat template is that of the vocabulary file. t is borrowed. */
cadre_err conversations_open(struct conversations **out, const struct gguf *vocabulary, const struct tokenizer *t,
                             cadre_error *err);
void conversations_close(struct conversations *c);

/* Whole lines to ids with flags; *ids is freed with free(). After an error *bad is the byte where its line begins. May
 * be called from many threads at once. */
cadre_err conversations_encode(const struct conversations *c, const char *text, size_t n, uint32_t **ids, size_t *n_ids,
                               size_t *bad, cadre_error *err);

#endif
