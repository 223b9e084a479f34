/* As rogue.c, with WASI: `sleep` sleeps for an hour inside a system call, `exit` ends the WASI way,
 * `spin` loops for ever on a stack of its own. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "wasm_node.h"

#define BEGIN_AFTER_MS 50
#define SLEEP_SECONDS 3600

static char mode[64];
static volatile unsigned sink;

static void on_timer(wn_ref timer) {
  (void)timer;
  if (strcmp(mode, "sleep") == 0) nanosleep(&(struct timespec){.tv_sec = SLEEP_SECONDS}, NULL);
  if (strcmp(mode, "exit") == 0) exit(3);
  if (strcmp(mode, "spin") == 0) {
    for (;;) sink++;
  }
}

static void on_start(wn_bytes args) {
  size_t len = args.len < sizeof mode ? args.len : sizeof mode - 1;
  memcpy(mode, args.ptr, len);
  wn_timer(BEGIN_AFTER_MS);
}

const wn_actor actor = {.on_start = on_start, .on_timer = on_timer};
