/* page - the page at "/": files of the folder page/, put into the program when it is built.
 *
 * Sees    nothing: they are the same for everybody. */
#ifndef CMIF_GATEWAY_PAGE_H
#define CMIF_GATEWAY_PAGE_H

#include "side.h"

#include <stddef.h>

typedef struct cmif_page {
    const char          *path, *type; /* "/page.js", "text/javascript; charset=utf-8" */
    const unsigned char *bytes;
    size_t               size;
} cmif_page;

extern const cmif_page cmif_pages[];
extern const size_t    cmif_page_count;

#endif
