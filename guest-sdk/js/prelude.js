// What programs expect of a JavaScript engine and QuickJS lacks, or has without a host: console,
// TextEncoder and TextDecoder, timers, the clock, randomness. All of it goes through the actor's
// own imports, so that an actor imports no WASI and runs without a stack of its own.

import io from "wasm-node:actor/io";
import timer from "wasm-node:actor/timer";

// Imports do not work while the module is loaded, at build time.
let live = false;
export const goLive = () => { live = true; };

// --- text ---

class TextEncoder {
  encoding = "utf-8";

  encode(input = "") {
    const string = String(input);
    // The longest encoding: three bytes for each UTF-16 unit.
    const bytes = new Uint8Array(string.length * 3);
    let at = 0;
    for (let i = 0; i < string.length; i++) {
      let c = string.charCodeAt(i);
      if (c < 0x80) {
        bytes[at++] = c;
        continue;
      }
      if (c >= 0xd800 && c <= 0xdfff) {
        const low = c <= 0xdbff ? string.charCodeAt(i + 1) : NaN;
        if (low >= 0xdc00 && low <= 0xdfff) {
          c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
          i++;
        } else {
          c = 0xfffd;
        }
      }
      if (c < 0x800) {
        bytes[at++] = 0xc0 | (c >> 6);
      } else {
        if (c < 0x10000) {
          bytes[at++] = 0xe0 | (c >> 12);
        } else {
          bytes[at++] = 0xf0 | (c >> 18);
          bytes[at++] = 0x80 | ((c >> 12) & 0x3f);
        }
        bytes[at++] = 0x80 | ((c >> 6) & 0x3f);
      }
      bytes[at++] = 0x80 | (c & 0x3f);
    }
    return bytes.slice(0, at);
  }
}

// For each first byte of more than one: how many follow, and the range of the second.
function following(first) {
  if (first >= 0xc2 && first <= 0xdf) return [1, 0x80, 0xbf];
  if (first === 0xe0) return [2, 0xa0, 0xbf];
  if (first === 0xed) return [2, 0x80, 0x9f];
  if (first >= 0xe1 && first <= 0xef) return [2, 0x80, 0xbf];
  if (first === 0xf0) return [3, 0x90, 0xbf];
  if (first >= 0xf1 && first <= 0xf3) return [3, 0x80, 0xbf];
  if (first === 0xf4) return [3, 0x80, 0x8f];
  return undefined;
}

class TextDecoder {
  encoding = "utf-8";

  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    if (!/^utf-?8$/i.test(label)) throw new RangeError(`no such encoding here: ${label}`);
    this.fatal = fatal;
    this.ignoreBOM = ignoreBOM;
  }

  decode(input = new Uint8Array(0)) {
    const bytes = input instanceof Uint8Array
      ? input
      : ArrayBuffer.isView(input)
        ? new Uint8Array(input.buffer, input.byteOffset, input.byteLength)
        : new Uint8Array(input);
    const parts = [];
    let units = [];
    let i = !this.ignoreBOM && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
    while (i < bytes.length) {
      const first = bytes[i++];
      let c = first;
      if (first >= 0x80) {
        const rule = following(first);
        c = 0xfffd;
        if (rule) {
          let [more, low, high] = rule;
          let value = first & (0x3f >> more);
          while (more > 0 && bytes[i] >= low && bytes[i] <= high) {
            value = (value << 6) | (bytes[i++] & 0x3f);
            [low, high] = [0x80, 0xbf];
            more--;
          }
          if (more === 0) c = value;
          else if (this.fatal) throw new TypeError("not UTF-8");
        } else if (this.fatal) {
          throw new TypeError("not UTF-8");
        }
      }
      if (c >= 0x10000) {
        units.push(0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
      } else {
        units.push(c);
      }
      // fromCharCode takes its arguments on the stack.
      if (units.length >= 1024) {
        parts.push(String.fromCharCode.apply(null, units));
        units = [];
      }
    }
    parts.push(String.fromCharCode.apply(null, units));
    return parts.join("");
  }
}

// --- printing ---

function inspect(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return `${value}\n${value.stack ?? ""}`.trimEnd();
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value !== "object" || value === null) return String(value);
  try {
    return JSON.stringify(value, (_, v) => {
      if (typeof v === "bigint") return `${v}n`;
      if (v instanceof Map || v instanceof Set) return [...v];
      if (ArrayBuffer.isView(v) && !(v instanceof DataView)) return Array.from(v);
      return v;
    });
  } catch {
    return String(value);
  }
}

const line = (values) => `${values.map(inspect).join(" ")}\n`;
const out = (...values) => { if (live) io.print(line(values)); };
const err = (...values) => { if (live) io.printError(line(values)); };

// --- time ---

const NativeDate = globalThis.Date;
const nowMs = () => live ? timer.wallClock() : NativeDate.now();

// As the engine's, but for what asks the clock.
globalThis.Date = new Proxy(NativeDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length > 0 ? args : [nowMs()], newTarget),
  apply: () => new globalThis.Date().toString(),
  get: (target, key, receiver) => key === "now" ? nowMs : Reflect.get(target, key, receiver),
});
NativeDate.prototype.constructor = globalThis.Date;

// Callbacks of setTimeout and setInterval, by number, and the number by the timer's ref.
const timeouts = new Map();
const numbers = new Map();
let lastNumber = 0;
const keyOf = (ref) => `${ref.node}.${ref.serial}`;

function startTimeout(number, timeout) {
  timeout.ref = timer.start(Math.max(0, Math.min(0x7fffffff, Math.ceil(timeout.ms) || 0)));
  timeouts.set(number, timeout);
  numbers.set(keyOf(timeout.ref), number);
}

function clear(number) {
  const timeout = timeouts.get(number);
  if (timeout === undefined) return;
  timer.cancel(timeout.ref);
  timeouts.delete(number);
  numbers.delete(keyOf(timeout.ref));
}

// Runs the callback that this timer is for; false if it is for none.
export function fireTimeout(ref) {
  const number = numbers.get(keyOf(ref));
  if (number === undefined) return false;
  numbers.delete(keyOf(ref));
  const timeout = timeouts.get(number);
  timeouts.delete(number);
  if (timeout.repeat) startTimeout(number, timeout);
  timeout.callback(...timeout.args);
  return true;
}

function later(repeat) {
  return (callback, ms = 0, ...args) => {
    startTimeout(++lastNumber, { callback, ms, args, repeat });
    return lastNumber;
  };
}

// --- randomness ---

// The engine's generator was seeded at build time: every actor would draw the same numbers. A u64
// arrives as a double, whose high 32 bits are all exact.
const random32 = () => Math.min(0xffffffff, Math.floor(timer.random() / 0x1_0000_0000));
const nativeRandom = Math.random;
Math.random = () => {
  if (!live) return nativeRandom();
  return (random32() * 0x20_0000 + (random32() >>> 11)) / 2 ** 53;
};

const crypto = {
  getRandomValues(array) {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    for (let i = 0; i < bytes.length; i += 4) {
      const bits = random32();
      for (let k = 0; k < 4 && i + k < bytes.length; k++) bytes[i + k] = bits >>> (8 * k);
    }
    return array;
  },
};

Object.assign(globalThis, {
  TextEncoder,
  TextDecoder,
  console: { log: out, info: out, debug: out, warn: err, error: err, trace: err },
  crypto,
  performance: { now: () => timer.now() / 1e6 },
  setTimeout: later(false),
  setInterval: later(true),
  clearTimeout: clear,
  clearInterval: clear,
});
