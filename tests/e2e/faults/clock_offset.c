// A preload library that shifts the wall clock of one process, for tests of replicas whose clocks are hours apart:
//
//   LD_PRELOAD=clock_offset.so COORD_CLOCK_HOURS=-3 coordd ...
//
// The monotonic clock is left alone.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec* out) {
  const int result = (int)syscall(SYS_clock_gettime, clock, out);
  const char* hours = getenv("COORD_CLOCK_HOURS");
  if (result == 0 && hours != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    out->tv_sec += atol(hours) * 3600;
  }
  return result;
}
