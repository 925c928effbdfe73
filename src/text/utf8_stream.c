/* A stream of bytes cut only between characters: at most 3 bytes are held back, those of a character whose rest has
 * not come. What turns out to be no character is passed on byte by byte. */
#include "text/tokenizer.h"
#include "text/utf8.h"

/* Move the first k held bytes to out. */
static char *release(struct utf8_stream *s, int k, char *out)
{
    memcpy(out, s->held, (size_t)k);
    s->n -= k;
    memmove(s->held, s->held + k, (size_t)s->n);
    return out + k;
}

size_t utf8_stream_push(struct utf8_stream *s, const char *p, size_t n, char *out)
{
    char *end = out;
    for (size_t i = 0; i < n; i++) {
        s->held[s->n++] = (unsigned char)p[i];
        while (s->n > 0) {
            int len = utf8_char(s->held, (size_t)s->n);
            if (len < 0)
                break;
            end = release(s, len > 0 ? len : 1, end);
        }
    }
    return (size_t)(end - out);
}

size_t utf8_stream_flush(struct utf8_stream *s, char *out)
{
    return (size_t)(release(s, s->n, out) - out);
}
