//! An actor that does with global names and locks what it is told: a call of words, answered by
//! words. Pids are written as 32 hexadecimal digits.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasm_node_sdk::registry::global::{self, Dispute, LockId, Resolver, Wait};
use wasm_node_sdk::{
    CallError, CallReturn, Caller, GenServer, Info, Init, Next, Pid, RegisterError, ServerRef,
    StartError, node, self_pid, trap_exit,
};

/// How long one clerk waits for another.
const PATIENCE: Duration = Duration::from_secs(30);

/// The actor.
#[derive(Serialize, Deserialize)]
pub struct Clerk {
    /// A number that others read and write, each in a call of its own.
    count: u64,
    /// What it was told and did not ask for.
    seen: Vec<String>,
    /// Whom it decides for: `own`, `other`, `neither`; or it does not answer.
    verdict: String,
}

/// What it is called with.
pub enum Ask {
    /// Words.
    Words(String),
    /// Who keeps a name?
    Dispute(Dispute),
}

impl Serialize for Ask {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Words(words) => words.serialize(to),
            Self::Dispute(dispute) => dispute.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Ask {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::Words)
    }
}

impl GenServer for Clerk {
    const MODULE: &'static str = "clerk";
    type Args = ();
    type Call = Ask;
    type Reply = Vec<u8>;
    type Cast = ();

    fn decode_args(_: &[u8]) -> Result<(), String> {
        Ok(())
    }
    fn encode_call(ask: &Ask) -> Vec<u8> {
        match ask {
            Ask::Words(words) => words.clone().into_bytes(),
            Ask::Dispute(dispute) => wasm_node_sdk::encode(dispute),
        }
    }
    /// Words are printable; the first byte of a dispute is the length of a short name.
    fn decode_call(bytes: &[u8]) -> Result<Ask, String> {
        match bytes.first() {
            Some(b' '..) => String::from_utf8(bytes.into())
                .map(Ask::Words)
                .map_err(|error| error.to_string()),
            _ => wasm_node_sdk::decode(bytes).map(Ask::Dispute),
        }
    }
    fn encode_reply(reply: &Vec<u8>) -> Vec<u8> {
        reply.clone()
    }
    fn decode_reply(bytes: &[u8]) -> Result<Vec<u8>, String> {
        Ok(bytes.into())
    }

    async fn init(_: ()) -> Init<Self> {
        trap_exit(true);
        Init::Ok(Self {
            count: 0,
            seen: Vec::new(),
            verdict: "own".into(),
        })
    }

    async fn handle_call(&mut self, ask: Ask, _: Caller<Vec<u8>>) -> CallReturn<Vec<u8>> {
        let words = match ask {
            Ask::Words(words) => words,
            Ask::Dispute(dispute) => {
                self.seen.push(format!("dispute {}", dispute.name));
                let keep = match self.verdict.as_str() {
                    "own" => Some(dispute.own),
                    "other" => Some(dispute.other),
                    "neither" => None,
                    _ => return CallReturn::NoReply,
                };
                return CallReturn::Reply(wasm_node_sdk::encode(&keep));
            }
        };
        let words: Vec<_> = words.split(' ').collect();
        match self.obey(&words).await {
            Some(answer) => CallReturn::Reply(answer.into_bytes()),
            None => CallReturn::Reply(format!("what is {words:?}?").into_bytes()),
        }
    }

    async fn handle_info(&mut self, info: Info) -> Next {
        self.seen.push(match info {
            Info::Message(body) => format!("message {}", String::from_utf8_lossy(&body)),
            Info::NameConflict { name, winner } => format!("conflict {name} {}", winner.to_hex()),
            Info::Exit { reason, .. } => format!("exit {}", reason.describe()),
            other => format!("{other:?}"),
        });
        Next::Wait
    }
}

impl Clerk {
    async fn obey(&mut self, words: &[&str]) -> Option<String> {
        Some(match *words {
            ["id"] => self_pid().to_hex(),
            ["seen"] => self.seen.join("; "),
            ["verdict", whom] => {
                self.verdict = whom.into();
                "ok".into()
            }
            ["register", name] => told(global::register(name, self_pid()).await),
            ["register", name, by] => {
                told(global::register_with(name, self_pid(), &resolver(by)?).await)
            }
            ["register-for", name, pid] => told(global::register(name, Pid::from_hex(pid)?).await),
            ["re-register", name] => {
                told(global::re_register(name, self_pid(), &Resolver::NotifyLoser).await)
            }
            ["unregister", name] => global::unregister(name).to_string(),
            ["whereis", name] => pid_text(global::whereis(name)),
            ["names"] => global::registered().join(" "),
            ["send", name, text] => pid_text(global::send(name, text.as_bytes())),
            // Looks a name up so often; how many times nobody had it.
            ["watch", name, times] => {
                let mut gaps = 0;
                for _ in 0..times.parse::<u32>().ok()? {
                    gaps += u32::from(global::whereis(name).is_none());
                    wasm_node_sdk::sleep(Duration::from_millis(1)).await;
                }
                gaps.to_string()
            }
            ["start", name] => match ServerRef::<Self>::start(&()).global(name).await {
                Ok(server) => format!("started {}", pid_text(server.as_pid())),
                Err(StartError::AlreadyStarted(pid)) => format!("already-started {}", pid.to_hex()),
                Err(error) => error.to_string(),
            },
            // Asks whoever has a global name.
            ["ask", name, ..] => ask(name, &words[2..].join(" ")).await.ok()?,
            ["lock", resource, wait] => {
                told(global::set_lock(&LockId::new(resource), waiting(wait)?).await)
            }
            ["lock", resource, wait, requester] => {
                told(global::set_lock(&LockId::shared(resource, requester), waiting(wait)?).await)
            }
            ["unlock", resource] => global::del_lock(&LockId::new(resource)).to_string(),
            ["unlock", resource, requester] => {
                global::del_lock(&LockId::shared(resource, requester)).to_string()
            }
            ["get"] => self.count.to_string(),
            ["set", count] => {
                self.count = count.parse().ok()?;
                "ok".into()
            }
            // Adds to the count of whoever has a global name, so often, in two calls each that
            // only a lock keeps together.
            ["count", counter, resource, times] => {
                let lock = LockId::new(resource);
                for _ in 0..times.parse::<u32>().ok()? {
                    let add = async || {
                        let count: u64 = ask(counter, "get").await?.parse().unwrap_or(0);
                        ask(counter, &format!("set {}", count + 1)).await
                    };
                    match global::trans(&lock, Wait::Endless, add).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => return Some(error.describe().into()),
                        Err(error) => return Some(error.describe().into()),
                    }
                }
                "ok".into()
            }
            ["connect", other] => match node::connect(other).await {
                Ok(_) => "ok".into(),
                Err(error) => error,
            },
            ["disconnect", other] => node::disconnect(other).to_string(),
            _ => return None,
        })
    }
}

async fn ask(name: &str, words: &str) -> Result<String, CallError> {
    let server = ServerRef::<Clerk>::global(name);
    let words = Ask::Words(words.into());
    let answer = server.call_timeout(words, Some(PATIENCE)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn told(result: Result<(), RegisterError>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(RegisterError::Taken(pid)) => format!("taken {}", pid.to_hex()),
        Err(error) => error.describe().into(),
    }
}

fn pid_text(pid: Option<Pid>) -> String {
    pid.map_or_else(|| "none".into(), Pid::to_hex)
}

fn resolver(word: &str) -> Option<Resolver> {
    Some(match word {
        "notify-loser" => Resolver::NotifyLoser,
        "exit-loser" => Resolver::ExitLoser,
        "notify-all" => Resolver::NotifyAll,
        _ => Resolver::Ask(word.strip_prefix("ask:")?.into()),
    })
}

fn waiting(word: &str) -> Option<Wait> {
    Some(match word {
        "try" => Wait::Try,
        "endless" => Wait::Endless,
        ms => Wait::For(Duration::from_millis(ms.parse().ok()?)),
    })
}

wasm_node_sdk::export_gen_server!(Clerk);
