#include "base/fileio.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

cadre_err file_open(const char *path, int *fd, uint64_t *size, cadre_error *err)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(err, *fd >= 0, CADRE_E_IO, "%s: cannot open: %s", path, strerror(errno));
    struct stat st;
    if (fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(*fd);
        *fd = -1;
        return error_set(err, CADRE_E_IO, "%s: expected a regular file", path);
    }
    *size = (uint64_t)st.st_size;
    return CADRE_OK;
}

uint64_t file_stamp(int fd)
{
    struct stat st;
    uint64_t h = 0;
    if (fstat(fd, &st) != 0)
        return 0;
    const uint64_t parts[] = {(uint64_t)st.st_dev, (uint64_t)st.st_ino, (uint64_t)st.st_size,
                              (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) { /* SplitMix64's mixing of each */
        h = (h ^ parts[i]) + 0x9e3779b97f4a7c15u;
        h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
        h = (h ^ h >> 27) * 0x94d049bb133111ebu;
        h ^= h >> 31;
    }
    return h;
}

void file_close(int fd)
{
    if (fd >= 0)
        close(fd);
}

void file_will_read(int fd, uint64_t offset, uint64_t n)
{
    posix_fadvise(fd, (off_t)offset, (off_t)n, POSIX_FADV_WILLNEED);
}

cadre_err file_read_at(int fd, const char *path, uint64_t offset, void *dst, size_t n, cadre_error *err)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = pread(fd, (char *)dst + got, n - got, (off_t)(offset + got));
        if (r < 0 && errno == EINTR)
            continue;
        CHECK(err, r >= 0, CADRE_E_IO, "%s: reading at byte %llu failed: %s", path, (unsigned long long)(offset + got),
              strerror(errno));
        CHECK(err, r > 0, CADRE_E_IO, "%s: the file ends at byte %llu, expected %zu more bytes from %llu on", path,
              (unsigned long long)(offset + got), n - got, (unsigned long long)offset);
        got += (size_t)r;
    }
    return CADRE_OK;
}

cadre_err file_map_open(struct file_map *out, int fd, const char *path, uint64_t size, cadre_error *err)
{
    struct stat st;
    *out = (struct file_map){0};
    CHECK(err, fstat(fd, &st) == 0 && (uint64_t)st.st_size == size, CADRE_E_IO,
          "%s: expected %llu bytes as when it was opened; it was written to meanwhile", path, (unsigned long long)size);
    void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(err, p != MAP_FAILED, CADRE_E_MEMORY, "%s: cannot be mapped: %s", path, strerror(errno));
    madvise(p, (size_t)size, MADV_HUGEPAGE); /* a hint: large pieces of the page cache */
    *out = (struct file_map){p, (size_t)size};
    return CADRE_OK;
}

void file_map_close(struct file_map *m)
{
    if (m->p)
        munmap((void *)(uintptr_t)m->p, m->n);
    *m = (struct file_map){0};
}

cadre_err file_slurp(const char *path, size_t max_size, char **out, size_t *size, cadre_error *err)
{
    int fd;
    uint64_t len;
    *out = NULL;
    TRY(file_open(path, &fd, &len, err));
    cadre_err rc = CADRE_OK;
    char *p = NULL;
    CHECK_OUT(err, len <= max_size, CADRE_E_FORMAT, "%s: expected at most %zu bytes, found %llu", path, max_size,
              (unsigned long long)len);
    p = malloc((size_t)len + 1);
    CHECK_OUT(err, p, CADRE_E_MEMORY, "%s: no memory for its %llu bytes", path, (unsigned long long)len);
    TRY_OUT(file_read_at(fd, path, 0, p, (size_t)len, err));
    p[len] = 0;
    *out = p;
    *size = (size_t)len;
    p = NULL;
out:
    free(p);
    file_close(fd);
    return rc;
}

/* The temporary name is fixed, so that what a killed process left is written over; the lock keeps two writers apart. */
static FILE *open_locked(const char *tmp)
{
    int fd = open(tmp, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return NULL;
    FILE *f = flock(fd, LOCK_EX | LOCK_NB) == 0 && ftruncate(fd, 0) == 0 ? fdopen(fd, "w+b") : NULL;
    if (!f) {
        int saved = errno == EWOULDBLOCK ? EBUSY : errno;
        close(fd);
        errno = saved;
    }
    return f;
}

cadre_err atomic_file_open(struct atomic_file *a, const char *path, cadre_error *err)
{
    *a = (struct atomic_file){0};
    a->path = strdup(path);
    if (!a->path || asprintf(&a->tmp, "%s.tmp", path) < 0) {
        free(a->path);
        *a = (struct atomic_file){0};
        return error_set(err, CADRE_E_MEMORY, "%s: no memory for its name", path);
    }
    a->f = open_locked(a->tmp);
    if (!a->f) {
        cadre_err rc = error_set(err, CADRE_E_IO, "%s: cannot create: %s", a->tmp,
                                 errno == EBUSY ? "another process is writing it" : strerror(errno));
        free(a->path);
        free(a->tmp);
        *a = (struct atomic_file){0};
        return rc;
    }
    return CADRE_OK;
}

cadre_err atomic_file_write(struct atomic_file *a, const void *data, size_t n, cadre_error *err)
{
    CHECK(err, n == 0 || fwrite(data, 1, n, a->f) == n, CADRE_E_IO, "%s: writing %zu bytes failed: %s", a->tmp, n,
          strerror(errno));
    return CADRE_OK;
}

/* Make the rename itself durable. Some file systems refuse to sync a directory: the file is whole either way. */
static void sync_directory_of(const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        return;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(copy);
}

cadre_err atomic_file_commit(struct atomic_file *a, cadre_error *err)
{
    bool ok = fflush(a->f) == 0 && fsync(fileno(a->f)) == 0;
    int saved = errno;
    if (fclose(a->f) != 0 && ok) {
        ok = false;
        saved = errno;
    }
    a->f = NULL;
    if (ok && rename(a->tmp, a->path) != 0) {
        ok = false;
        saved = errno;
    }
    cadre_err rc = CADRE_OK;
    if (ok) {
        sync_directory_of(a->path);
    } else {
        rc = error_set(err, CADRE_E_IO, "%s: cannot be written: %s", a->path, strerror(saved));
        unlink(a->tmp);
    }
    free(a->path);
    free(a->tmp);
    *a = (struct atomic_file){0};
    return rc;
}

void atomic_file_abort(struct atomic_file *a)
{
    if (a->f) {
        fclose(a->f);
        unlink(a->tmp);
    }
    free(a->path);
    free(a->tmp);
    *a = (struct atomic_file){0};
}
