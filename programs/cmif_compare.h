/* cmif_compare - `cmif channel show` and `cmif channel compare`: tables for people to look at.
 *
 * Sees    public tables. */
#ifndef CMIF_PROGRAMS_CMIF_COMPARE_H
#define CMIF_PROGRAMS_CMIF_COMPARE_H

int cmif_show_main(int argc, char **argv);
int cmif_compare_main(int argc, char **argv);

#endif
