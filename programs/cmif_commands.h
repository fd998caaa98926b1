/* cmif_commands - the commands of cmif: each takes the arguments after its name and returns the exit code. */
#ifndef CMIF_PROGRAMS_CMIF_COMMANDS_H
#define CMIF_PROGRAMS_CMIF_COMMANDS_H

#include "cmif_client.h"

int cmif_run(int argc, char **argv);
int cmif_chat_command(int argc, char **argv);
int cmif_classify(int argc, char **argv);
int cmif_embed_command(int argc, char **argv);
int cmif_doctor(int argc, char **argv);
int cmif_channel_command(int argc, char **argv);
int cmif_lexicon_command(int argc, char **argv);
int cmif_budget_command(int argc, char **argv);
int cmif_audit_command(int argc, char **argv);
int cmif_verify_command(int argc, char **argv);
int cmif_collateral_command(int argc, char **argv);
int cmif_keyserver_command(int argc, char **argv);
int cmif_bench_verify(int argc, char **argv); /* of cmif-bench */
int cmif_leak_test(int argc, char **argv);    /* of cmif-eval, as is */
int cmif_eval(int argc, char **argv);
int cmif_sanitize(int argc, char **argv);
int cmif_policy_command(int argc, char **argv);

/* "names of people": what is of this class. */
const char *cmif_class_about(cmif_span_class class);
/* Write a file that is not there, whole or not at all. Errors: IO (it is there; the disk). */
CMIF_MUST_USE cmif_code cmif_write_new(const char *path, const void *bytes, size_t size, unsigned mode, cmif_err *err);

/* ---- what run and chat share: one answer ---- */
typedef struct cmif_answer_options {
    uint32_t      tokens;
    float         temperature, top_p, min_p;
    uint32_t      top_k;
    uint64_t      seed;
    const char   *system;
} cmif_answer_options;

#define CMIF_ANSWER_DEFAULTS {.tokens = 256, .top_p = 1}
#define CMIF_ANSWER_OPTIONS(o)                                                                                         \
    {'n', "tokens", "N", CMIF_OPTION_COUNT, &(o).tokens, 1, 1 << 24, "end after N tokens (default 256)"},             \
    {0, "system", "TEXT", CMIF_OPTION_TEXT, &(o).system, 0, 0, "system message, for models that know one"},          \
    {0, "temp", "T", CMIF_OPTION_REAL, &(o).temperature, 0, 100, "0 (default): the likeliest token; of the draws"},          \
    {0, "seed", "N", CMIF_OPTION_SEED, &(o).seed, 0, 0, NULL},                                                        \
    {0, "top-k", "N", CMIF_OPTION_COUNT, &(o).top_k, 0, 1 << 24, "the N likeliest; P of all; P x the likeliest"},    \
    {0, "top-p", "P", CMIF_OPTION_REAL, &(o).top_p, 1e-6, 1, NULL},                                                    \
    {0, "min-p", "P", CMIF_OPTION_REAL, &(o).min_p, 0, 0.999999, NULL}

/* An answer as it came, which may go back to the server, and as the person sees it, with originals put back. */
typedef struct cmif_both { cmif_stream came, shown; } cmif_both;
void cmif_both_wipe(cmif_both *both);

/* Generate after ids, streaming to both; the account grows, the receipt is written. Errors: as cmif_session_generate; IO (stdout closed). */
CMIF_MUST_USE cmif_code cmif_answer(cmif_client *client, cmif_ids *ids, const cmif_answer_options *how, cmif_both *both,
                                    cmif_account *account, cmif_err *err);
/* What left in place of the person's words, on their own terminal: what was replaced stands out. */
void cmif_show_left(const cmif_client *client, const cmif_released *text, const cmif_left *left);

#endif
