/* Actors in C: fill in the callbacks of one `wn_actor` named `actor`; the turn loop, the decoding
 * of messages and standard output are wasm_node.c's. An actor has a memory of its own, so its
 * state is simply static variables.
 *
 *     static void on_request(wn_reply_to from, wn_bytes body) { wn_reply(from, body); }
 *     const wn_actor actor = {.on_request = on_request};
 *
 * Everything of the contract (wit/) that has no shorthand here is in bindings.h, which
 * `wasm-node build` generates, under the names `wasm_node_actor_INTERFACE_FUNCTION`.
 *
 * printf and stderr print whole lines to the actor's group leader; clocks, randomness and malloc
 * work; files, sockets and the environment do not, unless wasm-node.toml says `wasi = true` and the
 * module is granted them. */
#ifndef WASM_NODE_H
#define WASM_NODE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bindings.h"

typedef wasm_node_actor_types_pid_t wn_pid;
typedef wasm_node_actor_types_ref_t wn_ref;
typedef wasm_node_actor_types_reply_to_t wn_reply_to;
typedef wasm_node_actor_types_exit_reason_t wn_exit_reason;
typedef wasm_node_actor_types_call_error_t wn_call_error;
typedef wasm_node_actor_types_destination_t wn_destination;
typedef wasm_node_actor_types_message_t wn_message;

/* Bytes that belong to someone else. What a callback gets is valid until it returns. */
typedef struct {
  const uint8_t *ptr;
  size_t len;
} wn_bytes;

/* All callbacks are optional; what no callback takes is dropped. None is called while another
 * runs. */
typedef struct {
  /* A new actor, with the arguments of its spawn. To refuse, call wn_stop_error. */
  void (*on_start)(wn_bytes args);
  /* An actor that goes on from what on_save gave, perhaps of another version of the code.
   * Without this callback a restored actor begins as on_start with no arguments. */
  void (*on_restore)(wn_bytes saved);
  /* The state as bytes: wn_save, wn_save_busy or wn_save_refuse must be called, once. Without this
   * callback the actor refuses to be saved. */
  void (*on_save)(void);
  /* A request; wn_reply answers it, now or in a later turn. */
  void (*on_request)(wn_reply_to from, wn_bytes body);
  void (*on_cast)(wn_bytes body);
  void (*on_info)(wn_bytes body);
  /* The answer to wn_request: `error` is NULL and `body` the reply, or `error` says why none. */
  void (*on_response)(wn_ref request, wn_bytes body, const wn_call_error *error);
  /* A monitored actor ended. */
  void (*on_down)(wn_ref monitor, wn_pid actor, const wn_exit_reason *reason);
  /* A linked actor ended; only after wasm_node_actor_process_trap_exit(true). */
  void (*on_exit)(wn_pid actor, const wn_exit_reason *reason);
  void (*on_timer)(wn_ref timer);
  /* The time of wn_wait_for passed without a message. */
  void (*on_timeout)(void);
  /* An actor whose group leader this is printed: a line, a part of one or several. Without this
   * callback the text goes on to this actor's own group leader. */
  void (*on_output)(wn_pid from, bool is_error, wn_bytes text);
  /* An actor whose group leader this is wants a line of input: wn_reply answers, with the line and
   * its end, or with nothing at the end of the input; now or in a later turn. Without this
   * callback there is no input. */
  void (*on_input_request)(wn_reply_to from);
  /* Any other message: spawned, registered, connected, name-conflict, node-up, node-down,
   * group-joined, group-left. */
  void (*on_other)(const wn_message *message);
} wn_actor;

/* The actor: defined by you. */
extern const wn_actor actor;

/* Bytes of a string, without its end. */
wn_bytes wn_string(const char *text);

/* Where a message may go. The name must outlive the call that it is used in. */
wn_destination wn_to_pid(wn_pid pid);
wn_destination wn_to_name(const char *name);
wn_destination wn_to_global(const char *name);

/* Messages out. False: the body is larger than the limit (64 MiB). */
bool wn_send(wn_pid to, wn_bytes body);
bool wn_cast(wn_destination to, wn_bytes body);
bool wn_reply(wn_reply_to to, wn_bytes body);
/* As wn_reply, with a text made as printf does. */
bool wn_replyf(wn_reply_to to, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Exactly one on_response with this ref follows. 0 ms: as long as the callee lives. */
wn_ref wn_request(wn_destination to, wn_bytes body, uint32_t timeout_ms);

wn_pid wn_self(void);
/* Where this actor's text goes and its input comes from. */
wn_pid wn_group_leader(void);
void wn_set_group_leader(wn_pid actor, wn_pid leader);
/* Asks for a line of standard input: on_response with this ref follows, with the line and its
 * end, or with nothing at the end of the input. 0 ms: as long as it takes. (With `wasi = true`,
 * stdin works too.) */
wn_ref wn_read_line(uint32_t timeout_ms);
/* To the log of this actor's node. */
typedef enum { WN_DEBUG, WN_INFO, WN_WARNING, WN_ERROR } wn_log_level;
void wn_log(wn_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* on_down follows when it ends, at once if there is no such actor. */
wn_ref wn_monitor(wn_pid actor);
/* on_timer with this ref follows after so many milliseconds. */
wn_ref wn_timer(uint32_t after_ms);
bool wn_pid_equal(wn_pid a, wn_pid b);
bool wn_ref_equal(wn_ref a, wn_ref b);

/* What this actor waits for when the turn has ended; the last call counts. Without any, the next
 * message. A stop drops what is still in the mailbox. */
void wn_wait_for(uint32_t ms);
void wn_hibernate(void);
void wn_stop(void);
void wn_stop_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The answers of on_save. The bytes are copied. */
void wn_save(wn_bytes state);
void wn_save_busy(void);
void wn_save_refuse(const char *why);

#endif
