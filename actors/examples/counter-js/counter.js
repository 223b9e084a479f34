// The counter of ../README.md.
import {
  actor, call, CallError, globalName, monitor, pidFromHex, pidToHex, self, text,
} from "wasm-node";

let count = 0n;
let downs = 0n;

const isNumber = (word) => /^[+-]?\d+$/.test(word) && BigInt.asIntN(64, BigInt(word)) === BigInt(word);

function add(n) {
  count = BigInt.asIntN(64, count + BigInt(n));
  return String(count);
}

// Asks another counter; other commands are served while this one waits.
function* ask(where, name, command) {
  try {
    return yield call(where === "local" ? name : globalName(name), command);
  } catch (error) {
    if (error instanceof CallError) return `error: ${error.reason.tag}`;
    throw error;
  }
}

function run(command) {
  const [verb, ...rest] = command.split(" ");
  if (verb === "add" && rest.length === 1 && isNumber(rest[0])) return add(rest[0]);
  if (command === "get") return String(count);
  if (verb === "watch") {
    const pid = pidFromHex(rest.join(" "));
    if (pid === undefined) return "error: a pid is 32 lower-case hex digits";
    monitor(pid);
    return "ok";
  }
  if (command === "downs") return String(downs);
  if (verb === "call") {
    const [where, name, ...words] = rest;
    if (!["local", "global"].includes(where) || !name || words.length === 0) {
      return "error: call local NAME COMMAND, or call global NAME COMMAND";
    }
    return ask(where, name, words.join(" "));
  }
  if (command === "pid") return pidToHex(self());
  return "error: unknown command";
}

export const lifecycle = actor({
  init(args) {
    const first = text(args);
    if (first !== "" && !isNumber(first)) throw new Error(`the arguments are no count: ${first}`);
    count = BigInt(first);
    console.log(`counter-js starts at ${count}`);
  },
  restore(saved) {
    const words = text(saved).split(" ");
    if (words.length !== 2 || !words.every(isNumber)) {
      throw new Error("the saved state is not COUNT DOWNS");
    }
    [count, downs] = words.map(BigInt);
    console.log(`counter-js goes on at ${count}`);
  },
  save: () => `${count} ${downs}`,
  call: (body) => run(text(body)),
  cast(body) {
    const [verb, n, ...rest] = text(body).split(" ");
    if (verb === "add" && rest.length === 0 && isNumber(n ?? "")) add(n);
  },
  down() {
    downs += 1n;
  },
});
