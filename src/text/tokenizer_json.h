/* Hugging Face's tokenizer.json ("fast" tokenizers): read into tables and rules, told in GGUF's names, written from
 * tables. The file is hostile until it has been read. */
#ifndef CADRE_TEXT_TOKENIZER_JSON_H
#define CADRE_TEXT_TOKENIZER_JSON_H

#include "text/tokenizer.h"

struct tokenizer_json;

/* `json` is the text of tokenizer.json, `config` that of tokenizer_config.json beside it, or empty: which tokens are
 * BOS, EOS and so on, and whether they are added. Where n_vocab (rows of the embedding; 0: not known) is more than the
 * file has tokens, unused ones follow; fewer is an error. What is not supported is an error that names it. */
cadre_err tokenizer_json_read(struct tokenizer_json **out, struct text_span json, struct text_span config,
                              int64_t n_vocab, cadre_error *err);
void tokenizer_json_free(struct tokenizer_json *j);

/* For tokenizer_new: exactly what the file says. Borrowed. */
const struct tokenizer_tables *tokenizer_json_tables(const struct tokenizer_json *j);

/* For tokenizer_to_gguf: the same vocabulary told by names, `rules` NULL. What has no name is an error that says so.
 * The pre-tokenizer's name is found by comparing what its expressions do with what the known ones do. Normal forms
 * (NFC, …) have no name and are left out: texts that are not normalized get other ids, as in other readers of GGUF;
 * *lossy says so, or is NULL. Borrowed. */
cadre_err tokenizer_json_named(struct tokenizer_json *j, const struct tokenizer_tables **out, const char **lossy,
                               cadre_error *err);

/* A tokenizer.json of tables without rules whose model is gpt2 or llama. malloc'd. */
cadre_err tokenizer_json_write(char **json, size_t *n, const struct tokenizer_tables *tables, cadre_error *err);

#endif
