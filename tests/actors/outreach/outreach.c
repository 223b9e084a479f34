/* Imports everything that takes a capability, and tries it. Requests, and their replies:
 *
 *     open BUCKET        `ok`: opens it, writes and reads it
 *     connect HOST:PORT  `ok`: a connection to an IPv4 address
 *     request HOST:PORT  the status of the answer to an HTTP request; `secure` to one by TLS
 *
 * Where that is not allowed: `access denied`, or `denied` for the request. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "wasm_node.h"

static bindings_string_t text_of(const char *text) {
  return (bindings_string_t){(uint8_t *)text, strlen(text)};
}

static void open_bucket(wn_reply_to from, const char *name) {
  bindings_string_t bucket_name = text_of(name), key = text_of("key");
  bindings_list_u8_t value = {(uint8_t *)"value", 5};
  bindings_option_list_u8_t found;
  wasi_keyvalue_store_own_bucket_t bucket;
  wasi_keyvalue_store_error_t error;
  if (!wasi_keyvalue_store_open(&bucket_name, &bucket, &error)) {
    bool denied = error.tag == WASI_KEYVALUE_STORE_ERROR_ACCESS_DENIED;
    wn_replyf(from, denied ? "access denied" : "error: case %d", error.tag);
    return;
  }
  wasi_keyvalue_store_borrow_bucket_t own = wasi_keyvalue_store_borrow_bucket(bucket);
  bool done = wasi_keyvalue_store_method_bucket_set(own, &key, &value, &error) &&
              wasi_keyvalue_store_method_bucket_get(own, &key, &found, &error) && found.is_some;
  wasi_keyvalue_store_bucket_drop_own(bucket);
  wn_replyf(from, done ? "ok" : "error: case %d", error.tag);
}

static void wait_for(wasi_io_poll_own_pollable_t pollable) {
  wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(pollable));
  wasi_io_poll_pollable_drop_own(pollable);
}

static void failed_socket(wn_reply_to from, int code) {
  bool denied = code == WASI_SOCKETS_NETWORK_ERROR_CODE_ACCESS_DENIED;
  wn_replyf(from, denied ? "access denied" : "error: code %d", code);
}

static void connect_to(wn_reply_to from, const uint8_t ip[4], uint16_t port) {
  wasi_sockets_tcp_own_tcp_socket_t socket;
  wasi_sockets_network_error_code_t code;
  if (!wasi_sockets_tcp_create_socket_create_tcp_socket(
          WASI_SOCKETS_NETWORK_IP_ADDRESS_FAMILY_IPV4, &socket, &code)) {
    failed_socket(from, code);
    return;
  }
  wasi_sockets_network_own_network_t network = wasi_sockets_instance_network_instance_network();
  wasi_sockets_network_ip_socket_address_t to = {.tag = WASI_SOCKETS_NETWORK_IP_SOCKET_ADDRESS_IPV4};
  to.val.ipv4.port = port;
  memcpy(&to.val.ipv4.address, ip, 4);
  wasi_sockets_tcp_borrow_tcp_socket_t own = wasi_sockets_tcp_borrow_tcp_socket(socket);
  wasi_sockets_tcp_tuple2_own_input_stream_own_output_stream_t streams;
  bool connected = wasi_sockets_tcp_method_tcp_socket_start_connect(
      own, wasi_sockets_network_borrow_network(network), &to, &code);
  if (connected) {
    wait_for(wasi_sockets_tcp_method_tcp_socket_subscribe(own));
    connected = wasi_sockets_tcp_method_tcp_socket_finish_connect(own, &streams, &code);
  }
  if (connected) {
    wasi_io_streams_input_stream_drop_own(streams.f0);
    wasi_io_streams_output_stream_drop_own(streams.f1);
    wn_replyf(from, "ok");
  } else {
    failed_socket(from, code);
  }
  wasi_sockets_tcp_tcp_socket_drop_own(socket);
  wasi_sockets_network_network_drop_own(network);
}

static void failed_request(wn_reply_to from, int code) {
  bool denied = code == WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_DENIED;
  wn_replyf(from, denied ? "denied" : "error: code %d", code);
}

static void request(wn_reply_to from, uint8_t of, const char *authority) {
  bindings_string_t host = text_of(authority), path = text_of("/");
  wasi_http_types_scheme_t scheme = {.tag = of};
  wasi_http_types_own_outgoing_request_t asked =
      wasi_http_types_constructor_outgoing_request(wasi_http_types_constructor_fields());
  wasi_http_types_borrow_outgoing_request_t own = wasi_http_types_borrow_outgoing_request(asked);
  wasi_http_types_own_future_incoming_response_t future;
  wasi_http_types_error_code_t error;
  if (!wasi_http_types_method_outgoing_request_set_scheme(own, &scheme) ||
      !wasi_http_types_method_outgoing_request_set_authority(own, &host) ||
      !wasi_http_types_method_outgoing_request_set_path_with_query(own, &path)) {
    wn_replyf(from, "error: no such request");
    return;
  }
  if (!wasi_http_outgoing_handler_handle(asked, NULL, &future, &error)) {
    failed_request(from, error.tag);
    return;
  }
  wasi_http_types_borrow_future_incoming_response_t waiting =
      wasi_http_types_borrow_future_incoming_response(future);
  wasi_http_types_result_result_own_incoming_response_error_code_void_t answer;
  wait_for(wasi_http_types_method_future_incoming_response_subscribe(waiting));
  if (!wasi_http_types_method_future_incoming_response_get(waiting, &answer) || answer.is_err) {
    wn_replyf(from, "error: no answer");
  } else if (answer.val.ok.is_err) {
    failed_request(from, answer.val.ok.val.err.tag);
  } else {
    wasi_http_types_own_incoming_response_t response = answer.val.ok.val.ok;
    wn_replyf(from, "%d", wasi_http_types_method_incoming_response_status(
                              wasi_http_types_borrow_incoming_response(response)));
    wasi_http_types_incoming_response_drop_own(response);
  }
  wasi_http_types_future_incoming_response_drop_own(future);
}

static void on_request(wn_reply_to from, wn_bytes body) {
  char text[512], word[256];
  uint8_t ip[4];
  uint16_t port;
  size_t len = body.len < sizeof text ? body.len : sizeof text - 1;
  memcpy(text, body.ptr, len);
  text[len] = '\0';
  if (sscanf(text, "open %255s", word) == 1) {
    open_bucket(from, word);
  } else if (sscanf(text, "connect %" SCNu8 ".%" SCNu8 ".%" SCNu8 ".%" SCNu8 ":%" SCNu16, &ip[0], &ip[1],
                    &ip[2], &ip[3], &port) == 5) {
    connect_to(from, ip, port);
  } else if (sscanf(text, "request %255s", word) == 1) {
    request(from, WASI_HTTP_TYPES_SCHEME_HTTP, word);
  } else if (sscanf(text, "secure %255s", word) == 1) {
    request(from, WASI_HTTP_TYPES_SCHEME_HTTPS, word);
  } else {
    wn_replyf(from, "error: open BUCKET, connect HOST:PORT, or request HOST:PORT");
  }
}

static void on_save(void) { wn_save(wn_string("")); }

const wn_actor actor = {.on_request = on_request, .on_save = on_save};
