/* Messages typed by a person, with line editing and a history, or read from a pipe.
 *
 * A message is one line; a line that ends in a backslash goes on with the next; """ begins a block of lines that ends
 * at the next """. On a terminal, lines that arrive at once (pasted) are one message. */
#ifndef CADRE_CLI_LINE_INPUT_H
#define CADRE_CLI_LINE_INPUT_H

#include <stdbool.h>
#include <stddef.h>

struct line_input;

enum input_result { INPUT_MESSAGE, INPUT_END, INPUT_INTERRUPTED, INPUT_FAILED };

/* interrupted: asked when a signal arrives while waiting; true ends the waiting. */
struct line_input *line_input_open(const char *prompt, bool (*interrupted)(void));
void line_input_close(struct line_input *in);
bool line_input_is_terminal(const struct line_input *in);
bool line_input_typed(const struct line_input *in); /* whether anything was typed before an interrupt */
/* The next message in *text (owned by `in` until the next call; n bytes, 0-terminated). */
enum input_result line_input_read(struct line_input *in, char **text, size_t *n);

#endif
