/* cmif-eval - what `cmif eval` and `cmif leak-test` run: measuring, and attacking what would leave. A program of its
 * own: nobody needs to trust it with more than the texts it is given. */
#include "cmif_commands.h"

#include <string.h>

int main(int argc, char **argv)
{
    cmif_err err = {0};

    cmif_secret_harden_process();
    cmif_signals_install();
    for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) { /* a usage error must already know */
        cmif_json = cmif_json || (!strcmp(argv[i], "--json") && !strcmp(argv[1], "leak-test"));
    }
    if (argc > 1 && !strcmp(argv[1], "leak-test")) {
        return cmif_leak_test(argc - 2, argv + 2);
    }
    if (argc > 1 && !strcmp(argv[1], "eval")) {
        return cmif_eval(argc - 2, argv + 2);
    }
    (void) cmif_fail(&err, CMIF_E_RANGE, "this is what 'cmif eval' and 'cmif leak-test' run: start them");
    return cmif_report_usage(&err);
}
