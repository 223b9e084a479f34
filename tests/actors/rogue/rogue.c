/* An actor that misbehaves, for the tests of isolation. Its arguments name how:
 *
 *     spin         loops for ever
 *     fill         fills 64 MiB again and again, one instruction each time
 *     recurse      calls itself without end
 *     grow         allocates until it gets nothing more
 *     divide       divides by zero
 *     exit         calls exit(3)
 *     flood NAME   casts to a local name without end
 *
 * It prints which, unless `quietly ` comes before.
 *
 * It begins a little after its start, so that whoever spawned it has its pid. Until then, and with
 * any other arguments, it answers requests with them. It can be saved, but takes no state over. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wasm_node.h"

#define BEGIN_AFTER_MS 50
#define FILL_BYTES (64u << 20)
#define GROW_BYTES (1u << 20)

static char mode[256];
static volatile unsigned zero, sink;

static void spin(void) {
  for (;;) sink++;
}

/* Bulk memory, so that one fill is one instruction: no loop for an engine to interrupt. */
__attribute__((target("bulk-memory"))) static void fill(void) {
  unsigned char *at = malloc(FILL_BYTES);
  if (!at) abort();
  for (unsigned char value = 0;; value++) {
    memset(at, value, FILL_BYTES);
    sink += at[FILL_BYTES / 2];
  }
}

__attribute__((noinline)) static unsigned recurse(unsigned depth) {
  volatile char frame[64];
  frame[depth % sizeof frame] = (char)depth;
  if (zero) return depth;
  return recurse(depth + 1) + (unsigned)frame[0];
}

static void grow(void) {
  for (;;) {
    unsigned char *at = malloc(GROW_BYTES);
    if (!at) abort();
    *(volatile unsigned char *)at = 1;
  }
}

__attribute__((noinline)) static unsigned divide(unsigned by) { return sink / by; }

static void flood(const char *name) {
  for (;;) wn_cast(wn_to_name(name), wn_string("and another thing"));
}

static void on_timer(wn_ref timer) {
  (void)timer;
  if (strcmp(mode, "spin") == 0) spin();
  if (strcmp(mode, "fill") == 0) fill();
  if (strcmp(mode, "recurse") == 0) sink = recurse(0);
  if (strcmp(mode, "grow") == 0) grow();
  if (strcmp(mode, "divide") == 0) sink = divide(zero);
  if (strcmp(mode, "exit") == 0) exit(3);
  if (strncmp(mode, "flood ", 6) == 0) flood(mode + 6);
}

static void on_start(wn_bytes args) {
  static const char quietly[] = "quietly ";
  size_t skip = sizeof quietly - 1;
  bool quiet = args.len > skip && memcmp(args.ptr, quietly, skip) == 0;
  if (!quiet) skip = 0;
  size_t len = args.len - skip < sizeof mode ? args.len - skip : sizeof mode - 1;
  memcpy(mode, args.ptr + skip, len);
  if (!quiet) printf("rogue: %s\n", mode);
  wn_timer(BEGIN_AFTER_MS);
}

static void on_request(wn_reply_to from, wn_bytes body) {
  (void)body;
  wn_replyf(from, "%s", mode);
}

static void on_save(void) { wn_save(wn_string(mode)); }

static void on_restore(wn_bytes saved) {
  (void)saved;
  wn_stop_error("a rogue takes nothing over");
}

const wn_actor actor = {
    .on_start = on_start,
    .on_timer = on_timer,
    .on_request = on_request,
    .on_save = on_save,
    .on_restore = on_restore,
};
