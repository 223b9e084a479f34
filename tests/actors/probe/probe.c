/* Measures and acts from inside a node, where no command's start, handshake or key derivation is in
 * the way. Requests, and their replies:
 *
 *     calls NAME COUNT   `P50 P99 MAX`, in microseconds: calls an actor by its local name so many
 *                        times, one after the other, with the request `get`
 *     kill PID           microseconds from the exit signal `kill` to the `down` message; PID is 32
 *                        hex digits
 *     globally NAME      `ok`: gives the actor of a local name the same name in the cluster
 *
 * One at a time. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wasm_node.h"

#define MAX_CALLS 100000
#define CALL_TIMEOUT_MS 60000

static wn_reply_to asker;
static char callee[256];
static uint64_t begun;
static uint32_t *times_us, wanted, done;
static wn_ref waiting;

static uint32_t elapsed_us(void) {
  return (uint32_t)((wasm_node_actor_timer_now() - begun) / 1000);
}

static void call(void) {
  begun = wasm_node_actor_timer_now();
  waiting = wn_request(wn_to_name(callee), wn_string("get"), CALL_TIMEOUT_MS);
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static void on_response(wn_ref request, wn_bytes body, const wn_call_error *error) {
  (void)body;
  if (!wn_ref_equal(request, waiting)) return;
  if (error) {
    wn_replyf(asker, "error: call %" PRIu32 " failed", done + 1);
    return;
  }
  times_us[done++] = elapsed_us();
  if (done < wanted) {
    call();
    return;
  }
  qsort(times_us, done, sizeof *times_us, ascending);
  wn_replyf(asker, "%" PRIu32 " %" PRIu32 " %" PRIu32, times_us[done / 2],
            times_us[(uint64_t)done * 99 / 100], times_us[done - 1]);
}

static void on_down(wn_ref monitor, wn_pid who, const wn_exit_reason *reason) {
  (void)who;
  if (!wn_ref_equal(monitor, waiting)) return;
  if (reason->tag == WASM_NODE_ACTOR_TYPES_EXIT_REASON_KILLED) {
    wn_replyf(asker, "%" PRIu32, elapsed_us());
  } else {
    wn_replyf(asker, "error: it ended otherwise, reason %d", reason->tag);
  }
}

static void on_other(const wn_message *message) {
  if (message->tag != WASM_NODE_ACTOR_TYPES_MESSAGE_REGISTERED) return;
  if (!wn_ref_equal(message->val.registered.f0, waiting)) return;
  wn_replyf(asker, message->val.registered.f1.is_err ? "error: not registered" : "ok");
}

static void globally(const char *name) {
  bindings_string_t text = {(uint8_t *)name, strlen(name)};
  wn_pid pid;
  if (wasm_node_actor_registry_whereis(&text, &pid)) {
    wasm_node_actor_global_register(&text, &pid, &waiting);
  } else {
    wn_replyf(asker, "error: nobody has that name here");
  }
}

static void on_request(wn_reply_to from, wn_bytes body) {
  char text[512];
  wn_pid pid;
  size_t len = body.len < sizeof text ? body.len : sizeof text - 1;
  memcpy(text, body.ptr, len);
  text[len] = '\0';
  asker = from;
  if (sscanf(text, "calls %255s %" SCNu32, callee, &wanted) == 2 && wanted > 0 &&
      wanted <= MAX_CALLS) {
    free(times_us);
    times_us = calloc(wanted, sizeof *times_us);
    if (!times_us) abort();
    done = 0;
    call();
  } else if (sscanf(text, "kill %16" SCNx64 "%16" SCNx64, &pid.node, &pid.serial) == 2) {
    wn_exit_reason kill = {.tag = WASM_NODE_ACTOR_TYPES_EXIT_REASON_KILL};
    waiting = wn_monitor(pid);
    begun = wasm_node_actor_timer_now();
    wasm_node_actor_process_exit(&pid, &kill);
  } else if (strncmp(text, "globally ", 9) == 0) {
    globally(text + 9);
  } else {
    wn_replyf(from, "error: calls NAME COUNT, kill PID, or globally NAME");
  }
}

const wn_actor actor = {
    .on_request = on_request,
    .on_response = on_response,
    .on_down = on_down,
    .on_other = on_other,
};
