/* cadre: run, train and look into Mixture-of-Experts (MoE) language models.
 *
 * A complete program (cc hello.c $(pkg-config --cflags --libs cadre)):
 *
 *     #include <cadre.h>
 *     #include <stdio.h>
 *     static bool print(void *u, const char *text, size_t n) { fwrite(text, 1, n, (FILE *)u); return true; }
 *     int main(void) {
 *         cadre_model *model = NULL;
 *         cadre_error err;
 *         cadre_model_options mo = cadre_model_options_default();
 *         cadre_generate_options go = cadre_generate_options_default();
 *         go.on_text = print, go.user = stdout;
 *         if (cadre_model_open(&model, "model.gguf", &mo, &err) || cadre_generate(model, "Once", &go, NULL, &err))
 *             fprintf(stderr, "%s\n", err.text);
 *         cadre_model_close(model);
 *     }
 *
 * Rules that hold everywhere:
 *   - A function that can fail returns `cadre_err`: 0 is success. What went wrong, where, what was expected and
 *     found, and what to do, is put into the caller's `cadre_error` (which may be NULL). The library never prints
 *     and never exits. (One exception: working memory that turns out smaller than its own plan is a bug of the
 *     library, and aborts with a message rather than write past its end.)
 *   - Option structs are filled by their `_default` function and then changed. Pointers in them are borrowed for
 *     the length of the call.
 *   - What `_open` or `_new` gives belongs to the caller until `_close` or `_free`; these accept NULL. A pointer
 *     from a `_get` function is borrowed and lives as long as its owner.
 *   - Different handles may be used from different threads at once; one handle by one thread at a time.
 *   - For one choice of precision results are the same bytes for every number of threads and every batch.
 */
#ifndef CADRE_H
#define CADRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors -------------------------------------------------------------------------------------------- */

/* The one list of error codes: X(name, value, meaning). */
#define CADRE_ERRORS(X)                                                                                                \
    X(OK, 0, "success")                                                                                                \
    X(E_ARG, -1, "an argument or option is wrong")                                                                     \
    X(E_IO, -2, "a file cannot be read or written")                                                                    \
    X(E_FORMAT, -3, "a file or text is malformed")                                                                     \
    X(E_UNSUPPORTED, -4, "well-formed, but not offered here")                                                          \
    X(E_MEMORY, -5, "not enough memory, or over the budget")                                                           \
    X(E_CANCELLED, -6, "stopped by the caller")                                                                        \
    X(E_DIVERGED, -7, "training diverged; the last good checkpoint is kept")

typedef enum cadre_err {
#define X(name, value, meaning) CADRE_##name = value,
    CADRE_ERRORS(X)
#undef X
} cadre_err;

typedef struct cadre_error {
    cadre_err code;
    char text[1024];
} cadre_error;

#if defined(__GNUC__)
#define CADRE_API __attribute__((visibility("default")))
#else
#define CADRE_API
#endif

/* "success", "a file is malformed", … for a code. */
CADRE_API const char *cadre_err_text(cadre_err code);

/* ---- this library and this machine ---------------------------------------------------------------------- */

/* Grows when a struct or function below changes incompatibly. */
#define CADRE_ABI_VERSION 2

CADRE_API const char *cadre_version(void); /* "0.1.0" */
CADRE_API int cadre_abi_version(void);     /* that of the library, to compare with CADRE_ABI_VERSION */

typedef struct cadre_machine {
    char processor[64];
    char isa[16];      /* best kernel level: "generic", "avx2", "avx512", "amx" */
    char features[96]; /* "avx2 avx512 avx512_vnni avx512_bf16 …" */
    int cores;         /* physical cores that this process may use */
    uint64_t memory_bytes, memory_available_bytes;
    bool io_uring; /* the kernel lets this process use it */
} cadre_machine;

CADRE_API cadre_err cadre_machine_get(cadre_machine *out, cadre_error *err);

/* ---- models --------------------------------------------------------------------------------------------- */

typedef struct cadre_model cadre_model;

typedef struct cadre_model_options {
    int threads;     /* 0: physical cores */
    const char *isa; /* NULL: the best there is, or what the environment variable CADRE_ISA says */
    uint64_t memory; /* budget in bytes for weights, KV cache and scratch together; 0: none. A model that does not
                        fit is refused with the figures. */
    const char *mla; /* multi-head latent attention: "absorbed" (NULL: this), with the latent row of a position in the
                        KV cache, or "plain", with keys and values of every head; the same up to rounding. An error
                        for models without it. */
    bool tokenizer_only; /* read no weights: for cadre_tokenize and cadre_detokenize; the path may then be that of a
                            tokenizer.json */
} cadre_model_options;

CADRE_API cadre_model_options cadre_model_options_default(void);

/* Open a GGUF file for inference. Without a tokenizer in it a model still runs, on token ids. */
CADRE_API cadre_err cadre_model_open(cadre_model **out, const char *path, const cadre_model_options *options,
                                     cadre_error *err);
CADRE_API void cadre_model_close(cadre_model *model);

typedef struct cadre_model_info {
    char family[32], name[128];
    uint64_t parameters, active_parameters; /* active: read for one token */
    uint64_t bytes;                         /* of the file's tensors */
    int64_t layers, width, vocabulary, context;
    int64_t recurrent_layers;          /* of the layers: carry a state from token to token, no keys and values */
    int64_t heads, kv_heads, head_dim; /* of the layers that attend; the largest where they differ */
    int64_t experts, experts_used, expert_width, shared_width; /* 0 for dense models */
    char router[32];
    char tokenizer[64]; /* "gpt2/qwen2": kind and pre-tokenizer */
    bool packed;        /* written by cadre_pack */
} cadre_model_info;

/* Of a file, without reading its weights. */
CADRE_API cadre_err cadre_inspect(const char *path, cadre_model_info *out, cadre_error *err);
/* Every tensor of a file; dim[0] is the contiguous one. Stops when `visit` returns false. */
typedef struct cadre_tensor_info {
    const char *name, *type;
    int n_dims;
    int64_t dim[4];
    uint64_t bytes;
} cadre_tensor_info;
CADRE_API cadre_err cadre_inspect_tensors(const char *path, bool (*visit)(void *user, const cadre_tensor_info *t),
                                          void *user, cadre_error *err);

/* ---- text ----------------------------------------------------------------------------------------------- */

/* Text to token ids; with `special` the text of control tokens becomes their id. *ids is freed with cadre_free. */
CADRE_API cadre_err cadre_tokenize(const cadre_model *model, const char *text, size_t n, bool special, int32_t **ids,
                                   size_t *n_ids, cadre_error *err);
/* Token ids to bytes (0-terminated after n); freed with cadre_free. */
CADRE_API cadre_err cadre_detokenize(const cadre_model *model, const int32_t *ids, size_t n_ids, char **text, size_t *n,
                                     cadre_error *err);
CADRE_API void cadre_free(void *p);

/* ---- generation ----------------------------------------------------------------------------------------- */

typedef struct cadre_generate_options {
    const int32_t *ids; /* prompt as ids instead of text; NULL: none */
    size_t n_ids;
    int64_t max_tokens;  /* 128 */
    int64_t context;     /* positions of KV cache; 0: as many as prompt and max_tokens need */
    double temperature;  /* 0: greedy */
    int top_k;           /* 0: off */
    double top_p, min_p; /* 1 and 0: off */
    uint64_t seed;
    bool ignore_eos;
    bool hide_special; /* control tokens leave no text */
    const char *stop;  /* generation ends before this text would appear; NULL: none */
    const char *kv;    /* "f32" (default), "f16", "bf16", "q8_0" */
    /* Activations before products with block-quantized weights. "f32" (default): as they are. "auto": rounded to bf16
       and a grid of 2^-12 of their block of 32, for integer products: faster, above all on prompts, and far less lossy
       than eight bits. "int8": each block rounded to a 127th of its largest magnitude, as most engines do: faster still
       on processors that multiply bytes (AVX-512 VNNI), with about three times the rounding error of "auto". */
    const char *act;
    /* Text as it comes, whole UTF-8 characters; false stops. */
    bool (*on_text)(void *user, const char *text, size_t n);
    /* Asked between steps; true cancels. Safe to answer from a flag that a signal handler sets. */
    bool (*cancel)(void *user);
    /* Logits of prompt position `position`, [vocabulary], before sampling. */
    bool (*on_logits)(void *user, int64_t position, const float *logits, int64_t n);
    /* Write what was computed for every prompt position to safetensors files; NULL: none.
     *   logits:  tokens i32 [n], logits f32 [n, vocabulary], before sampling, streamed
     *   routing: router_topk i32 [layers, n, k] in order of falling score, -1 = none (all of a dense layer);
     *            router_weights f32 [layers, n, k], final weights */
    const char *logits_path, *routing_path;
    void *user;
    /* Speculative decoding: tokens are drafted, and the model checks several in one pass. Greedy text stays the same,
     * as does text that "ngram" drafts; what a model drafts at a temperature is other text of the same distribution.
     *   "none"   (NULL: this)
     *   "ngram"  what followed the last tokens earlier in prompt or output
     *   "model"  draft_model goes on; it has the same vocabulary, and nobody else uses it meanwhile */
    const char *draft;
    cadre_model *draft_model;
    int draft_max; /* the longest draft, 1 … 32; 0: 8. Each is as long as promises most tokens for the bytes that are
                      read for it, or empty */
    int draft_min; /* drafts at least so long wherever there is one, whatever they cost; 0: none */
} cadre_generate_options;

CADRE_API cadre_generate_options cadre_generate_options_default(void);

/* What speculative decoding did after the prompt. An expert counts once for each layer, and pass or token, that reads
 * it. */
typedef struct cadre_draft_stats {
    const char *drafter;    /* "none", "ngram", "model" */
    int64_t passes, tokens; /* of the model that checks, and what they gave: tokens / passes a pass */
    int64_t drafted, accepted;
    int64_t experts, experts_alone; /* read by the passes; by the same tokens one at a time */
    uint64_t expert_bytes, expert_bytes_alone;
} cadre_draft_stats;

typedef struct cadre_generation {
    int32_t *prompt_ids, *ids; /* freed by cadre_generation_free */
    size_t n_prompt, n_ids;
    size_t n_reused; /* prompt tokens that a chat had in its KV cache already */
    char *text;      /* 0-terminated */
    size_t text_bytes;
    double prompt_tokens_per_s, tokens_per_s;
    const char *stopped_by; /* "length", "eos", "stop", "context", "caller" (on_text), "cancel" */
    cadre_draft_stats draft;
} cadre_generation;

/* result may be NULL. A cancelled generation gives CADRE_E_CANCELLED and what was made so far. */
CADRE_API cadre_err cadre_generate(cadre_model *model, const char *prompt, const cadre_generate_options *options,
                                   cadre_generation *result, cadre_error *err);
CADRE_API void cadre_generation_free(cadre_generation *g);

/* ---- chat ----------------------------------------------------------------------------------------------- */

typedef struct cadre_chat_options {
    const char *jinja;          /* a template's text instead of the model's; NULL: the model's */
    const char *name;           /* one of the model's by name ("tool_use"), or a built-in format: plain, chatml, llama3,
                                   mistral, gemma. NULL: the model's "tool_use" if there are tools and it has one, else its
                                   only or default one */
    bool add_generation_prompt; /* true: end with what begins a reply */
    const char *bos, *eos;      /* text of bos_token and eos_token; NULL: the model's, or "" */
    const char *extra;          /* JSON object of more variables ({"enable_thinking": false}); NULL: none */
    int64_t now;                /* what strftime_now reads: seconds since 1970, as UTC; -1: the local clock */
    int64_t max_steps, max_bytes; /* limits of the template's work and of its text; 0: 50 million and 64 MiB */
} cadre_chat_options;

CADRE_API cadre_chat_options cadre_chat_options_default(void);

/* What the model is given for a conversation: its chat template (Jinja2, as transformers runs it) over `messages`, a
 * JSON array of {"role": …, "content": …}, and `tools`, a JSON array or NULL. *text (n bytes, 0-terminated) is freed
 * with cadre_free. A template that refuses the messages (raise_exception) gives CADRE_E_ARG, a model without a template
 * CADRE_E_UNSUPPORTED. model may be NULL when `jinja` is given. */
CADRE_API cadre_err cadre_chat_render(cadre_model *model, const char *messages, const char *tools,
                                      const cadre_chat_options *options, char **text, size_t *n, cadre_error *err);
/* Whether the model brings a chat template (of that name; NULL: any it would use without tools). */
CADRE_API bool cadre_chat_has_template(cadre_model *model, const char *name);

/* A conversation that keeps its KV cache: each reply computes only what differs from the tokens of the last one.
 * Replies are the same bytes as those of a fresh one. */
typedef struct cadre_chat cadre_chat;

/* Of `generate`, context (0: the model's, at most 4096), kv, act and what is drafted with count. The models must
 * outlive the chat. */
CADRE_API cadre_err cadre_chat_open(cadre_chat **out, cadre_model *model, const cadre_generate_options *generate,
                                    cadre_error *err);
/* The reply to a whole conversation, as cadre_chat_render takes it. Of `generate`, what cadre_chat_open took and ids
 * must not be given. result may be NULL; result->n_reused says how many tokens were kept. */
CADRE_API cadre_err cadre_chat_reply(cadre_chat *chat, const char *messages, const char *tools,
                                     const cadre_chat_options *options, const cadre_generate_options *generate,
                                     cadre_generation *result, cadre_error *err);
/* How many tokens a conversation takes, what begins the reply included. */
CADRE_API cadre_err cadre_chat_tokens(cadre_chat *chat, const char *messages, const char *tools,
                                      const cadre_chat_options *options, int64_t *n, cadre_error *err);
CADRE_API int64_t cadre_chat_context(const cadre_chat *chat); /* positions there is room for */
CADRE_API void cadre_chat_close(cadre_chat *chat);

/* ---- evaluation ----------------------------------------------------------------------------------------- */

typedef struct cadre_eval_options {
    int64_t context;                                           /* window in tokens; 0: the model's, at most 512 */
    int64_t max_tokens;                                        /* to predict; 0: all */
    const char *act;                                           /* as for cadre_generate; NULL: "f32" */
    bool (*progress)(void *user, int64_t done, int64_t total); /* tokens; false cancels */
    /* After each window of a model with experts: how often each was chosen in it, [n_layers, n_experts]. */
    void (*on_use)(void *user, const int64_t *count, int64_t n_layers, int64_t n_experts);
    void *user;
} cadre_eval_options;

CADRE_API cadre_eval_options cadre_eval_options_default(void);

typedef struct cadre_eval_result {
    double nats;           /* Σ -log p(token) */
    int64_t tokens, bytes; /* predicted tokens and the bytes they stand for */
    double bits_per_byte, perplexity;
    int64_t n_layers, n_experts; /* expert use: share of routed slots, [n_layers * n_experts], or NULL */
    double *expert_use;
} cadre_eval_result;

/* Every token of a text but the first is predicted once, from those before it in its window of `context` tokens. A
 * window begins with the last token that the one before it predicted; the last window may be shorter. */
CADRE_API cadre_err cadre_eval(cadre_model *model, const char *text, size_t n, const cadre_eval_options *options,
                               cadre_eval_result *out, cadre_error *err);
CADRE_API void cadre_eval_result_free(cadre_eval_result *r);

/* How much a window's group (the domain of its text) tells of the experts its tokens go to: mutual information in bits
 * for each layer and, in the last element, its mean over the layers with experts; groups weigh the same. p: share of
 * `permutations` relabellings of whole windows that reach as much, the observed one counted. count [n_windows,
 * n_layers, n_experts], group [n_windows] below n_groups; bits, p [n_layers + 1]. Deterministic. */
CADRE_API cadre_err cadre_associate(const int64_t *count, const int *group, int64_t n_windows, int n_groups,
                                    int64_t n_layers, int64_t n_experts, int permutations, double *bits, double *p,
                                    cadre_error *err);

typedef struct cadre_compare_result {
    double kl, kl_max;     /* KL(reference || model) in nats: mean and maximum over tokens */
    double top1_agreement; /* share of tokens whose likeliest successor is the same for both */
    int64_t tokens;
} cadre_compare_result;

/* A model against a reference with the same vocabulary, over the windows that cadre_eval takes. The reference has f32
 * activations, whatever the options say of the model's: what activations cost is the distance of a model to itself. */
CADRE_API cadre_err cadre_compare(cadre_model *model, cadre_model *reference, const char *text, size_t n,
                                  const cadre_eval_options *options, cadre_compare_result *out, cadre_error *err);

typedef struct cadre_choice_score {
    double log_probability; /* Σ log p of the choice's tokens after the prompt, in nats */
    int64_t tokens, bytes;
} cadre_choice_score;

/* Multiple choice: a score for each of n_choices texts as what follows the prompt. Prompt and choices are tokenized
 * each by itself, so a choice usually begins with its blank. */
CADRE_API cadre_err cadre_choose(cadre_model *model, const char *prompt, const char *const *choices, int n_choices,
                                 cadre_choice_score *scores, cadre_error *err);

/* ---- measurement ---------------------------------------------------------------------------------------- */

typedef struct cadre_spread {
    double median, min, max;
} cadre_spread;

typedef struct cadre_bench_options {
    int prompt, generate, repeats; /* 512, 64, 5 */
    const char *kv, *act;          /* as for cadre_generate */
    bool (*cancel)(void *user);
    void *user;
} cadre_bench_options;

CADRE_API cadre_bench_options cadre_bench_options_default(void);

typedef struct cadre_bench_result {
    cadre_spread prompt_tokens_per_s, tokens_per_s;
    double read_bandwidth;       /* bytes/s, measured in the same run: best of 1 and all threads */
    uint64_t read_bytes;         /* of a pass of that: 2 GiB, less where memory is short */
    char format[16];             /* of most of the weights that a token reads */
    double compute_roof;         /* FLOP/s of products in that format and with these activations, on operands in cache,
                                    all threads */
    double f32_roof;             /* the same of the f32 kernel alone */
    uint64_t bytes_per_token;    /* weights read for one token */
    uint64_t kv_bytes_per_token; /* keys, values and states, for the middle one of those generated */
    double bandwidth_share;      /* of read_bandwidth, by generation */
    double compute_share; /* of compute_roof, by prompts: 2 FLOP for each active parameter, those of the output matrix
                             for the last token only */
} cadre_bench_result;

CADRE_API cadre_err cadre_bench(cadre_model *model, const cadre_bench_options *options, cadre_bench_result *out,
                                cadre_error *err);

/* ---- files ---------------------------------------------------------------------------------------------- */

/* Formats by name, of those that can be written: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, mxfp4.
 */
typedef struct cadre_quantize_options {
    const char *type;           /* of the matrices; the embedding and the output matrix get at least q6_k, vectors and
                                   routers f32, and rows that are not whole blocks a format with smaller ones */
    const char *experts;        /* of the experts' matrices; NULL: as type */
    const char *const *tensors; /* n_tensors of "PATTERN=TYPE": a shell pattern over a tensor's name, with or without
                                   layer and ".weight"; the last that matches wins */
    int n_tensors;
    int threads; /* 0: physical cores */
    /* In numbers; false stops. */
    bool (*progress)(void *user, int64_t done, int64_t total);
    void (*on_warning)(void *user, const char *text);
    /* Each tensor of the model, after the file is written. */
    void (*on_tensor)(void *user, const char *name, const char *from, const char *to, uint64_t bytes);
    void *user;
} cadre_quantize_options;

typedef struct cadre_quantize_result {
    int64_t tensors;
    uint64_t bytes_in, bytes_out; /* of tensors */
} cadre_quantize_result;

/* Rewrite a model (a GGUF file, the first of a split one, a Hugging Face directory) as one GGUF file in other number
 * formats. The file appears whole or not at all. Memory: the largest tensor as it is in the file, and little else.
 * result may be NULL. */
CADRE_API cadre_err cadre_quantize(const char *in, const char *out, const cadre_quantize_options *options,
                                   cadre_quantize_result *result, cadre_error *err);

typedef struct cadre_pack_options {
    bool undo;   /* write the file that was packed again, byte for byte */
    int threads; /* 0: physical cores */
    /* In bytes; false stops. */
    bool (*progress)(void *user, int64_t done, int64_t total);
    void *user;
} cadre_pack_options;

typedef struct cadre_pack_result {
    int64_t tensors, packed; /* packed: of them in strips */
    uint64_t bytes;          /* of tensors, as rows */
} cadre_pack_result;

/* Rewrite a GGUF file with its matrices as kernels read them: it opens without being read, by mapping. Only cadre reads
 * such a file, and only while the layouts are those of its version; every function here takes it like the original. The
 * file appears whole or not at all. result may be NULL. */
CADRE_API cadre_err cadre_pack(const char *in, const char *out, const cadre_pack_options *options,
                               cadre_pack_result *result, cadre_error *err);

typedef struct cadre_convert_options {
    const char *type; /* of the matrices: "f32", "f16", "bf16", "q8_0"; NULL: as they are, bf16 where the file that is
                         written has no such type */
    uint64_t split;   /* at most so many bytes of tensors a file (a tensor is never cut); 0: one file */
    /* What of a directory's tokenizer the new file does not tell; with the `user` of cadre_convert. May be NULL. */
    void (*on_warning)(void *user, const char *text);
} cadre_convert_options;

CADRE_API cadre_convert_options cadre_convert_options_default(void);

typedef struct cadre_convert_result {
    int64_t files, tensors;
    uint64_t bytes; /* of tensors */
    bool resumed;   /* an interrupted run had done a part of it */
} cadre_convert_result;

/* A model as another kind of file: in is a GGUF file, the first one of a split model, or a Hugging Face directory. An
 * out that ends with ".gguf" becomes a GGUF file, another one a directory, which must not exist. With `split` the files
 * are OUT-00001-of-0000N.gguf …, or shards in the directory (else of 5 GiB). Beside out lie OUT.part and OUT.journal
 * until it is complete; after an interruption the same call goes on from there, to the same bytes. progress (may be
 * NULL) gets bytes; false stops with CADRE_E_CANCELLED. result may be NULL. */
CADRE_API cadre_err cadre_convert(const char *in, const char *out, const cadre_convert_options *options,
                                  bool (*progress)(void *user, int64_t done, int64_t total), void *user,
                                  cadre_convert_result *result, cadre_error *err);

/* ---- training ------------------------------------------------------------------------------------------- */

typedef struct cadre_train_progress {
    const char *event; /* "step", "eval" */
    int64_t step, tokens, tokens_total;
    double loss; /* nats per token: of this step; eval: of the held-out tokens */
    double lr, grad_norm, tokens_per_s;
    double load_max_mean;  /* tokens of the busiest expert / mean, worst layer, this step: 1 is even; light experts,
                              which  compute nothing, do not count */
    double load_entropy;   /* of that load in nats, mean over MoE layers, this step: at most ln(experts) */
    double router_entropy; /* of single tokens' routing scores in nats, mean over tokens (of the step's last
                              micro-batch) and MoE layers */
    uint64_t memory;       /* bytes planned: weights, gradients, optimizer, activations of a micro-batch */
    /* Tokens of each expert in this step, [n_layers, n_experts] (zeros in dense layers), given about a hundred times a
     * run, in steps that depend on the description alone; else NULL. */
    const int64_t *load;
    int64_t n_layers, n_experts;
    double bits_per_byte; /* eval: of all held-out text looked at */
    /* eval, counted from the decisions on that text: experts that compute for a token in a MoE layer (light ones do
     * not, turns of a chain and heads add up), NaN without; and FLOPs of a token's forward pass */
    double active_experts, active_flops;
    int n_domains; /* eval: held-out bits per byte of each domain, NaN if it has none */
    const char *const *domain_names;
    const double *domain_bits;
} cadre_train_progress;

typedef struct cadre_train_options {
    const char *config;      /* a training description; see models/ and README */
    const char *const *data; /* text files: FILE (its name names the domain) or DOMAIN=FILE; those of one domain follow
                                each other */
    int n_data;
    const char *init;   /* NULL, or a GGUF model of the same description: its vocabulary and weights to start from */
    const char *out;    /* the model to make; checkpoint, log and token files are kept beside it */
    const char *shared; /* NULL, or a folder for vocabulary and token files that several runs share */
    bool resume;
    int64_t tokens;                                                                /* 0: as the description says */
    int threads;                                                                   /* 0: physical cores */
    const char *isa;                                                               /* as for models */
    bool (*on_progress)(void *user, const cadre_train_progress *p);                /* false: checkpoint and stop */
    bool (*on_prepare)(void *user, const char *what, int64_t done, int64_t total); /* false: stop */
    void *user;
} cadre_train_options;

CADRE_API cadre_train_options cadre_train_options_default(void);

/* A report as one JSON object, as it stands in the log; NULL without memory. Freed with cadre_free. */
CADRE_API char *cadre_train_progress_json(const cadre_train_progress *p);

/* CADRE_E_CANCELLED when stopped by a callback: a checkpoint has been written. */
CADRE_API cadre_err cadre_train(const cadre_train_options *options, cadre_error *err);

typedef struct cadre_train_bench_options {
    const char *config; /* a training description; texts are not needed: tokens are random */
    int repeats;        /* steps that count, after one that does not; 1 to 100 (5) */
    int threads;        /* 0: physical cores */
    const char *isa;
    bool (*cancel)(void *user);
    void *user;
} cadre_train_bench_options;

CADRE_API cadre_train_bench_options cadre_train_bench_options_default(void);

typedef struct cadre_train_bench_result {
    cadre_spread tokens_per_s;
    double flops_per_token;     /* forward and backward: products and attention (docs/FORMATS.md) */
    double roof_f32, roof_bf16; /* FLOP/s of the product kernels on operands in cache, same run, all threads */
    bool bf16, bf16_native;     /* what the description asks for; whether bf16 products have instructions here */
    double utilisation;         /* tokens_per_s.median * flops_per_token / the roof of the precision in use */
    const char *kernels;        /* level: "generic", "avx2", "avx512", "amx" */
    uint64_t memory_planned;    /* weights, gradients, optimizer, activations */
    uint64_t memory_resident;   /* of the process after the steps */
} cadre_train_bench_result;

/* Speed of whole training steps beside this machine's roofs. */
CADRE_API cadre_err cadre_train_bench(const cadre_train_bench_options *options, cadre_train_bench_result *out,
                                      cadre_error *err);

/* ---- experiments: several variants of a training description, several seeds each ------------------------- */

typedef struct cadre_experiment_progress {
    const char *variant;
    int64_t seed;
    int run, n_runs;                  /* run counts from 1 */
    double done;                      /* share of all tokens of all runs */
    const cadre_train_progress *step; /* NULL: a finished run was found */
} cadre_experiment_progress;

typedef struct cadre_experiment_options {
    const char *config;      /* an experiment description, docs/FORMATS.md */
    const char *const *data; /* text files as for training */
    int n_data;
    const char *out; /* a folder: every run with its files; finished runs in it are kept, others go on */
    int threads;     /* 0: physical cores */
    const char *isa;
    bool (*on_progress)(void *user, const cadre_experiment_progress *p);           /* false: checkpoint and stop */
    bool (*on_prepare)(void *user, const char *what, int64_t done, int64_t total); /* false: stop */
    void *user;
} cadre_experiment_options;

/* Trains what is not there yet. *json: one object with every variant's size, cost and runs, and means and deviations
 * over seeds (fields: docs/FORMATS.md); freed with cadre_free. */
CADRE_API cadre_err cadre_experiment(const cadre_experiment_options *options, char **json, cadre_error *err);

#ifdef __cplusplus
}
#endif
#endif
