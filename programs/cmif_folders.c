#include "cmif_folders.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static cmif_code find_folder(const char *what, const char *variable, const char *under_home, char path[static PATH_MAX],
                             cmif_err *err)
{
    const char *base = getenv(variable);
    const char *home = getenv("HOME");
    int         size = 0;

    if (base && base[0] == '/') {
        size = snprintf(path, PATH_MAX, "%s/cmif", base);
    } else if (home && home[0] == '/') {
        size = snprintf(path, PATH_MAX, "%s/%s/cmif", home, under_home);
    } else {
        return cmif_fail(err, CMIF_E_IO, "there is no %s folder: set HOME or %s", what, variable);
    }
    return size < PATH_MAX / 2 ? CMIF_OK : cmif_fail(err, CMIF_E_IO, "the %s folder's name is too long", what);
}

cmif_code cmif_cache_folder(char path[static PATH_MAX], cmif_err *err)
{
    return find_folder("cache", "XDG_CACHE_HOME", ".cache", path, err);
}

cmif_code cmif_data_folder(char path[static PATH_MAX], cmif_err *err)
{
    return find_folder("data", "XDG_DATA_HOME", ".local/share", path, err);
}

cmif_code cmif_cache_file(const char *name, bool make, char path[static PATH_MAX], cmif_err *err)
{
    cmif_code rc = cmif_cache_folder(path, err);
    if (rc == CMIF_OK) {
        size_t size = strlen(path);
        snprintf(path + size, PATH_MAX - size, "/%s", name); /* it fits: see the header */
    }
    if (rc == CMIF_OK && make) {
        char *slash = strrchr(path, '/');
        *slash      = '\0';
        rc          = cmif_make_folders(path, err);
        *slash      = '/';
    }
    return rc;
}

cmif_code cmif_cache_model(const char *model, char path[static PATH_MAX], cmif_err *err)
{
    char cache[PATH_MAX];

    if (access(model, F_OK) == 0) {
        if (!realpath(model, path)) {
            return cmif_fail(err, CMIF_E_IO, "cannot open '%s': %s", model, strerror(errno));
        }
        return CMIF_OK;
    }
    if (errno != ENOENT || strchr(model, '/') || strchr(model, '.')) {
        return cmif_fail(err, CMIF_E_IO, "cannot open '%s': %s", model, strerror(errno));
    }
    cmif_code rc = cmif_cache_folder(cache, err);
    if (rc != CMIF_OK) {
        return rc;
    }
    if (snprintf(path, PATH_MAX, "%s/models/%s.gguf", cache, model) >= PATH_MAX || access(path, R_OK) != 0) {
        return cmif_fail(err, CMIF_E_IO,
                         "there is no file '%s', and no model of that name: 'cmif pull %s' may bring it", model, model);
    }
    return CMIF_OK;
}

cmif_code cmif_make_folders(char *path, cmif_err *err)
{
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash) {
            *slash = '\0';
        }
        if (mkdir(path, 0700) < 0 && errno != EEXIST) {
            return cmif_fail(err, CMIF_E_IO, "cannot make the folder %s: %s", path, strerror(errno));
        }
        if (!slash) {
            return CMIF_OK;
        }
        *slash = '/';
    }
}
