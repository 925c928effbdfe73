/* Files, with errors that name the file and what was expected. A short read is an error; a file written
 * through `atomic_file` appears whole under its name or not at all. */
#ifndef CADRE_BASE_FILEIO_H
#define CADRE_BASE_FILEIO_H

#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

/* Open for reading. *size receives the length in bytes. Directories and other non-regular files are refused. */
cadre_err file_open(const char *path, int *fd, uint64_t *size, cadre_error *err);
void file_close(int fd);

/* Of the file's identity, size and time of change: differs when it was replaced or written to. */
uint64_t file_stamp(int fd);

/* A hint: these bytes are read next, so the disk may begin. */
void file_will_read(int fd, uint64_t offset, uint64_t n);

/* Read exactly n bytes at offset, or fail naming path and offset. */
cadre_err file_read_at(int fd, const char *path, uint64_t offset, void *dst, size_t n, cadre_error *err);

/* A whole file in memory, read-only and shared: its pages are the page cache's. Should somebody cut the file short
 * meanwhile, touching what is gone ends the process (SIGBUS). Fails unless the file still has `size` bytes. */
struct file_map {
    const unsigned char *p;
    size_t n;
};
cadre_err file_map_open(struct file_map *out, int fd, const char *path, uint64_t size, cadre_error *err);
void file_map_close(struct file_map *m); /* no effect on an empty one */

/* The whole file as malloc'd bytes with one 0 byte after them; refuses files above max_size. Free with free(). */
cadre_err file_slurp(const char *path, size_t max_size, char **out, size_t *size, cadre_error *err);

/* Write to a temporary name in the same directory; commit syncs and renames, abort removes. */
struct atomic_file {
    FILE *f;
    char *path, *tmp;
};
cadre_err atomic_file_open(struct atomic_file *a, const char *path, cadre_error *err);
cadre_err atomic_file_write(struct atomic_file *a, const void *data, size_t n, cadre_error *err);
cadre_err atomic_file_commit(struct atomic_file *a, cadre_error *err); /* closes; on failure the old file stays */
void atomic_file_abort(struct atomic_file *a);                         /* no effect after commit */

#endif
