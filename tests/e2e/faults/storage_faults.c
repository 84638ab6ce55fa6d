// A preload library that makes storage calls on the data file of a replica fail on demand, for tests of real processes.
//
//   LD_PRELOAD=storage_faults.so COORD_FAULTS=FILE coordd ...
//
// FILE holds lines `CALL ERRNO-NAME`, such as `fdatasync EIO` or `pwrite ENOSPC`; as long as a line for a call is
// there, the call fails so on files named data.mdb or journal. `pwrite` covers pwritev, `fdatasync` covers fsync.
// `pwrite SHORT` writes half of what was asked for. `fdatasync SLOW` takes a second. The file is read again at each
// call: a test switches faults on and off by renaming one into place.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int is_data_file(int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof path - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  const char* name = strrchr(path, '/');
  return name != NULL && (strcmp(name, "/data.mdb") == 0 || strcmp(name, "/journal") == 0);
}

// What is to happen to `call` on this file: 0 nothing, an errno, or one of the two below.
enum { kShort = -1, kSlow = -2 };
static int fault(const char* call, int fd) {
  const char* file = getenv("COORD_FAULTS");
  if (file == NULL || access(file, R_OK) != 0 || !is_data_file(fd)) return 0;
  FILE* in = fopen(file, "re");
  if (in == NULL) return 0;
  char wanted[32], what[32];
  int result = 0;
  while (result == 0 && fscanf(in, "%31s %31s", wanted, what) == 2) {
    if (strcmp(wanted, call) != 0) continue;
    result = strcmp(what, "EIO") == 0      ? EIO
             : strcmp(what, "ENOSPC") == 0 ? ENOSPC
             : strcmp(what, "EDQUOT") == 0 ? EDQUOT
             : strcmp(what, "SHORT") == 0  ? kShort
             : strcmp(what, "SLOW") == 0   ? kSlow
                                           : 0;
  }
  fclose(in);
  return result;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int sync_fault(int fd, int (*real)(int)) {
  const int what = fault("fdatasync", fd);
  if (what == kSlow) {
    const struct timespec second = {1, 0};
    nanosleep(&second, NULL);
  } else if (what > 0) {
    errno = what;
    return -1;
  }
  return real(fd);
}

int fdatasync(int fd) { return sync_fault(fd, REAL(fdatasync)); }
int fsync(int fd) { return sync_fault(fd, REAL(fsync)); }

ssize_t pwrite(int fd, const void* data, size_t size, off_t at) {
  const int what = fault("pwrite", fd);
  if (what > 0) {
    errno = what;
    return -1;
  }
  return REAL(pwrite)(fd, data, what == kShort && size > 1 ? size / 2 : size, at);
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t at) { return pwrite(fd, data, size, at); }

ssize_t pwritev(int fd, const struct iovec* parts, int count, off_t at) {
  const int what = fault("pwrite", fd);
  if (what > 0) {
    errno = what;
    return -1;
  }
  if (what == kShort && count > 0 && parts[0].iov_len > 1) return pwrite(fd, parts[0].iov_base, parts[0].iov_len, at);
  return REAL(pwritev)(fd, parts, count, at);
}
ssize_t pwritev64(int fd, const struct iovec* parts, int count, off64_t at) { return pwritev(fd, parts, count, at); }
