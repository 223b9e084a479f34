/* The turn loop of actors in C: the exports of the world `actor` over the callbacks of `wn_actor`.
 * What a message owns is freed after its callback. */
#include "wasm_node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef exports_wasm_node_actor_lifecycle_outcome_t outcome;
typedef exports_wasm_node_actor_lifecycle_save_error_t save_error;

/* What the current turn ends with. */
static outcome next_outcome;

static enum { SAVE_NONE, SAVE_DONE, SAVE_BUSY, SAVE_REFUSED } save_answer;
static bindings_list_u8_t saved;
static bindings_string_t refusal;

/* --- helpers for actors --- */

wn_bytes wn_string(const char *text) {
  return (wn_bytes){(const uint8_t *)text, strlen(text)};
}

/* The bindings take arguments that they do not change as pointers to mutable. */
static bindings_list_u8_t borrowed(wn_bytes bytes) {
  return (bindings_list_u8_t){(uint8_t *)bytes.ptr, bytes.len};
}

static bindings_string_t borrowed_string(const char *text) {
  return (bindings_string_t){(uint8_t *)text, strlen(text)};
}

static wn_bytes bytes_of(bindings_list_u8_t list) {
  return (wn_bytes){list.ptr, list.len};
}

wn_destination wn_to_pid(wn_pid pid) {
  wn_destination to = {.tag = WASM_NODE_ACTOR_TYPES_DESTINATION_PID};
  to.val.pid = pid;
  return to;
}

wn_destination wn_to_name(const char *name) {
  wn_destination to = {.tag = WASM_NODE_ACTOR_TYPES_DESTINATION_NAME};
  to.val.name = borrowed_string(name);
  return to;
}

wn_destination wn_to_global(const char *name) {
  wn_destination to = {.tag = WASM_NODE_ACTOR_TYPES_DESTINATION_GLOBAL};
  to.val.global = borrowed_string(name);
  return to;
}

bool wn_send(wn_pid to, wn_bytes body) {
  bindings_list_u8_t list = borrowed(body);
  return wasm_node_actor_mailbox_send(&to, &list);
}

bool wn_cast(wn_destination to, wn_bytes body) {
  bindings_list_u8_t list = borrowed(body);
  return wasm_node_actor_mailbox_cast(&to, &list);
}

bool wn_reply(wn_reply_to to, wn_bytes body) {
  bindings_list_u8_t list = borrowed(body);
  return wasm_node_actor_mailbox_reply(&to, &list);
}

bool wn_replyf(wn_reply_to to, const char *format, ...) {
  char *text = NULL;
  va_list values;
  va_start(values, format);
  int len = vasprintf(&text, format, values);
  va_end(values);
  if (len < 0) abort();
  bool sent = wn_reply(to, (wn_bytes){(uint8_t *)text, (size_t)len});
  free(text);
  return sent;
}

wn_ref wn_request(wn_destination to, wn_bytes body, uint32_t timeout_ms) {
  bindings_list_u8_t list = borrowed(body);
  wn_ref request;
  wasm_node_actor_mailbox_request(&to, &list, timeout_ms ? &timeout_ms : NULL, &request);
  return request;
}

wn_pid wn_self(void) {
  wn_pid self;
  wasm_node_actor_process_self(&self);
  return self;
}

wn_pid wn_group_leader(void) {
  wn_pid leader;
  wasm_node_actor_process_group_leader(&leader);
  return leader;
}

void wn_set_group_leader(wn_pid target, wn_pid leader) {
  wasm_node_actor_process_set_group_leader(&target, &leader);
}

wn_ref wn_read_line(uint32_t timeout_ms) {
  /* A question without a line's end is seen before the answer is waited for. */
  fflush(stdout);
  wn_ref request;
  wasm_node_actor_io_read_line(timeout_ms ? &timeout_ms : NULL, &request);
  return request;
}

void wn_log(wn_log_level level, const char *format, ...) {
  static const wasm_node_actor_io_log_level_t levels[] = {
      WASM_NODE_ACTOR_IO_LOG_LEVEL_DEBUG, WASM_NODE_ACTOR_IO_LOG_LEVEL_INFO,
      WASM_NODE_ACTOR_IO_LOG_LEVEL_WARNING, WASM_NODE_ACTOR_IO_LOG_LEVEL_ERROR};
  char *text = NULL;
  va_list values;
  va_start(values, format);
  int len = vasprintf(&text, format, values);
  va_end(values);
  if (len < 0) abort();
  bindings_string_t string = {(uint8_t *)text, (size_t)len};
  bindings_list_tuple2_string_string_t fields = {NULL, 0};
  wasm_node_actor_io_log(levels[level], &string, &fields);
  free(text);
}

wn_ref wn_monitor(wn_pid target) {
  wn_destination to = wn_to_pid(target);
  wn_ref monitor;
  wasm_node_actor_process_monitor(&to, &monitor);
  return monitor;
}

wn_ref wn_timer(uint32_t after_ms) {
  wn_ref timer;
  wasm_node_actor_timer_start(after_ms, &timer);
  return timer;
}

bool wn_pid_equal(wn_pid a, wn_pid b) { return a.node == b.node && a.serial == b.serial; }

bool wn_ref_equal(wn_ref a, wn_ref b) { return a.node == b.node && a.serial == b.serial; }

static void set_outcome(outcome new) {
  wasm_node_actor_types_outcome_free(&next_outcome);
  next_outcome = new;
}

void wn_wait_for(uint32_t ms) {
  outcome new = {.tag = WASM_NODE_ACTOR_TYPES_OUTCOME_WAIT_FOR};
  new.val.wait_for = ms;
  set_outcome(new);
}

void wn_hibernate(void) {
  set_outcome((outcome){.tag = WASM_NODE_ACTOR_TYPES_OUTCOME_HIBERNATE});
}

void wn_stop(void) {
  outcome new = {.tag = WASM_NODE_ACTOR_TYPES_OUTCOME_STOP};
  new.val.stop.tag = WASM_NODE_ACTOR_TYPES_EXIT_REASON_NORMAL;
  set_outcome(new);
}

void wn_stop_error(const char *format, ...) {
  char *text = NULL;
  va_list values;
  va_start(values, format);
  int len = vasprintf(&text, format, values);
  va_end(values);
  if (len < 0) abort();
  outcome new = {.tag = WASM_NODE_ACTOR_TYPES_OUTCOME_STOP};
  new.val.stop.tag = WASM_NODE_ACTOR_TYPES_EXIT_REASON_ERROR;
  new.val.stop.val.error = (bindings_string_t){(uint8_t *)text, (size_t)len};
  set_outcome(new);
}

void wn_save(wn_bytes state) {
  uint8_t *copy = malloc(state.len ? state.len : 1);
  if (!copy) abort();
  memcpy(copy, state.ptr, state.len);
  saved = (bindings_list_u8_t){copy, state.len};
  save_answer = SAVE_DONE;
}

void wn_save_busy(void) { save_answer = SAVE_BUSY; }

void wn_save_refuse(const char *why) {
  bindings_string_dup(&refusal, why);
  save_answer = SAVE_REFUSED;
}

/* --- the exports --- */

/* A line begun in one turn is printed in that turn. */
static void flush(void) {
  fflush(stdout);
  fflush(stderr);
}

/* Hands the outcome over, with what it owns, and starts afresh. */
static outcome take_outcome(void) {
  flush();
  outcome taken = next_outcome;
  next_outcome = (outcome){.tag = WASM_NODE_ACTOR_TYPES_OUTCOME_WAIT};
  return taken;
}

/* Text of others that nobody takes goes where this actor's own goes. */
static void pass_on(wasm_node_actor_types_output_kind_t kind, wn_bytes text) {
  /* Its own leader, it would print to itself for ever. */
  if (wn_pid_equal(wn_group_leader(), wn_self())) return;
  FILE *out = kind == WASM_NODE_ACTOR_TYPES_OUTPUT_KIND_STDERR ? stderr : stdout;
  fwrite(text.ptr, 1, text.len, out);
  fflush(out);
}

static void deliver(const wn_message *m) {
  switch (m->tag) {
  case WASM_NODE_ACTOR_TYPES_MESSAGE_INFO:
    if (actor.on_info) actor.on_info(bytes_of(m->val.info));
    break;
  case WASM_NODE_ACTOR_TYPES_MESSAGE_CAST:
    if (actor.on_cast) actor.on_cast(bytes_of(m->val.cast));
    break;
  case WASM_NODE_ACTOR_TYPES_MESSAGE_REQUEST:
    if (actor.on_request) actor.on_request(m->val.request.f0, bytes_of(m->val.request.f1));
    break;
  case WASM_NODE_ACTOR_TYPES_MESSAGE_RESPONSE:
    if (!actor.on_response) break;
    if (m->val.response.f1.is_err) {
      actor.on_response(m->val.response.f0, (wn_bytes){NULL, 0}, &m->val.response.f1.val.err);
    } else {
      actor.on_response(m->val.response.f0, bytes_of(m->val.response.f1.val.ok), NULL);
    }
    break;
  case WASM_NODE_ACTOR_TYPES_MESSAGE_DOWN:
    if (actor.on_down) actor.on_down(m->val.down.f0, m->val.down.f1, &m->val.down.f2);
    break;
  case WASM_NODE_ACTOR_TYPES_MESSAGE_EXIT:
    if (actor.on_exit) actor.on_exit(m->val.exit.f0, &m->val.exit.f1);
    break;
  case WASM_NODE_ACTOR_TYPES_MESSAGE_TIMER:
    if (actor.on_timer) actor.on_timer(m->val.timer);
    break;
  case WASM_NODE_ACTOR_TYPES_MESSAGE_TIMEOUT:
    if (actor.on_timeout) actor.on_timeout();
    break;
  case WASM_NODE_ACTOR_TYPES_MESSAGE_OUTPUT:
    if (actor.on_output) {
      bool is_error = m->val.output.f1 == WASM_NODE_ACTOR_TYPES_OUTPUT_KIND_STDERR;
      actor.on_output(m->val.output.f0, is_error, bytes_of(m->val.output.f2));
    } else {
      pass_on(m->val.output.f1, bytes_of(m->val.output.f2));
    }
    break;
  case WASM_NODE_ACTOR_TYPES_MESSAGE_INPUT_REQUEST:
    if (actor.on_input_request) {
      actor.on_input_request(m->val.input_request);
    } else {
      wn_reply(m->val.input_request, (wn_bytes){NULL, 0});
    }
    break;
  default:
    if (actor.on_other) actor.on_other(m);
  }
}

bool exports_wasm_node_actor_lifecycle_init(exports_wasm_node_actor_lifecycle_start_t *start,
                                            outcome *ret, wn_exit_reason *err) {
  setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
  setvbuf(stderr, NULL, _IOLBF, BUFSIZ);
  next_outcome = (outcome){.tag = WASM_NODE_ACTOR_TYPES_OUTCOME_WAIT};
  if (start->tag == WASM_NODE_ACTOR_TYPES_START_RESTORED && actor.on_restore) {
    actor.on_restore(bytes_of(start->val.restored));
  } else if (actor.on_start) {
    bool fresh = start->tag == WASM_NODE_ACTOR_TYPES_START_FRESH;
    actor.on_start(fresh ? bytes_of(start->val.fresh) : (wn_bytes){NULL, 0});
  }
  exports_wasm_node_actor_lifecycle_start_free(start);
  outcome taken = take_outcome();
  if (taken.tag == WASM_NODE_ACTOR_TYPES_OUTCOME_STOP &&
      taken.val.stop.tag != WASM_NODE_ACTOR_TYPES_EXIT_REASON_NORMAL) {
    *err = taken.val.stop;
    return false;
  }
  *ret = taken;
  return true;
}

void exports_wasm_node_actor_lifecycle_turn(outcome *ret) {
  wn_message message;
  while (next_outcome.tag != WASM_NODE_ACTOR_TYPES_OUTCOME_STOP &&
         wasm_node_actor_mailbox_next(&message)) {
    deliver(&message);
    wasm_node_actor_types_message_free(&message);
  }
  *ret = take_outcome();
}

bool exports_wasm_node_actor_lifecycle_save(bindings_list_u8_t *ret, save_error *err) {
  save_answer = SAVE_NONE;
  if (actor.on_save) actor.on_save();
  flush();
  switch (save_answer) {
  case SAVE_DONE:
    *ret = saved;
    return true;
  case SAVE_BUSY:
    err->tag = WASM_NODE_ACTOR_TYPES_SAVE_ERROR_BUSY;
    return false;
  case SAVE_NONE:
    bindings_string_dup(&refusal, actor.on_save ? "on_save gave no answer" : "it has no on_save");
    break;
  case SAVE_REFUSED:
    break;
  }
  err->tag = WASM_NODE_ACTOR_TYPES_SAVE_ERROR_REFUSED;
  err->val.refused = refusal;
  return false;
}
