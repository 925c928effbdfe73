#include "file/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fileio.h"
#include "file/json.h"
#include "file/names.h"

enum { MAX_NAME = 255 };
static const char blobs[] = "../../blobs/";

bool folder_is(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static cadre_err check_name(const char *dir, const char *name, cadre_error *err)
{
    size_t n = strlen(name);
    bool plain = n > 0 && n <= MAX_NAME && name[0] != '.' && !strchr(name, '/');
    for (size_t i = 0; plain && i < n; i++)
        plain = name[i] >= ' ' && name[i] != 127;
    CHECK(err, plain, CADRE_E_FORMAT,
          "%s: file '%s': expected a plain file name of this directory (no '/', no '..', no leading dot)", dir,
          shown(name, n).s);
    return CADRE_OK;
}

/* The hash of a link into the blobs of the Hub's cache; NULL for every other link. */
static const char *blob_of(const char *target)
{
    if (strncmp(target, blobs, sizeof blobs - 1) != 0)
        return NULL;
    const char *hash = target + sizeof blobs - 1;
    size_t n = strspn(hash, "0123456789abcdef");
    return hash[n] == 0 && (n == 40 || n == 64) ? hash : NULL; /* SHA-1 of git, SHA-256 of large files */
}

static cadre_err open_blob(int dir_fd, const char *dir, const char *name, int *fd, cadre_error *err)
{
    char target[128];
    ssize_t n = readlinkat(dir_fd, name, target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    const char *hash = blob_of(target);
    CHECK(err, hash, CADRE_E_FORMAT,
          "%s/%s: a symbolic link is refused unless it leads to %sHASH, as in the Hub's cache; put the file itself "
          "there",
          dir, name, blobs);
    int blobs_fd = openat(dir_fd, "../../blobs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    *fd = blobs_fd >= 0 ? openat(blobs_fd, hash, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    int saved = errno;
    file_close(blobs_fd);
    CHECK(err, *fd >= 0, CADRE_E_IO, "%s/%s: cannot open %s: %s", dir, name, target, strerror(saved));
    return CADRE_OK;
}

/* *fd is -1 and `found` false if there is no such file. */
static cadre_err open_entry(int dir_fd, const char *dir, const char *name, int *fd, bool *found, cadre_error *err)
{
    *fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (*fd >= 0)
        return CADRE_OK;
    if (errno == ELOOP)
        return open_blob(dir_fd, dir, name, fd, err);
    CHECK(err, errno == ENOENT && found, CADRE_E_IO, "%s/%s: cannot open: %s", dir, name, strerror(errno));
    *found = false;
    return CADRE_OK;
}

cadre_err folder_open(const char *dir, const char *name, int *fd, uint64_t *size, bool *found, cadre_error *err)
{
    struct stat st;
    *fd = -1;
    if (found)
        *found = true;
    TRY(check_name(dir, name, err));
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(err, dir_fd >= 0, CADRE_E_IO, "%s: cannot open: %s", dir, strerror(errno));
    cadre_err rc = open_entry(dir_fd, dir, name, fd, found, err);
    file_close(dir_fd);
    if (rc != CADRE_OK || *fd < 0)
        return rc;
    if (fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        file_close(*fd);
        *fd = -1;
        return error_set(err, CADRE_E_IO, "%s/%s: expected a regular file", dir, name);
    }
    *size = (uint64_t)st.st_size;
    return CADRE_OK;
}

cadre_err folder_slurp(const char *dir, const char *name, size_t max, char **out, size_t *n, bool *found,
                       cadre_error *err)
{
    int fd;
    uint64_t size = 0;
    char *text = NULL, *path = NULL;
    *out = NULL;
    TRY(folder_open(dir, name, &fd, &size, found, err));
    if (fd < 0)
        return CADRE_OK;
    cadre_err rc = CADRE_OK;
    CHECK_OUT(err, size <= max, CADRE_E_FORMAT, "%s/%s: expected at most %zu bytes, found %llu", dir, name, max,
              (unsigned long long)size);
    text = malloc((size_t)size + 1);
    CHECK_OUT(err, text && asprintf(&path, "%s/%s", dir, name) >= 0, CADRE_E_MEMORY,
              "%s/%s: no memory for its %llu bytes", dir, name, (unsigned long long)size);
    TRY_OUT(file_read_at(fd, path, 0, text, (size_t)size, err));
    text[size] = 0;
    *out = text;
    *n = (size_t)size;
    text = NULL;
out:
    free(text);
    free(path);
    file_close(fd);
    return rc;
}

cadre_err folder_json(const char *dir, const char *name, size_t max, size_t max_values, json_t **out, bool *found,
                      cadre_error *err)
{
    char *text, *path = NULL;
    size_t n = 0;
    *out = NULL;
    TRY(folder_slurp(dir, name, max, &text, &n, found, err));
    if (!text)
        return CADRE_OK;
    cadre_err rc = CADRE_OK;
    CHECK_OUT(err, asprintf(&path, "%s/%s", dir, name) >= 0, CADRE_E_MEMORY, "%s/%s: no memory", dir, name);
    rc = json_parse_object(out, path, 0, text, n, max_values, err);
out:
    free(text);
    free(path);
    return rc;
}
