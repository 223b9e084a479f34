/* What wasi-libc asks of WASI, answered by the actor's own imports: printing, clocks, randomness,
 * the end. With it printf works in an actor that imports no WASI, needs no adapter and runs
 * without a stack of its own. What is not here (files, sockets) stays undefined, and
 * `wasm-node build` says so. Left out when wasm-node.toml says `wasi = true`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

#include "bindings.h"

#define WASI(name) __imported_wasi_snapshot_preview1_##name

static bool is_output(int32_t fd) { return fd == 1 || fd == 2; }

/* Prints what it is given at once: stdio is line-buffered, so that is whole lines. */
int32_t WASI(fd_write)(int32_t fd, int32_t iovs, int32_t count, int32_t written) {
  if (!is_output(fd)) return __WASI_ERRNO_BADF;
  const __wasi_ciovec_t *parts = (const __wasi_ciovec_t *)iovs;
  size_t total = 0;
  for (int32_t i = 0; i < count; i++) total += parts[i].buf_len;
  /* stdio passes its buffer and the text that went over it as two parts of one line. */
  uint8_t *text = malloc(total ? total : 1);
  if (!text) return __WASI_ERRNO_NOMEM;
  size_t at = 0;
  for (int32_t i = 0; i < count; i++) {
    memcpy(text + at, parts[i].buf, parts[i].buf_len);
    at += parts[i].buf_len;
  }
  /* A string must be UTF-8; bytes that cannot be are shown as '?'. */
  for (size_t i = 0; i < total;) {
    size_t more = text[i] < 0x80 ? 0 : text[i] >= 0xf0 ? 3 : text[i] >= 0xe0 ? 2 : 1;
    bool valid = text[i] < 0x80 || (text[i] >= 0xc2 && text[i] <= 0xf4 && i + more < total);
    for (size_t k = 1; valid && k <= more; k++) valid = (text[i + k] & 0xc0) == 0x80;
    if (valid && more >= 2) {
      uint8_t first = text[i], second = text[i + 1];
      valid = !(first == 0xe0 && second < 0xa0) && !(first == 0xed && second > 0x9f) &&
              !(first == 0xf0 && second < 0x90) && !(first == 0xf4 && second > 0x8f);
    }
    if (!valid) {
      text[i] = '?';
      more = 0;
    }
    i += 1 + more;
  }
  if (total > 0) {
    bindings_string_t string = {text, total};
    if (fd == 1) {
      wasm_node_actor_io_print(&string);
    } else {
      wasm_node_actor_io_print_error(&string);
    }
  }
  free(text);
  *(__wasi_size_t *)written = total;
  return __WASI_ERRNO_SUCCESS;
}

int32_t WASI(fd_close)(int32_t fd) {
  return fd >= 0 && fd <= 2 ? __WASI_ERRNO_SUCCESS : __WASI_ERRNO_BADF;
}

int32_t WASI(fd_seek)(int32_t fd, int64_t offset, int32_t whence, int32_t position) {
  (void)offset, (void)whence, (void)position;
  return fd >= 0 && fd <= 2 ? __WASI_ERRNO_SPIPE : __WASI_ERRNO_BADF;
}

/* Standard input is at its end. */
int32_t WASI(fd_read)(int32_t fd, int32_t iovs, int32_t count, int32_t read) {
  (void)iovs, (void)count;
  if (fd != 0) return __WASI_ERRNO_BADF;
  *(__wasi_size_t *)read = 0;
  return __WASI_ERRNO_SUCCESS;
}

int32_t WASI(fd_fdstat_get)(int32_t fd, int32_t stat) {
  if (fd < 0 || fd > 2) return __WASI_ERRNO_BADF;
  memset((void *)stat, 0, sizeof(__wasi_fdstat_t));
  ((__wasi_fdstat_t *)stat)->fs_filetype = __WASI_FILETYPE_CHARACTER_DEVICE;
  return __WASI_ERRNO_SUCCESS;
}

/* No folders, no arguments, no environment. */
int32_t WASI(fd_prestat_get)(int32_t fd, int32_t stat) {
  (void)fd, (void)stat;
  return __WASI_ERRNO_BADF;
}

int32_t WASI(fd_prestat_dir_name)(int32_t fd, int32_t path, int32_t len) {
  (void)fd, (void)path, (void)len;
  return __WASI_ERRNO_BADF;
}

int32_t WASI(args_sizes_get)(int32_t count, int32_t size) {
  *(__wasi_size_t *)count = 0;
  *(__wasi_size_t *)size = 0;
  return __WASI_ERRNO_SUCCESS;
}

int32_t WASI(args_get)(int32_t args, int32_t buffer) {
  (void)args, (void)buffer;
  return __WASI_ERRNO_SUCCESS;
}

int32_t WASI(environ_sizes_get)(int32_t count, int32_t size) {
  return WASI(args_sizes_get)(count, size);
}

int32_t WASI(environ_get)(int32_t values, int32_t buffer) { return WASI(args_get)(values, buffer); }

int32_t WASI(clock_time_get)(int32_t clock, int64_t precision, int32_t time) {
  (void)precision;
  __wasi_timestamp_t *ns = (__wasi_timestamp_t *)time;
  switch (clock) {
  case 0: /* realtime */
    *ns = wasm_node_actor_timer_wall_clock() * 1000000;
    return __WASI_ERRNO_SUCCESS;
  case 1: /* monotonic */
    *ns = wasm_node_actor_timer_now();
    return __WASI_ERRNO_SUCCESS;
  default:
    return __WASI_ERRNO_INVAL;
  }
}

int32_t WASI(clock_res_get)(int32_t clock, int32_t resolution) {
  if (clock != 0 && clock != 1) return __WASI_ERRNO_INVAL;
  *(__wasi_timestamp_t *)resolution = clock == 0 ? 1000000 : 1;
  return __WASI_ERRNO_SUCCESS;
}

int32_t WASI(random_get)(int32_t buffer, int32_t len) {
  uint8_t *to = (uint8_t *)buffer;
  for (int32_t at = 0; at < len; at += 8) {
    uint64_t bits = wasm_node_actor_timer_random();
    memcpy(to + at, &bits, len - at < 8 ? (size_t)(len - at) : 8);
  }
  return __WASI_ERRNO_SUCCESS;
}

int32_t WASI(sched_yield)(void) { return __WASI_ERRNO_SUCCESS; }

/* exit() ends the actor by a trap; wn_stop is the orderly way. */
_Noreturn void WASI(proc_exit)(int32_t code) {
  char text[64];
  int len = snprintf(text, sizeof text, "exit(%d) was called in an actor\n", (int)code);
  bindings_string_t string = {(uint8_t *)text, (size_t)len};
  wasm_node_actor_io_print_error(&string);
  __builtin_trap();
}
