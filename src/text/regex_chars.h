/* Sets of characters as they stand inside of brackets, where engines differ in what the short names mean. */
#ifndef CADRE_TEXT_REGEX_CHARS_H
#define CADRE_TEXT_REGEX_CHARS_H

/* \s: White_Space. PCRE2's own \s has U+180E besides. */
#define REGEX_SPACE "\\p{Z}\\t-\\r\\x{85}"
/* \w */
#define REGEX_WORD "\\p{L}\\p{M}\\p{Nd}\\p{Pc}"
/* \d */
#define REGEX_DIGIT "\\p{Nd}"
/* Punctuation as BERT counts it: of ASCII everything that is neither letter, digit nor control. */
#define REGEX_PUNCTUATION "!-/:-@\\[-`{-~\\p{P}"
/* GPT-2's words; the last blank of a run stays with what follows. */
#define REGEX_GPT2                                                                                                     \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" REGEX_SPACE "\\p{L}\\p{N}]+|[" REGEX_SPACE                      \
    "]+(?![^" REGEX_SPACE "])|[" REGEX_SPACE "]+"

#endif
