/* The counter of ../README.md. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wasm_node.h"

/* How long a `call` waits. */
#define CALL_TIMEOUT_MS 5000
/* A longer command is no command. */
#define MAX_COMMAND_BYTES 4096

/* A `call` whose answer is still to come. */
typedef struct pending {
  wn_ref request;
  wn_reply_to from;
  struct pending *next;
} pending;

static int64_t count;
static uint64_t downs;
static pending *calls;

/* A signed decimal that fills the whole text. */
static bool parse_count(const char *text, int64_t *value) {
  const char *digits = *text == '-' || *text == '+' ? text + 1 : text;
  uint64_t sum = 0;
  if (!*digits) return false;
  for (; *digits; digits++) {
    if (!isdigit((unsigned char)*digits)) return false;
    uint64_t digit = (uint64_t)(*digits - '0');
    if (sum > (INT64_MAX + (uint64_t)(*text == '-') - digit) / 10) return false;
    sum = sum * 10 + digit;
  }
  *value = (int64_t)(*text == '-' ? -sum : sum);
  return true;
}

/* 16 hex digits. */
static bool parse_hex(const char *text, uint64_t *value) {
  *value = 0;
  for (int i = 0; i < 16; i++) {
    char c = text[i];
    if (!isdigit((unsigned char)c) && !(c >= 'a' && c <= 'f')) return false;
    *value = *value << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return true;
}

/* The text after a first word, or NULL if the text begins otherwise. */
static char *after(char *text, const char *word) {
  size_t len = strlen(word);
  return strncmp(text, word, len) == 0 && text[len] == ' ' ? text + len + 1 : NULL;
}

static void add(int64_t n) { count = (int64_t)((uint64_t)count + (uint64_t)n); }

static void watch(wn_reply_to from, const char *hex) {
  wn_pid pid;
  if (strlen(hex) != 32 || !parse_hex(hex, &pid.node) || !parse_hex(hex + 16, &pid.serial)) {
    wn_replyf(from, "error: a pid is 32 lower-case hex digits");
    return;
  }
  wn_monitor(pid);
  wn_replyf(from, "ok");
}

/* Asks another counter; the answer comes as a message, and other commands are served meanwhile. */
static void call(wn_reply_to from, char *text) {
  char *local = after(text, "local"), *global = after(text, "global");
  char *name = local ? local : global;
  char *space = name ? strchr(name, ' ') : NULL;
  if (!space || space == name) {
    wn_replyf(from, "error: call local NAME COMMAND, or call global NAME COMMAND");
    return;
  }
  *space = '\0';
  pending *new = malloc(sizeof *new);
  if (!new) abort();
  wn_destination to = local ? wn_to_name(name) : wn_to_global(name);
  *new = (pending){wn_request(to, wn_string(space + 1), CALL_TIMEOUT_MS), from, calls};
  calls = new;
}

static void on_request(wn_reply_to from, wn_bytes body) {
  char text[MAX_COMMAND_BYTES + 1], *rest;
  int64_t n;
  if (body.len > MAX_COMMAND_BYTES) {
    wn_replyf(from, "error: a command has at most %d bytes", MAX_COMMAND_BYTES);
    return;
  }
  memcpy(text, body.ptr, body.len);
  text[body.len] = '\0';
  if ((rest = after(text, "add")) && parse_count(rest, &n)) {
    add(n);
    wn_replyf(from, "%" PRId64, count);
  } else if (strcmp(text, "get") == 0) {
    wn_replyf(from, "%" PRId64, count);
  } else if ((rest = after(text, "watch"))) {
    watch(from, rest);
  } else if (strcmp(text, "downs") == 0) {
    wn_replyf(from, "%" PRIu64, downs);
  } else if ((rest = after(text, "call"))) {
    call(from, rest);
  } else if (strcmp(text, "pid") == 0) {
    wn_pid self = wn_self();
    wn_replyf(from, "%016" PRIx64 "%016" PRIx64, self.node, self.serial);
  } else {
    wn_replyf(from, "error: unknown command");
  }
}

static void on_cast(wn_bytes body) {
  char text[64], *rest;
  int64_t n;
  if (body.len >= sizeof text) return;
  memcpy(text, body.ptr, body.len);
  text[body.len] = '\0';
  if ((rest = after(text, "add")) && parse_count(rest, &n)) add(n);
}

static const char *call_error(const wn_call_error *error) {
  switch (error->tag) {
  case WASM_NODE_ACTOR_TYPES_CALL_ERROR_TIMEOUT: return "timeout";
  case WASM_NODE_ACTOR_TYPES_CALL_ERROR_NOPROC: return "noproc";
  case WASM_NODE_ACTOR_TYPES_CALL_ERROR_NOCONNECTION: return "noconnection";
  case WASM_NODE_ACTOR_TYPES_CALL_ERROR_EXIT: return "exit";
  default: return "too-large";
  }
}

static void on_response(wn_ref request, wn_bytes body, const wn_call_error *error) {
  for (pending **link = &calls; *link; link = &(*link)->next) {
    pending *done = *link;
    if (!wn_ref_equal(done->request, request)) continue;
    *link = done->next;
    if (error) {
      wn_replyf(done->from, "error: %s", call_error(error));
    } else {
      wn_reply(done->from, body);
    }
    free(done);
    return;
  }
}

static void on_down(wn_ref monitor, wn_pid who, const wn_exit_reason *reason) {
  (void)monitor, (void)who, (void)reason;
  downs++;
}

static void on_start(wn_bytes args) {
  char text[32];
  if (args.len >= sizeof text) {
    wn_stop_error("the arguments are no count");
    return;
  }
  memcpy(text, args.ptr, args.len);
  text[args.len] = '\0';
  if (args.len > 0 && !parse_count(text, &count)) {
    wn_stop_error("the arguments are no count: %s", text);
    return;
  }
  printf("counter-c starts at %" PRId64 "\n", count);
}

static void on_restore(wn_bytes saved) {
  char text[64], *space;
  int64_t saved_downs;
  if (saved.len < sizeof text) {
    memcpy(text, saved.ptr, saved.len);
    text[saved.len] = '\0';
    space = strchr(text, ' ');
    if (space) {
      *space = '\0';
      if (parse_count(text, &count) && parse_count(space + 1, &saved_downs)) {
        downs = (uint64_t)saved_downs;
        printf("counter-c goes on at %" PRId64 "\n", count);
        return;
      }
    }
  }
  wn_stop_error("the saved state is not COUNT DOWNS");
}

static void on_save(void) {
  char text[64];
  if (calls) {
    wn_save_busy();
    return;
  }
  snprintf(text, sizeof text, "%" PRId64 " %" PRIu64, count, downs);
  wn_save(wn_string(text));
}

const wn_actor actor = {
    .on_start = on_start,
    .on_restore = on_restore,
    .on_save = on_save,
    .on_request = on_request,
    .on_cast = on_cast,
    .on_response = on_response,
    .on_down = on_down,
};
