/* Prints and reads by WASI's own means: fgets waits in the middle of a turn. See ../speaker. */
#include <stdio.h>
#include <string.h>

#include "wasm_node.h"

static bool is(wn_bytes body, const char *verb) {
  size_t len = strlen(verb);
  return body.len >= len && memcmp(body.ptr, verb, len) == 0;
}

static void on_request(wn_reply_to from, wn_bytes body) {
  if (is(body, "print ")) {
    printf("%.*s\n", (int)body.len - 6, (const char *)body.ptr + 6);
    wn_reply(from, wn_string("ok"));
  } else if (is(body, "read")) {
    char line[256];
    printf("By WASI? ");
    fflush(stdout);
    if (fgets(line, sizeof line, stdin)) {
      line[strcspn(line, "\n")] = 0;
      wn_replyf(from, "line %s", line);
    } else {
      wn_reply(from, wn_string("end"));
    }
  } else {
    wn_reply(from, wn_string("error"));
  }
}

const wn_actor actor = {.on_request = on_request};
