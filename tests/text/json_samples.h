/* A small tokenizer.json of each model, for tests and as first inputs of the fuzzer. */
#ifndef CADRE_TESTS_TEXT_JSON_SAMPLES_H
#define CADRE_TESTS_TEXT_JSON_SAMPLES_H

/* BPE over characters with byte fallback, as SentencePiece vocabularies are converted. */
#define SPM                                                                                                            \
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true},"                                      \
    "  {\"id\": 1, \"content\": \"<s>\", \"special\": true}],"                                                         \
    " \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"▁\"},"       \
    "  {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"▁\"}]}, \"pre_tokenizer\": null,"    \
    " \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\","        \
    "  \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"special_tokens\": {\"<s>\":"              \
    "  {\"id\": \"<s>\", \"ids\": [1], \"tokens\": [\"<s>\"]}}},"                                                      \
    " \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\":"          \
    "  \"▁\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\","       \
    "  \"content\": \" \", \"start\": 1, \"stop\": 0}]},"                                                              \
    " \"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"fuse_unk\": true, \"byte_fallback\": true,"           \
    "  \"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"<0xC3>\": 2, \"<0xA9>\": 3, \"▁\": 4, \"a\": 5, \"b\": 6, \"ab\": 7," \
    "   \"▁a\": 8, \"▁ab\": 9}, \"merges\": [[\"a\", \"b\"], [\"▁\", \"a\"], [\"▁\", \"ab\"]]}}"

/* Added tokens with every flag, a normalizer. */
#define ADDED                                                                                                          \
    "{\"added_tokens\": [{\"id\": 4, \"content\": \"<l>\", \"lstrip\": true, \"special\": true},"                      \
    " {\"id\": 5, \"content\": \"<r>\", \"rstrip\": true, \"special\": true},"                                         \
    " {\"id\": 6, \"content\": \"word\", \"single_word\": true, \"special\": true},"                                   \
    " {\"id\": 7, \"content\": \"AB\", \"normalized\": true, \"special\": false}],"                                    \
    " \"normalizer\": {\"type\": \"Lowercase\"}, \"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\":"   \
    " \" \"}, \"behavior\": \"Isolated\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \" \": 2,"   \
    " \"w\": 3}, \"merges\": []}}"

#define UNIGRAM                                                                                                        \
    "{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"▁\", \"prepend_scheme\": \"always\"},"         \
    " \"decoder\": {\"type\": \"Metaspace\", \"replacement\": \"▁\", \"prepend_scheme\": \"always\"},"               \
    " \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"▁\", -2], [\"a\", -1],"       \
    " [\"b\", -1.5], [\"ab\", -2.4], [\"▁a\", -3.5], [\"ba\", -5], [\"▁abab\", -20]]}}"

#define WORDPIECE                                                                                                      \
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"[UNK]\", \"special\": true}, {\"id\": 1, \"content\": "            \
    "\"[CLS]\","                                                                                                       \
    " \"special\": true}, {\"id\": 2, \"content\": \"[SEP]\", \"special\": true}],"                                    \
    " \"normalizer\": {\"type\": \"BertNormalizer\"}, \"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"},"            \
    " \"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"[SEP]\", 2], \"cls\": [\"[CLS]\", 1]},"           \
    " \"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\"}, \"model\": {\"type\": \"WordPiece\","                \
    " \"unk_token\": \"[UNK]\", \"max_input_chars_per_word\": 8, \"vocab\": {\"[UNK]\": 0, \"[CLS]\": 1, "             \
    "\"[SEP]\": 2,"                                                                                                    \
    " \"un\": 3, \"##aff\": 4, \"##able\": 5, \"##a\": 6, \"cafe\": 7, \".\": 8, \"中\": 9, \"a\": 10}}}"

#define BYTE_LEVEL                                                                                                     \
    "{\"normalizer\": {\"type\": \"NFC\"}, \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": ["           \
    " {\"type\": \"Digits\", \"individual_digits\": true}, {\"type\": \"Split\", \"pattern\": {\"Regex\": "            \
    "\"(?i:'s)|\\\\s+\"},"                                                                                             \
    " \"behavior\": \"MergedWithNext\", \"invert\": false}, {\"type\": \"ByteLevel\", \"add_prefix_space\": true}]},"  \
    " \"decoder\": {\"type\": \"ByteLevel\"}, \"post_processor\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": "   \
    "\"BPE\","                                                                                                         \
    " \"unk_token\": \"a\", \"vocab\": {\"a\": 0, \"b\": 1, \"Ġ\": 2, \"ab\": 3, \"Ã\": 4}, \"merges\": [\"a b\"]}}"

#endif
