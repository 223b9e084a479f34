"""python3 -m unittest discover tests/bench"""

import unittest

from common import profile, wrk

WRK = """Running 3s test @ http://127.0.0.1:5454
  1 threads and 28 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     4.47ms    5.68ms  66.01ms   88.40%
    Req/Sec     6.86k     1.21k    9.01k    70.00%
  Latency Distribution
     50%    2.46ms
     75%    5.18ms
     90%  900.00us
     99%    1.20s 
  20522 requests in 3.01s, 2.87MB read
  Socket errors: connect 0, read 2, write 0, timeout 1
  Non-2xx or 3xx responses: 4
Requests/sec:   6825.44
Transfer/sec:      0.95MB
"""

PERF = """lane-1 4711
        7f00 __memmove_avx_unaligned_erms (/usr/lib/libc.so.6)
        5501 <redb::tree::Btree as core::ops::Drop>::drop+0x12 (/x/wasm-node)
        5502 wasm_node::store::writer::run (/x/wasm-node)

io 4712
        ffff80 tcp_sendmsg_locked ([kernel.kallsyms])
        ffff81 __x64_sys_sendto ([kernel.kallsyms])
        5503 tokio::net::tcp::write (/x/wasm-node)

lane-2 4713
        7e00 function[3]::turn (/tmp/data/compiled/abc.cwasm)
        5504 wasmtime::runtime::func::Func::call (/x/wasm-node)

lane-2 4713
        7e00 nobody_knows (/x/wasm-node)
"""


class Wrk(unittest.TestCase):
    def test_all_numbers_are_found(self):
        run = wrk.parse(WRK)
        self.assertEqual(
            run,
            {"requests_per_s": 6825.44, "p50_ms": 2.46, "p99_ms": 1200.0, "requests": 20522, "errors": 7},
        )

    def test_no_complaint_is_no_error(self):
        quiet = "\n".join(l for l in WRK.splitlines() if "errors" not in l and "Non-2xx" not in l)
        self.assertEqual(wrk.parse(quiet)["errors"], 0)

    def test_several_at_once_add_up_and_the_slowest_counts(self):
        one = wrk.parse(WRK)
        both = wrk.together([one, one | {"p99_ms": 1500.0, "errors": 0}])
        self.assertEqual((both["requests"], both["p99_ms"], both["errors"]), (41044, 1500.0, 7))
        middle = wrk.median([one, one | {"p50_ms": 9.0}, one | {"p50_ms": 3.0}])
        self.assertEqual((middle["p50_ms"], middle["errors"]), (3.0, 21))


class Profile(unittest.TestCase):
    def test_a_sample_counts_for_the_innermost_part_that_is_known(self):
        seen = profile.read(PERF.splitlines(keepends=True))
        self.assertEqual(
            seen.parts,
            {"store": 1, "kernel: sockets": 1, "wasm: the actors' own code": 1, "other: unknown": 1},
        )
        self.assertEqual(seen.threads, {"lane": 3, "io": 1})
        self.assertEqual(seen.mostly("store"), "__memmove_avx_unaligned_erms")

    def test_samples_become_microseconds_a_request(self):
        seen = profile.read(PERF.splitlines(keepends=True))
        [(_, us), *_] = profile.microseconds(seen.parts, 100)
        self.assertAlmostEqual(us, 1e6 / profile.SAMPLES_PER_S / 100)

    def test_functions_have_short_names(self):
        for symbol, name in (
            ("<bytes::Bytes as bytes::Buf>::copy_to_bytes+0x12", "Buf::copy_to_bytes"),
            ("core::ptr::drop_in_place<alloc::vec::Vec<u8>>", "ptr::drop_in_place"),
            ("tokio::park::{{closure}}", "tokio::park"),
            ("tcp_sendmsg_locked", "tcp_sendmsg_locked"),
            ("function[7]::_RNvNtCs4GRaDziRlXQ_13wasm_node_sdk7runtime4wake", "runtime::wake"),
        ):
            self.assertEqual(profile.short(symbol), name)


if __name__ == "__main__":
    unittest.main()
