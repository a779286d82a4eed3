// A disk that takes longer to sync: preloaded into the server, it waits KIJKO_BENCH_SYNC_US after each fdatasync.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

int fdatasync(int file) {
  static int (*real)(int);
  static long wait;
  if (!real) {
    real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait = atol(getenv("KIJKO_BENCH_SYNC_US")) * 1000;
    prctl(PR_SET_TIMERSLACK, 1UL); // or each wait takes 50 us more
  }
  int result = real(file);
  nanosleep(&(struct timespec){.tv_nsec = wait}, NULL);
  return result;
}
