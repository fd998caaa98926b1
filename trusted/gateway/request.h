/* request - the body of an OpenAI request, taken apart into what may leave as it is and texts that may not.
 *
 * What may leave is a template: braces, names of fields and words copied from the table of api.h, numbers written anew. Nothing of the request's own
 * bytes gets into it, so a text that nobody released has no way into a body. Each text is a hole, to be filled with a cmif_released.
 *
 * Sees    plaintext. */
#ifndef CMIF_GATEWAY_REQUEST_H
#define CMIF_GATEWAY_REQUEST_H

#include "gateway/api.h"

#include "dp/release.h"
#include "gguf/gguf.h"
#include "secret/secret.h"

#include <jansson.h>

enum { CMIF_REQUEST_TEXTS_MAX = 32768, CMIF_REQUEST_DEPTH_MAX = 48, CMIF_REQUEST_PARAM_SIZE = 96 };

typedef enum cmif_text_form {
    CMIF_FORM_PROSE = 0, /* a string */
    CMIF_FORM_NAME,      /* an identifier: letters, digits, _ and - only, at most 64 */
    CMIF_FORM_KEY,       /* a property's name, or a value that an answer must repeat as it is */
    CMIF_FORM_NUMBER     /* a number inside of arguments: what is released may be no number, and is a string then */
} cmif_text_form;

typedef struct cmif_request_text {
    cmif_str        text;     /* as it came; borrowed from the request */
    cmif_text_form  form;
    uint32_t        message;  /* index of its message; UINT32_MAX: of none */
    bool            content;  /* it is (a part of) that message's content */
    cmif_released  *released; /* owned by the request once set; NULL: not yet */
} cmif_request_text;

typedef enum cmif_speaker { CMIF_SPEAKER_SYSTEM = 0, CMIF_SPEAKER_USER, CMIF_SPEAKER_ASSISTANT, CMIF_SPEAKER_TOOL } cmif_speaker;

typedef struct cmif_request_message {
    cmif_speaker speaker;
    uint32_t     first, count; /* its texts */
} cmif_request_message;

typedef struct cmif_request { /* read what is here; the rest is request.c's */
    cmif_endpoint         endpoint;
    cmif_str              model;
    bool                  stream, include_usage, obfuscation, base64;
    bool                  show; /* the person wants to see what left (talk.h) */
    json_t               *left; /* that; NULL: nothing was asked for, or released, yet */
    bool                  has_tools, has_schema; /* or anything else that only an OpenAI upstream understands */
    uint32_t              n;
    cmif_request_text    *texts;
    size_t                text_count;
    cmif_request_message *messages;
    size_t                message_count;
    json_t               *tree, *kept; /* as it came; strings made of it */
    struct request_piece *pieces;
    size_t                piece_count;
    cmif_secret           literals;
} cmif_request;

typedef struct cmif_request_problem { char param[CMIF_REQUEST_PARAM_SIZE]; } cmif_request_problem; /* path of the field, "" for none */

/* Take a body apart. *out is the caller's (cmif_request_free). Errors: FORMAT (no JSON: where), RANGE (a field that is unknown, missing, of another type, out of
 * range or refused; problem->param names it), MEMORY. No message repeats a byte of the body, but names of known fields. */
CMIF_MUST_USE cmif_code cmif_request_parse(cmif_endpoint endpoint, const void *body, size_t size, cmif_request **out, cmif_request_problem *problem,
                                           cmif_err *err);
void                    cmif_request_free(cmif_request *request); /* NULL is welcome; wiped */

/* Whether bytes may stand in a hole of this form. */
bool cmif_form_fits(cmif_text_form form, const void *bytes, size_t size);
/* Append the body for an upstream that streams; model is its name there. Every text must have been released.
 * Errors: RANGE (a text was not, or does not fit its form), MEMORY. */
CMIF_MUST_USE cmif_code cmif_request_body(const cmif_request *request, const char *model, cmif_secret *out, cmif_err *err);

#endif
