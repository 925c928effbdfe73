/* GPT-2's alphabet: a visible character for each of the 256 bytes, so that vocabularies of bytes can be written as
 * text. Bytes that are visible in Latin-1 stand for themselves; the other 68 are U+0100, U+0101, … in byte order. */
#ifndef CADRE_TEXT_BYTE_ALPHABET_H
#define CADRE_TEXT_BYTE_ALPHABET_H

#include <stddef.h>

/* UTF-8 of the byte's character into out (room for 2); returns its length. */
size_t byte_to_alphabet(unsigned char byte, char *out);

/* Text in the alphabet to the bytes it stands for; what is not in the alphabet is kept as it is. out has room for n,
 * the result is never longer. */
size_t alphabet_to_bytes(const char *text, size_t n, char *out);

#endif
