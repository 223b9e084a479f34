/* Tries what takes a capability, and starts others that do. Requests, and their replies:
 *
 *     read PATH                      the file's first line, or `error: ` and why
 *     write PATH TEXT                `ok`, or why not
 *     list                           the granted folders, by spaces
 *     getenv NAME                    its value, or `-`
 *     spawn MODULE CAPABILITIES      a new actor: its pid as 32 hex digits, or `refused: ` and why
 *     spawn-on NODE MODULE CAPABILITIES
 *     ask PID TEXT                   what that actor answers
 *
 * CAPABILITIES are separated by commas; `-` passes on everything, `none` nothing. One request at a
 * time. It keeps nothing but the word `save WORD` told it: `saved` tells that. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasi/api.h>

#include "wasm_node.h"

#define CALL_TIMEOUT_MS 60000
#define MAX_LIST 16

static wn_reply_to asker;
static char word[64];

static void read_file(const char *path) {
  char line[256] = "";
  FILE *file = fopen(path, "r");
  if (!file) {
    wn_replyf(asker, "error: %s", strerror(errno));
    return;
  }
  if (!fgets(line, sizeof line, file)) line[0] = '\0';
  fclose(file);
  wn_replyf(asker, "%s", line);
}

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  bool written = file && fputs(text, file) >= 0;
  if (file && fclose(file) != 0) written = false;
  if (written) {
    wn_replyf(asker, "ok");
  } else {
    wn_replyf(asker, "error: %s", strerror(errno));
  }
}

static void list_folders(void) {
  char text[1024] = "";
  __wasi_prestat_t stat;
  for (__wasi_fd_t fd = 3; __wasi_fd_prestat_get(fd, &stat) == 0; fd++) {
    char name[256] = "";
    if (stat.u.dir.pr_name_len >= sizeof name) continue;
    if (__wasi_fd_prestat_dir_name(fd, (uint8_t *)name, stat.u.dir.pr_name_len) != 0) continue;
    if (text[0]) strcat(text, " ");
    strncat(text, name, sizeof text - strlen(text) - 2);
  }
  wn_replyf(asker, "%s", text);
}

static bindings_string_t text_of(const char *text) {
  return (bindings_string_t){(uint8_t *)text, strlen(text)};
}

static void told(wn_pid pid) { wn_replyf(asker, "%016" PRIx64 "%016" PRIx64, pid.node, pid.serial); }

static void refused(const wasm_node_actor_types_spawn_error_t *error) {
  if (error->tag == WASM_NODE_ACTOR_TYPES_SPAWN_ERROR_BAD_MODULE) {
    wn_replyf(asker, "refused: %.*s", (int)error->val.bad_module.len, error->val.bad_module.ptr);
  } else {
    wn_replyf(asker, "refused: case %d", error->tag);
  }
}

/* The options of a spawn that passes on these. */
static wasm_node_actor_process_spawn_options_t passing_on(char *capabilities,
                                                          bindings_string_t list[MAX_LIST]) {
  wasm_node_actor_process_spawn_options_t options = {0};
  if (strcmp(capabilities, "-") == 0) return options;
  options.capabilities.is_some = true;
  options.capabilities.val.ptr = list;
  if (strcmp(capabilities, "none") == 0) return options;
  for (char *one = strtok(capabilities, ","); one; one = strtok(NULL, ",")) {
    if (options.capabilities.val.len < MAX_LIST) {
      list[options.capabilities.val.len++] = text_of(one);
    }
  }
  return options;
}

static void spawn(const char *node, const char *module, char *capabilities) {
  bindings_string_t list[MAX_LIST], of = text_of(module);
  wasm_node_actor_process_spawn_options_t options = passing_on(capabilities, list);
  bindings_list_u8_t args = {0};
  if (node) {
    wn_ref tag;
    bindings_string_t on = text_of(node);
    wasm_node_actor_process_spawn_on(&on, &of, &args, &options, &tag);
    return;
  }
  wasm_node_actor_process_tuple2_pid_ref_t spawned;
  wasm_node_actor_process_spawn_error_t error;
  if (wasm_node_actor_process_spawn(&of, &args, &options, &spawned, &error)) {
    told(spawned.f0);
  } else {
    refused(&error);
  }
}

static void on_other(const wn_message *message) {
  if (message->tag != WASM_NODE_ACTOR_TYPES_MESSAGE_SPAWNED) return;
  if (message->val.spawned.f1.is_err) {
    refused(&message->val.spawned.f1.val.err);
  } else {
    told(message->val.spawned.f1.val.ok);
  }
}

static void on_response(wn_ref request, wn_bytes body, const wn_call_error *error) {
  (void)request;
  if (error) {
    wn_replyf(asker, "error: call error %d", error->tag);
  } else {
    wn_reply(asker, body);
  }
}

static void on_request(wn_reply_to from, wn_bytes body) {
  static char text[4096], a[1024], b[1024], c[1024];
  wn_pid pid;
  int rest = 0;
  size_t len = body.len < sizeof text ? body.len : sizeof text - 1;
  memcpy(text, body.ptr, len);
  text[len] = '\0';
  asker = from;
  if (sscanf(text, "read %1023s", a) == 1) {
    read_file(a);
  } else if (sscanf(text, "write %1023s %1023s", a, b) == 2) {
    write_file(a, b);
  } else if (strcmp(text, "list") == 0) {
    list_folders();
  } else if (sscanf(text, "getenv %1023s", a) == 1) {
    const char *value = getenv(a);
    wn_replyf(from, "%s", value ? value : "-");
  } else if (sscanf(text, "spawn-on %1023s %1023s %1023s", a, b, c) == 3) {
    spawn(a, b, c);
  } else if (sscanf(text, "spawn %1023s %1023s", a, b) == 2) {
    spawn(NULL, a, b);
  } else if (sscanf(text, "ask %16" SCNx64 "%16" SCNx64 " %n", &pid.node, &pid.serial, &rest) == 2 &&
             rest > 0) {
    wn_request(wn_to_pid(pid), wn_string(text + rest), CALL_TIMEOUT_MS);
  } else if (strcmp(text, "saved") == 0) {
    wn_replyf(from, "%s", word);
  } else if (sscanf(text, "save %63s", word) == 1) {
    wn_replyf(from, "ok");
  } else {
    wn_replyf(from, "error: what is %s?", text);
  }
}

static void on_restore(wn_bytes saved) {
  size_t len = saved.len < sizeof word ? saved.len : sizeof word - 1;
  memcpy(word, saved.ptr, len);
}

static void on_save(void) { wn_save(wn_string(word)); }

const wn_actor actor = {
    .on_request = on_request,
    .on_response = on_response,
    .on_other = on_other,
    .on_restore = on_restore,
    .on_save = on_save,
};
