/* Prints, reads and logs as it is told, without WASI: see ../speaker. */
#include <stdio.h>
#include <string.h>

#include "wasm_node.h"

static wn_reply_to reader;
static wn_ref reading;

static bool is(wn_bytes body, const char *verb) {
  size_t len = strlen(verb);
  return body.len >= len && memcmp(body.ptr, verb, len) == 0;
}

static void on_request(wn_reply_to from, wn_bytes body) {
  if (is(body, "print ")) {
    printf("%.*s\n", (int)body.len - 6, (const char *)body.ptr + 6);
    wn_reply(from, wn_string("ok"));
  } else if (is(body, "error ")) {
    fprintf(stderr, "%.*s\n", (int)body.len - 6, (const char *)body.ptr + 6);
    wn_reply(from, wn_string("ok"));
  } else if (is(body, "read")) {
    printf("In C? ");
    reader = from;
    reading = wn_read_line(0);
  } else if (is(body, "leader")) {
    wn_pid leader = wn_group_leader();
    wn_replyf(from, "%016llx%016llx", (unsigned long long)leader.node,
              (unsigned long long)leader.serial);
  } else if (is(body, "lead-self")) {
    wn_set_group_leader(wn_self(), wn_self());
    wn_reply(from, wn_string("ok"));
  } else if (is(body, "log")) {
    wn_log(WN_WARNING, "C was told to: %.*s", (int)body.len, (const char *)body.ptr);
    wn_reply(from, wn_string("ok"));
  } else {
    wn_reply(from, wn_string("error"));
  }
}

static void on_response(wn_ref request, wn_bytes body, const wn_call_error *error) {
  if (!wn_ref_equal(request, reading)) return;
  if (error) {
    wn_replyf(reader, "error: %d", error->tag);
  } else if (body.len == 0) {
    wn_reply(reader, wn_string("end"));
  } else {
    wn_replyf(reader, "line %.*s", (int)body.len - 1, (const char *)body.ptr);
  }
}

const wn_actor actor = {.on_request = on_request, .on_response = on_response};
