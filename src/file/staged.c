#include "file/staged.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/checked.h"
#include "base/fileio.h"

enum { BUFFER = 1 << 20, MAX_PIECES = 1 << 22 };

struct piece {
    uint64_t bytes, hash;
};

struct staged_name {
    char *tmp, *final; /* final is NULL for a file in a folder */
};

struct staged {
    char *path, *part; /* the folder or file; its temporary name */
    bool folder;
    char *journal_path;
    FILE *journal;
    struct piece *known; /* from the journal of an earlier run */
    int64_t n_known, at, resumed;
    struct staged_name *name;
    int n_names, room;
    int fd; /* of the current file, -1: none */
    uint64_t offset, left;
    XXH3_state_t *hash;
    struct piece now;
    unsigned char *buffer;
};

static void forget_names(struct staged *s)
{
    for (int i = 0; i < s->n_names; i++) {
        free(s->name[i].tmp);
        free(s->name[i].final);
    }
    free(s->name);
}

void staged_stop(struct staged *s)
{
    if (!s)
        return;
    file_close(s->fd);
    if (s->journal)
        fclose(s->journal);
    forget_names(s);
    XXH3_freeState(s->hash);
    free(s->buffer);
    free(s->known);
    free(s->journal_path);
    free(s->part);
    free(s->path);
    free(s);
}

/* ---- the journal: "cadre-journal 1 STAMP", then "BYTES HASH" a piece; a line that was cut off ends it ---------- */

static cadre_err read_journal(struct staged *s, uint64_t stamp, bool *same, cadre_error *err)
{
    uint64_t found = 0;
    struct piece p;
    char end;
    *same = fscanf(s->journal, "cadre-journal 1 %" SCNx64 "%c", &found, &end) == 2 && end == '\n' && found == stamp;
    long good = ftell(s->journal);
    int64_t room = 0;
    while (*same && s->n_known < MAX_PIECES &&
           fscanf(s->journal, "%" SCNu64 " %" SCNx64 "%c", &p.bytes, &p.hash, &end) == 3 && end == '\n') {
        if (s->n_known == room) {
            room = 2 * room + 256;
            struct piece *wider = realloc(s->known, (size_t)room * sizeof *wider);
            CHECK(err, wider, CADRE_E_MEMORY, "%s: no memory for %lld pieces", s->journal_path, (long long)room);
            s->known = wider;
        }
        s->known[s->n_known++] = p;
        good = ftell(s->journal);
    }
    /* From here on lines are added behind the last whole one, or everything is new. */
    if (!*same)
        good = 0;
    CHECK(err,
          good >= 0 && fseek(s->journal, good, SEEK_SET) == 0 && ftruncate(fileno(s->journal), good) == 0 &&
              (*same || fprintf(s->journal, "cadre-journal 1 %016" PRIx64 "\n", stamp) > 0) && fflush(s->journal) == 0,
          CADRE_E_IO, "%s: cannot write: %s", s->journal_path, strerror(errno));
    return CADRE_OK;
}

static cadre_err open_journal(struct staged *s, cadre_error *err)
{
    int fd = open(s->journal_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    CHECK(err, fd >= 0, CADRE_E_IO, "%s: cannot create: %s", s->journal_path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return error_set(err, CADRE_E_IO, "%s: another process is writing %s", s->journal_path, s->path);
    }
    s->journal = fdopen(fd, "r+");
    CHECK(err, s->journal, CADRE_E_IO, "%s: cannot open: %s", s->journal_path, strerror(errno));
    return CADRE_OK;
}

cadre_err staged_open(struct staged **out, const char *path, bool folder, uint64_t stamp, cadre_error *err)
{
    cadre_err rc = CADRE_OK;
    bool same;
    *out = NULL;
    struct staged *s = calloc(1, sizeof *s);
    CHECK(err, s, CADRE_E_MEMORY, "%s: no memory to write it", path);
    s->fd = -1;
    s->folder = folder;
    s->path = strdup(path);
    s->hash = XXH3_createState();
    s->buffer = malloc(BUFFER);
    CHECK_OUT(err,
              s->path && s->hash && s->buffer && asprintf(&s->part, "%s.part", path) >= 0 &&
                  asprintf(&s->journal_path, "%s.journal", path) >= 0,
              CADRE_E_MEMORY, "%s: no memory to write it", path);
    struct stat st;
    CHECK_OUT(err, !folder || stat(path, &st) != 0, CADRE_E_ARG,
              "%s: expected a directory that does not exist yet; remove it or give another name", path);
    TRY_OUT(open_journal(s, err));
    TRY_OUT(read_journal(s, stamp, &same, err));
    CHECK_OUT(err, !folder || mkdir(s->part, 0777) == 0 || errno == EEXIST, CADRE_E_IO, "%s: cannot create: %s",
              s->part, strerror(errno));
    *out = s;
    s = NULL;
out:
    staged_stop(s);
    return rc;
}

/* ---- files and pieces ------------------------------------------------------------------------------------------ */

static cadre_err add_name(struct staged *s, const char *name, cadre_error *err)
{
    if (s->n_names == s->room) {
        int room = 2 * s->room + 16;
        struct staged_name *wider = realloc(s->name, (size_t)room * sizeof *wider);
        CHECK(err, wider, CADRE_E_MEMORY, "%s: no memory for its name", name);
        s->name = wider;
        s->room = room;
    }
    struct staged_name n = {0};
    int made = s->folder ? asprintf(&n.tmp, "%s/%s", s->part, name) : asprintf(&n.tmp, "%s.part", name);
    if (made >= 0 && !s->folder)
        n.final = strdup(name);
    if (made < 0 || (!s->folder && !n.final)) {
        free(made >= 0 ? n.tmp : NULL);
        free(n.final);
        return error_set(err, CADRE_E_MEMORY, "%s: no memory for its name", name);
    }
    s->name[s->n_names++] = n;
    return CADRE_OK;
}

static const char *current(const struct staged *s)
{
    return s->name[s->n_names - 1].tmp;
}

/* What is behind the last piece, from an earlier run, does not belong there. */
static cadre_err end_file(struct staged *s, cadre_error *err)
{
    if (s->fd < 0)
        return CADRE_OK;
    bool ok = ftruncate(s->fd, (off_t)s->offset) == 0 && fsync(s->fd) == 0;
    int saved = errno;
    ok = close(s->fd) == 0 && ok;
    s->fd = -1;
    CHECK(err, ok, CADRE_E_IO, "%s: cannot be written: %s", current(s), strerror(saved));
    return CADRE_OK;
}

cadre_err staged_file(struct staged *s, const char *name, cadre_error *err)
{
    TRY(end_file(s, err));
    TRY(add_name(s, name, err));
    s->fd = open(current(s), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    s->offset = 0;
    CHECK(err, s->fd >= 0, CADRE_E_IO, "%s: cannot create: %s", current(s), strerror(errno));
    return CADRE_OK;
}

/* Whether the next piece is in the file already, as the journal says. */
static bool is_there(struct staged *s, uint64_t bytes)
{
    if (s->at >= s->n_known || s->known[s->at].bytes != bytes)
        return false;
    XXH3_64bits_reset(s->hash);
    for (uint64_t done = 0, some; done < bytes; done += some) {
        some = bytes - done < BUFFER ? bytes - done : BUFFER;
        if (file_read_at(s->fd, current(s), s->offset + done, s->buffer, (size_t)some, NULL) != CADRE_OK)
            return false;
        XXH3_64bits_update(s->hash, s->buffer, (size_t)some);
    }
    return XXH3_64bits_digest(s->hash) == s->known[s->at].hash;
}

/* The journal after a piece that has to be written anew says nothing any more. */
static cadre_err cut_journal(struct staged *s, cadre_error *err)
{
    if (s->at >= s->n_known)
        return CADRE_OK;
    s->n_known = s->at;
    rewind(s->journal);
    int c;
    for (int64_t line = 0; line <= s->at; line++)
        while ((c = getc(s->journal)) != EOF && c != '\n')
            continue;
    long at = ftell(s->journal);
    CHECK(err, at >= 0 && fseek(s->journal, at, SEEK_SET) == 0 && ftruncate(fileno(s->journal), at) == 0, CADRE_E_IO,
          "%s: cannot write: %s", s->journal_path, strerror(errno));
    return CADRE_OK;
}

cadre_err staged_piece(struct staged *s, uint64_t bytes, bool *needed, cadre_error *err)
{
    *needed = !is_there(s, bytes);
    if (!*needed) {
        s->offset += bytes;
        s->at++;
        s->resumed++;
        return CADRE_OK;
    }
    TRY(cut_journal(s, err));
    s->left = bytes;
    s->now = (struct piece){.bytes = bytes};
    XXH3_64bits_reset(s->hash);
    return bytes ? CADRE_OK : staged_write(s, NULL, 0, err);
}

static cadre_err note_piece(struct staged *s, cadre_error *err)
{
    s->now.hash = XXH3_64bits_digest(s->hash);
    CHECK(err,
          fprintf(s->journal, "%" PRIu64 " %016" PRIx64 "\n", s->now.bytes, s->now.hash) > 0 && fflush(s->journal) == 0,
          CADRE_E_IO, "%s: cannot write: %s", s->journal_path, strerror(errno));
    s->at++;
    s->n_known = s->at; /* nothing known beyond */
    return CADRE_OK;
}

cadre_err staged_write(struct staged *s, const void *data, uint64_t n, cadre_error *err)
{
    CHECK(err, s->fd >= 0 && n <= s->left, CADRE_E_ARG, "%s: expected at most %llu more bytes of a piece, found %llu",
          s->path, (unsigned long long)s->left, (unsigned long long)n);
    for (uint64_t done = 0; done < n;) {
        ssize_t w = pwrite(s->fd, (const char *)data + done, (size_t)(n - done), (off_t)(s->offset + done));
        if (w < 0 && errno == EINTR)
            continue;
        CHECK(err, w > 0, CADRE_E_IO, "%s: writing at byte %llu failed: %s", current(s),
              (unsigned long long)(s->offset + done), strerror(errno));
        done += (uint64_t)w;
    }
    if (n > 0)
        XXH3_64bits_update(s->hash, data, (size_t)n);
    s->offset += n;
    s->left -= n;
    return s->left ? CADRE_OK : note_piece(s, err);
}

int64_t staged_resumed(const struct staged *s)
{
    return s->resumed;
}

/* ---- the end --------------------------------------------------------------------------------------------------- */

static void sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd); /* some file systems refuse: the files are whole either way */
        close(fd);
    }
}

/* Several files get their names from the last to the first: a split model is named by its first. */
static cadre_err rename_all(struct staged *s, cadre_error *err)
{
    if (s->folder) {
        sync_folder(s->part);
        CHECK(err, rename(s->part, s->path) == 0, CADRE_E_IO, "%s: cannot be named so: %s", s->path, strerror(errno));
        return CADRE_OK;
    }
    for (int i = s->n_names - 1; i >= 0; i--)
        CHECK(err, rename(s->name[i].tmp, s->name[i].final) == 0, CADRE_E_IO, "%s: cannot be named so: %s",
              s->name[i].final, strerror(errno));
    return CADRE_OK;
}

cadre_err staged_commit(struct staged *s, cadre_error *err)
{
    cadre_err rc = end_file(s, err);
    if (rc == CADRE_OK)
        rc = rename_all(s, err);
    if (rc == CADRE_OK) {
        unlink(s->journal_path);
        char *copy = strdup(s->path);
        if (copy)
            sync_folder(dirname(copy));
        free(copy);
    }
    staged_stop(s);
    return rc;
}
