/* side - first include of every header under trusted/. A target that was not built as trusted stops here. */
#ifndef CMIF_SIDE_H
#define CMIF_SIDE_H
#ifndef CMIF_SIDE_TRUSTED
#error "this header is for the trusted side only: build the target with cmif_trusted_library()/cmif_trusted_program()"
#endif
#endif
