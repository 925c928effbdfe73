/* Long output that may be interrupted and goes on later: files written piece by piece under temporary names, with a
 * journal of the pieces that are complete. Run again with the same stamp (a hash of all that the bytes depend on), it
 * verifies what is there piece by piece and writes the rest; with another stamp it begins anew. Everything appears
 * under its own name at the end.
 *
 *     a file OUT:    OUT.part, OUT.journal             several: each NAME.part, OUT.journal
 *     a folder OUT:  OUT.part/NAME …, OUT.journal      OUT must not exist
 *
 * Calls: staged_open, then for each file staged_file and for each of its pieces staged_piece and, if it is needed,
 * staged_write of all its bytes; at last staged_commit, or staged_stop to leave things for the next time. */
#ifndef CADRE_FILE_STAGED_H
#define CADRE_FILE_STAGED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct staged;

cadre_err staged_open(struct staged **out, const char *path, bool folder, uint64_t stamp, cadre_error *err);
/* name: of the file, in a folder; else its whole path. */
cadre_err staged_file(struct staged *s, const char *name, cadre_error *err);
cadre_err staged_piece(struct staged *s, uint64_t bytes, bool *needed, cadre_error *err);
cadre_err staged_write(struct staged *s, const void *data, uint64_t n, cadre_error *err);
/* Pieces that an earlier run had completed. */
int64_t staged_resumed(const struct staged *s);
cadre_err staged_commit(struct staged *s, cadre_error *err); /* frees s, also on failure */
void staged_stop(struct staged *s);                          /* frees s; NULL is fine */

#endif
