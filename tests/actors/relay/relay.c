/* Answers `GET /HOST:PORT` with the status that an HTTP request to there gives: 403 if it may not
 * make that one, 502 if there is no answer. */
#include "bindings.h"

/* The status of what is asked with this authority. */
static uint16_t ask(bindings_string_t host) {
  bindings_string_t path = {(uint8_t *)"/", 1};
  wasi_http_types_scheme_t scheme = {.tag = WASI_HTTP_TYPES_SCHEME_HTTP};
  wasi_http_types_own_outgoing_request_t asked =
      wasi_http_types_constructor_outgoing_request(wasi_http_types_constructor_fields());
  wasi_http_types_borrow_outgoing_request_t own = wasi_http_types_borrow_outgoing_request(asked);
  wasi_http_types_own_future_incoming_response_t future;
  wasi_http_types_error_code_t error;
  if (!wasi_http_types_method_outgoing_request_set_scheme(own, &scheme) ||
      !wasi_http_types_method_outgoing_request_set_authority(own, &host) ||
      !wasi_http_types_method_outgoing_request_set_path_with_query(own, &path)) {
    return 400;
  }
  if (!wasi_http_outgoing_handler_handle(asked, NULL, &future, &error)) return 502;
  wasi_http_types_borrow_future_incoming_response_t waiting =
      wasi_http_types_borrow_future_incoming_response(future);
  wasi_http_types_own_pollable_t ready =
      wasi_http_types_method_future_incoming_response_subscribe(waiting);
  wasi_http_types_result_result_own_incoming_response_error_code_void_t answer;
  wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(ready));
  wasi_io_poll_pollable_drop_own(ready);
  uint16_t status = 502;
  if (wasi_http_types_method_future_incoming_response_get(waiting, &answer) && !answer.is_err) {
    if (!answer.val.ok.is_err) {
      wasi_http_types_own_incoming_response_t response = answer.val.ok.val.ok;
      status = wasi_http_types_method_incoming_response_status(
          wasi_http_types_borrow_incoming_response(response));
      wasi_http_types_incoming_response_drop_own(response);
    } else if (answer.val.ok.val.err.tag == WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_DENIED) {
      status = 403;
    }
  }
  wasi_http_types_future_incoming_response_drop_own(future);
  return status;
}

void exports_wasi_http_incoming_handler_handle(
    exports_wasi_http_incoming_handler_own_incoming_request_t request,
    exports_wasi_http_incoming_handler_own_response_outparam_t out) {
  bindings_string_t path;
  uint16_t status = 400;
  if (wasi_http_types_method_incoming_request_path_with_query(
          wasi_http_types_borrow_incoming_request(request), &path) &&
      path.len > 1) {
    status = ask((bindings_string_t){path.ptr + 1, path.len - 1});
  }
  wasi_http_types_own_outgoing_response_t response =
      wasi_http_types_constructor_outgoing_response(wasi_http_types_constructor_fields());
  wasi_http_types_method_outgoing_response_set_status_code(
      wasi_http_types_borrow_outgoing_response(response), status);
  wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false};
  result.val.ok = response;
  wasi_http_types_static_response_outparam_set(out, &result);
  wasi_http_types_incoming_request_drop_own(request);
}
