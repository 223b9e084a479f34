// Actors in JavaScript. The main file of an actor says
//
//     import { actor } from "wasm-node";
//     export const lifecycle = actor({ call(body, from) { return body; } });
//
// An actor has a memory of its own, so its state is simply variables of the module. Handlers, all
// optional; `body`, `args` and `saved` are Uint8Arrays, and bytes that you give may be a
// Uint8Array or a string, which is sent as UTF-8:
//
//     init(args)                a new actor, with the arguments of its spawn
//     restore(saved)            an actor that goes on from what `save` gave
//     save()                    returns the state as bytes
//     call(body, from)          a request: returns the reply, or undefined to `reply(from, ...)` later
//     cast(body)  info(body)
//     down({ monitor, actor, reason })   exit({ actor, reason })
//     joined({ monitor, group, actors })   left({ monitor, group, actors })   of monitored groups
//     output({ actor, kind, text })   an actor whose group leader this is printed: text as it came
//     input(from)               one wants a line of input: as `call`, "" at the end of the input
//     timer(ref)  timeout()  message(message)    `message` gets what no other handler takes
//
// A handler may be a generator: `const answer = yield call("other", "get")` waits for the answer
// while the actor goes on with other messages. (`await` does not work: the engine runs no
// promises between turns.) An exception in a handler ends the actor with that error.
//
// The functions of the contract are imports, as in
// `import process from "wasm-node:actor/process"`; they only work once the actor runs, not while
// the module is loaded.

import io from "wasm-node:actor/io";
import mailbox from "wasm-node:actor/mailbox";
import process from "wasm-node:actor/process";
import timer from "wasm-node:actor/timer";
import { fireTimeout, goLive } from "./prelude.js";

// What the current turn ends with.
let outcome = { tag: "wait" };
// Operations whose answers generators may wait for, by ref.
const pendings = new Map();
// Generators that wait.
let suspended = 0;

const keyOf = (ref) => `${ref.node}.${ref.serial}`;

/** UTF-8 of a string; a Uint8Array stays what it is. */
export const bytes = (data) => typeof data === "string" ? new TextEncoder().encode(data) : data;

/** The string that these bytes are in UTF-8. */
export const text = (data) => new TextDecoder().decode(data);

/** A pid as 32 hex digits, as the counter examples write it. */
export const pidToHex = ({ node, serial }) =>
  [node, serial].map((n) => n.toString(16).padStart(16, "0")).join("");

/** The pid that 32 hex digits stand for; undefined if they are none. */
export function pidFromHex(hex) {
  if (!/^[0-9a-f]{32}$/.test(hex)) return undefined;
  return { node: parseInt(hex.slice(0, 16), 16), serial: parseInt(hex.slice(16), 16) };
}

/** A destination: of a pid, of a string (a name on this node), or one as in the contract. */
export function destination(to) {
  if (typeof to === "string") return { tag: "name", val: to };
  return to.tag === undefined ? { tag: "pid", val: to } : to;
}

/** The destination of a name in the global registry. */
export const globalName = (name) => ({ tag: "global", val: name });

/** An operation that a generator may `yield` to get its answer; failures are thrown. */
class Pending {
  constructor(ref) {
    this.ref = ref;
    this.answer = undefined;
    this.resume = undefined;
    pendings.set(keyOf(ref), this);
  }
  settle(answer) {
    pendings.delete(keyOf(this.ref));
    this.answer = answer;
    this.resume?.(answer);
  }
}

/** A line of input that is to come, as text. */
class Line extends Pending {
  settle(answer) {
    super.settle(answer.error === undefined ? { value: text(answer.value) } : answer);
  }
}

/** Why a call got no reply; `reason` is the contract's call-error. */
export class CallError extends Error {
  constructor(reason) {
    super(`call failed: ${reason.tag}`);
    this.name = "CallError";
    this.reason = reason;
  }
}

/** Sends an `info` to a destination. */
export const send = (to, body) => mailbox.sendTo(destination(to), bytes(body));
/** Sends a `cast` to a destination. */
export const cast = (to, body) => mailbox.cast(destination(to), bytes(body));
/** Answers a request. */
export const reply = (from, body) => mailbox.reply(from, bytes(body));
/** Sends a request; `yield` it for the reply. Without a time-out (null) it waits as long as the callee lives. */
export const call = (to, body, timeoutMs = 5000) =>
  new Pending(mailbox.request(destination(to), bytes(body), timeoutMs));
/** The next line of standard input: `yield` it for the line with its end, "" at the end of the
 *  input. Without a time-out (null) it waits as long as it takes. */
export const readLine = (timeoutMs = null) => new Line(io.readLine(timeoutMs));
/** Where this actor's text goes and its lines come from. */
export const groupLeader = () => process.groupLeader();
/** Gives an actor another group leader. */
export const setGroupLeader = (target, leader) => process.setGroupLeader(target, leader);
/** Writes to the log of this actor's node: "debug", "info", "warning" or "error", a text, and an
 *  object of named values. */
export const log = (level, words, fields = {}) =>
  io.log(level, words, Object.entries(fields).map(([name, value]) => [name, show(value)]));
/** `yield` it to wait so long. */
export const sleep = (ms) => new Pending(timer.start(ms));
/** `yield` it for the answer to an operation of the contract that returned this ref. */
export const answerOf = (ref) => new Pending(ref);
/** Asks for a `down` when the actor ends; returns the monitor's ref. */
export const monitor = (to) => process.monitor(destination(to));
/** This actor's pid. */
export const self = () => process.self();

/** Ends the actor when this handler returns: normally, or with an exit reason of the contract. */
export const stop = (reason = { tag: "normal" }) => { outcome = { tag: "stop", val: reason }; };
/** Asks for `timeout` if no message comes within so many milliseconds. */
export const waitFor = (ms) => { outcome = { tag: "wait-for", val: ms }; };
/** Tells the host that the next message may take long. */
export const hibernate = () => { outcome = { tag: "hibernate" }; };

function fail(error) {
  const words = error instanceof Error ? `${error}\n${error.stack ?? ""}`.trimEnd() : show(error);
  io.printError(`${words}\n`);
  stop({ tag: "error", val: words });
}

const show = (value) => {
  try {
    return typeof value === "string" ? value : JSON.stringify(value);
  } catch {
    return String(value);
  }
};

// Runs a handler's result to its end: a generator step by step, anything else at once.
function finish(result, done) {
  if (result instanceof Promise) {
    throw new TypeError("a handler returned a promise, which never settles here: use function* and yield");
  }
  if (typeof result?.next !== "function") {
    done(result);
    return;
  }
  const step = (answer) => {
    try {
      for (;;) {
        const { done: ended, value } = answer?.error !== undefined
          ? result.throw(answer.error)
          : result.next(answer?.value);
        if (ended) {
          done(value);
          return;
        }
        if (!(value instanceof Pending)) {
          answer = { error: new TypeError("yield takes what call, sleep or answerOf return") };
        } else if (value.answer !== undefined) {
          answer = value.answer;
        } else {
          suspended += 1;
          value.resume = (later) => {
            suspended -= 1;
            step(later);
          };
          return;
        }
      }
    } catch (error) {
      fail(error);
    }
  };
  step(undefined);
}

// Hands the answer to whoever holds the pending operation; false if nobody does.
function settle(ref, answer) {
  const pending = pendings.get(keyOf(ref));
  pending?.settle(answer);
  return pending !== undefined;
}

const resultOf = (result, error) =>
  result.tag === "ok" ? { value: result.val } : { error: error(result.val) };

// Text of others that nobody takes goes where this actor's own goes; but never round in a circle.
function passOn(kind, data) {
  const [leader, own] = [process.groupLeader(), process.self()];
  if (leader.node === own.node && leader.serial === own.serial) return;
  (kind === "stderr" ? io.printError : io.print)(text(data));
}

function deliver(handlers, message) {
  const { tag, val } = message;
  const nothing = () => {};
  switch (tag) {
    case "request": {
      const [from, body] = val;
      if (!handlers.call) break;
      finish(handlers.call(body, from), (answer) => {
        if (answer !== undefined) reply(from, answer);
      });
      return;
    }
    case "cast":
    case "info":
      if (!handlers[tag]) break;
      finish(handlers[tag](val), nothing);
      return;
    case "timeout":
      if (!handlers.timeout) break;
      finish(handlers.timeout(), nothing);
      return;
    case "timer":
      if (fireTimeout(val) || settle(val, { value: undefined })) return;
      if (!handlers.timer) break;
      finish(handlers.timer(val), nothing);
      return;
    case "down": {
      const [ref, actor, reason] = val;
      if (settle(ref, { value: { monitor: ref, actor, reason } })) return;
      if (!handlers.down) break;
      finish(handlers.down({ monitor: ref, actor, reason }), nothing);
      return;
    }
    case "exit": {
      const [actor, reason] = val;
      if (!handlers.exit) break;
      finish(handlers.exit({ actor, reason }), nothing);
      return;
    }
    case "group-joined":
    case "group-left": {
      const handler = tag === "group-joined" ? handlers.joined : handlers.left;
      if (!handler) break;
      const [monitor, group, actors] = val;
      finish(handler.call(handlers, { monitor, group, actors }), nothing);
      return;
    }
    case "output": {
      const [actor, kind, data] = val;
      if (handlers.output) finish(handlers.output({ actor, kind, text: text(data) }), nothing);
      else passOn(kind, data);
      return;
    }
    case "input-request":
      finish(handlers.input ? handlers.input(val) : "", (line) => {
        if (line !== undefined) reply(val, line);
      });
      return;
    case "response":
      if (settle(val[0], resultOf(val[1], (reason) => new CallError(reason)))) return;
      break;
    case "spawned":
    case "registered":
    case "connected":
      if (settle(val[0], resultOf(val[1], (why) => new Error(`${tag}: ${show(why)}`)))) return;
      break;
  }
  if (handlers.message) finish(handlers.message(message), nothing);
}

function takeOutcome() {
  const taken = outcome;
  outcome = { tag: "wait" };
  return taken;
}

/** The export `lifecycle` of an actor with these handlers. */
export function actor(handlers) {
  return {
    init(start) {
      goLive();
      try {
        const restored = start.tag === "restored" && handlers.restore;
        const begin = restored ? handlers.restore : handlers.init;
        const bytes = restored || start.tag === "fresh" ? start.val : new Uint8Array(0);
        if (begin) finish(begin.call(handlers, bytes), () => {});
      } catch (error) {
        fail(error);
      }
      const taken = takeOutcome();
      if (taken.tag === "stop" && taken.val.tag !== "normal") throw taken.val;
      return taken;
    },
    turn() {
      let message;
      while (outcome.tag !== "stop" && (message = mailbox.next()) != null) {
        try {
          deliver(handlers, message);
        } catch (error) {
          fail(error);
        }
      }
      return takeOutcome();
    },
    save() {
      if (suspended > 0) throw { tag: "busy" };
      if (!handlers.save) throw { tag: "refused", val: "it has no save handler" };
      try {
        return bytes(handlers.save());
      } catch (error) {
        throw { tag: "refused", val: String(error) };
      }
    },
  };
}
