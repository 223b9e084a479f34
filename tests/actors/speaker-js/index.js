// Prints, reads and logs as it is told: see ../speaker.
import { actor, groupLeader, log, pidToHex, readLine, self, setGroupLeader, text } from "wasm-node";

let heard = "";

function* read() {
  const line = yield readLine();
  return line === "" ? "end" : `line ${line.trimEnd()}`;
}

function run(words) {
  const [verb, ...rest] = words.split(" ");
  switch (verb) {
    case "print":
      console.log(rest.join(" "));
      return "ok";
    case "error":
      console.error(rest.join(" "));
      return "ok";
    case "read":
      return read();
    case "leader":
      return pidToHex(groupLeader());
    case "lead-self":
      setGroupLeader(self(), self());
      return "ok";
    case "heard":
      return heard;
    case "log":
      log("warning", "JavaScript was told to", { words, count: 3 });
      return "ok";
  }
  return "error";
}

export const lifecycle = actor({
  call: (body) => run(text(body)),
  output({ kind, text }) {
    heard += `${kind} ${text.trimEnd()};`;
  },
  input: () => "from itself\n",
});
