/* template_main - `cmif-model template FILE.jinja`: what chatcut makes of a chat template, as JSON. */
#ifndef CMIF_MODEL_TEMPLATE_MAIN_H
#define CMIF_MODEL_TEMPLATE_MAIN_H

/* argv[0] is "template". Returns the exit code: 0 cut, 1 refused or failed, 2 wrong usage. */
int cmif_template_main(int argc, char **argv);

#endif
