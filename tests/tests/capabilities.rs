//! What actors may touch: granted by a node's policy and an app's manifest, shrinking from parent to
//! child, on one node and across two. `tests/actors/reach` tries files and variables and starts
//! others; `tests/actors/outreach` imports everything that takes a capability.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wasm_node_tests::component::with_custom_section;
use wasm_node_tests::http::Connection;
use wasm_node_tests::node::{Node, PATIENCE, Site, component, test_actor};

const N1: &str = "n1@127.0.0.1";
const N2: &str = "n2@127.0.0.1";

/// A node of a site with a policy.
fn start(site: &Site, node: &str, policy: &str, more: &[&str]) -> Result<Node> {
    let file = site.path(format!("{node}-policy.toml"));
    std::fs::write(&file, policy)?;
    let file = file.to_str().context("no UTF-8")?;
    site.start(node, &[&["--policy", file], more].concat())
}

/// A module's table in a policy.
fn rule(module: &str, capabilities: &[&str]) -> String {
    format!(
        "[modules.{module}]\ncapabilities = {}\n",
        json!(capabilities)
    )
}

fn module<'a>(listed: &'a Value, name: &str) -> Result<&'a Value> {
    let mut rows = listed
        .get("modules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    rows.find(|row| row.get("name").and_then(Value::as_str) == Some(name))
        .with_context(|| format!("no {name} in {listed}"))
}

/// A folder of a site, and a file in it.
fn folder(site: &Site, name: &str) -> Result<String> {
    let folder = site.path(name);
    std::fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    std::fs::write(folder.join("file"), format!("in {name}\n"))?;
    Ok(folder.to_str().context("no UTF-8")?.into())
}

/// Answers every connection with an HTTP response.
fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut socket = socket;
            let mut request = [0; 4096];
            let _ = socket.read(&mut request);
            let response = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
            let _ = socket.write_all(response.as_bytes());
        }
    });
    Ok(at)
}

/// Asks an actor of `reach` and the actors it started.
struct Asked<'a> {
    site: &'a Site,
    node: &'a Node,
}

impl Asked<'_> {
    fn says(&self, actor: &str, text: &str, answer: &str) -> Result<()> {
        let said = self.site.call(self.node, actor, text)?;
        let said = said.trim_end();
        ensure!(
            said == answer,
            "{actor} answered {text:?} with {said:?}, not {answer:?}"
        );
        Ok(())
    }

    /// A child of an actor here; its pid in hex.
    fn child(&self, of: &str, spawn: &str) -> Result<String> {
        let pid = self.site.call(self.node, of, spawn)?;
        let hex = pid.len() == 32 && pid.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(hex, "{of} answered {spawn:?} with {pid:?}");
        Ok(pid)
    }
}

#[test]
fn what_is_not_granted_is_refused_at_spawn() -> Result<()> {
    let site = Site::new()?;
    let outreach = test_actor("outreach")?;
    for name in ["bare", "store", "talker", "whole"] {
        site.install(N1, name, &outreach)?;
    }
    site.install(N1, "plain", &component("examples/counter-c")?)?;
    site.install(N1, "reach", &test_actor("reach")?)?;
    let policy = [
        rule("store", &["keyvalue:a"]),
        rule("talker", &["keyvalue:a", "http:example.com"]),
        rule(
            "whole",
            &["keyvalue:a", "http:example.com:8080", "sockets:[::1]:9"],
        ),
    ]
    .concat();
    let n1 = start(&site, "n1", &policy, &[])?;
    for (name, import, form) in [
        ("bare", "wasi:keyvalue/store", "keyvalue:BUCKET"),
        ("store", "wasi:http/outgoing-handler", "http:HOST"),
        (
            "talker",
            "wasi:sockets/instance-network",
            "sockets:HOST:PORT",
        ),
    ] {
        let said = site.fails(1, &["spawn", N1, name])?;
        let expected = format!(
            "the module {name:?} imports {import}, which needs the capability {form:?}; grant it in \
             the node's policy or the app's manifest ([modules.{name}] capabilities = [{form:?}])"
        );
        ensure!(said.contains(&expected), "{said}");
    }
    site.spawn(&n1, "whole", "", &[])?;
    // WASI that touches nothing takes no capability.
    site.spawn(&n1, "reach", "", &[])?;
    site.spawn(&n1, "plain", "1", &[])?;
    // What each may do can be looked up.
    let listed = site.ask(&["modules", N1])?;
    let granted = |name| Ok::<_, anyhow::Error>(module(&listed, name)?["capabilities"].clone());
    ensure!(
        granted("bare")? == json!([]) && granted("plain")? == json!([]),
        "{listed}"
    );
    let whole = json!(["keyvalue:a", "http:example.com:8080", "sockets:[::1]:9"]);
    ensure!(granted("whole")? == whole, "{listed}");
    let imports = module(&listed, "whole")?["imports"].to_string();
    for import in [
        "wasi:sockets/tcp@",
        "wasi:http/outgoing-handler@",
        "wasm-node:actor/mailbox@",
    ] {
        ensure!(imports.contains(import), "{imports}");
    }
    let table = site.ok(&["modules", N1])?;
    ensure!(
        table.contains("CAPABILITIES") && table.contains("keyvalue:a,http:example.com"),
        "{table}"
    );
    Ok(())
}

#[test]
fn what_is_granted_can_be_reached_and_nothing_else() -> Result<()> {
    let site = Site::new()?;
    let (open, closed) = (serve()?, serve()?);
    let (files, looks, secret) = (
        folder(&site, "files")?,
        folder(&site, "looks")?,
        folder(&site, "secret")?,
    );
    std::os::unix::fs::symlink(&secret, format!("{files}/link"))?;
    site.install(N1, "reach", &test_actor("reach")?)?;
    site.install(N1, "nothing", &test_actor("reach")?)?;
    site.install(N1, "outreach", &test_actor("outreach")?)?;
    let policy = [
        rule(
            "reach",
            // As a policy lies beside the folders.
            &[
                "files:files",
                &format!("files-read-only:{looks}"),
                "env:CAPS_SHOWN",
            ],
        ),
        rule(
            "outreach",
            &[
                "keyvalue:mine",
                &format!("http:{open}"),
                &format!("sockets:{open}"),
            ],
        ),
    ]
    .concat();
    std::fs::write(site.path("policy.toml"), policy)?;
    let policy = site.path("policy.toml");
    let policy = policy.to_str().context("no UTF-8")?;
    let mut command = site.start_command(&["--name", N1], N1, &["--policy", policy])?;
    command
        .env("CAPS_SHOWN", "seen")
        .env("CAPS_HIDDEN", "unseen");
    let node = Node::launch(N1.into(), command)?;
    node.wait_ready()?;
    let ask = Asked {
        site: &site,
        node: &node,
    };

    let reach = site.spawn(&node, "reach", "", &[])?;
    ask.says(&reach, "list", &format!("{files} {looks}"))?;
    ask.says(&reach, &format!("read {files}/file"), "in files")?;
    ask.says(&reach, &format!("write {files}/new text"), "ok")?;
    ensure!(std::fs::read_to_string(format!("{files}/new"))? == "text");
    ask.says(&reach, &format!("read {looks}/file"), "in looks")?;
    let tried = site.call(&node, &reach, &format!("write {looks}/new text"))?;
    ensure!(tried.starts_with("error: "), "{tried}");
    for outside in [
        format!("{secret}/file"),
        format!("{files}/../secret/file"),
        format!("{files}/link/file"),
        "/etc/hostname".into(),
    ] {
        let tried = site.call(&node, &reach, &format!("read {outside}"))?;
        ensure!(tried.starts_with("error: "), "{outside}: {tried}");
    }
    ask.says(&reach, "getenv CAPS_SHOWN", "seen")?;
    ask.says(&reach, "getenv CAPS_HIDDEN", "-")?;
    ask.says(&reach, "getenv WASM_NODE_COOKIE", "-")?;

    let nothing = site.spawn(&node, "nothing", "", &[])?;
    ask.says(&nothing, "list", "")?;
    ask.says(&nothing, "getenv CAPS_SHOWN", "-")?;
    let tried = site.call(&node, &nothing, &format!("read {files}/file"))?;
    ensure!(tried.starts_with("error: "), "{tried}");

    let outreach = site.spawn(&node, "outreach", "", &[])?;
    ask.says(&outreach, "open mine", "ok")?;
    ask.says(&outreach, "open other", "access denied")?;
    ask.says(&outreach, &format!("connect {open}"), "ok")?;
    ask.says(&outreach, &format!("connect {closed}"), "access denied")?;
    ask.says(&outreach, &format!("request {open}"), "204")?;
    ask.says(&outreach, &format!("request {closed}"), "denied")?;
    ask.says(&outreach, &format!("secure {closed}"), "denied")?;
    // Nothing here speaks TLS.
    let tried = site.call(&node, &outreach, &format!("secure {open}"))?;
    ensure!(tried.starts_with("error: code "), "{tried}");
    ask.says(
        &outreach,
        &format!("request localhost:{}", open.port()),
        "denied",
    )?;
    Ok(())
}

#[test]
fn what_an_actor_holds_only_shrinks_from_parent_to_child() -> Result<()> {
    let site = Site::new()?;
    let (top, reach) = (folder(&site, "top")?, test_actor("reach")?);
    let inner = folder(&site, "top/inner")?;
    for name in ["wide", "narrow"] {
        site.install(N1, name, &reach)?;
    }
    site.install(N1, "outreach", &test_actor("outreach")?)?;
    let policy = [
        rule("wide", &["*"]),
        rule(
            "narrow",
            &[&format!("files-read-only:{top}"), "env:HOME", "keyvalue:a"],
        ),
        rule("outreach", &["keyvalue:b", "http:*", "sockets:127.0.0.1"]),
    ]
    .concat();
    let node = start(&site, "n1", &policy, &[])?;
    let ask = Asked {
        site: &site,
        node: &node,
    };
    let home = site.path("");
    let home = home.to_str().context("no UTF-8")?.trim_end_matches('/');

    let wide = site.spawn(&node, "wide", "", &[])?;
    ask.says(&wide, "list", "/")?;
    ask.says(&wide, "getenv HOME", home)?;
    // By its module.
    let narrow = ask.child(&wide, "spawn narrow -")?;
    ask.says(&wide, &format!("ask {narrow} list"), &top)?;
    ask.says(&wide, &format!("ask {narrow} getenv HOME"), home)?;
    // By its parent, whatever its module may.
    let grandchild = ask.child(&wide, &format!("ask {narrow} spawn wide -"))?;
    ask.says(&wide, &format!("ask {grandchild} list"), &top)?;
    ask.says(
        &wide,
        &format!("ask {grandchild} read {top}/file"),
        "in top",
    )?;
    let tried = site.call(
        &node,
        &wide,
        &format!("ask {grandchild} write {top}/new text"),
    )?;
    ensure!(tried.starts_with("error: "), "{tried}");
    // By its spawn: down to an inner folder, of which its own child gets no more.
    let spawn = format!("ask {grandchild} spawn wide files:{inner},env:OTHER,http:*");
    let fourth = ask.child(&wide, &spawn)?;
    ask.says(&wide, &format!("ask {fourth} list"), &inner)?;
    ask.says(&wide, &format!("ask {fourth} getenv HOME"), "-")?;
    let fifth = ask.child(&wide, &format!("ask {fourth} spawn narrow files:{top}"))?;
    ask.says(&wide, &format!("ask {fifth} list"), &inner)?;
    let none = ask.child(&wide, "spawn wide none")?;
    ask.says(&wide, &format!("ask {none} list"), "")?;
    ask.says(&wide, &format!("ask {none} getenv HOME"), "-")?;
    // What a module imports must be passed on to it.
    let imports = "the module \"outreach\" imports wasi:keyvalue/store, which needs the capability \
                   \"keyvalue:BUCKET\"";
    let own = |answer: &str| answer.trim_end().to_owned();
    let said = own(&site.call(&node, &wide, &format!("ask {none} spawn outreach -"))?);
    let prefix = format!("refused: {imports}: it is granted that, but its parent <0.");
    let suffix = "> does not pass it on; grant it to the parent's module, too, and to those above, and \
                  leave it in the spawn's option capabilities";
    ensure!(
        said.starts_with(&prefix) && said.ends_with(suffix),
        "{said}"
    );
    let said = own(&site.call(&node, &wide, &format!("ask {narrow} spawn outreach -"))?);
    let prefix = format!(
        "refused: {imports}: it is granted keyvalue:b, http:*, sockets:127.0.0.1 and its parent <0."
    );
    let suffix = format!(
        "> passes on keyvalue:a, files-read-only:{top}, env:HOME, which have nothing in common for that"
    );
    ensure!(
        said.starts_with(&prefix) && said.ends_with(&suffix),
        "{said}"
    );
    let outreach = ask.child(&wide, "spawn outreach -")?;
    ask.says(&wide, &format!("ask {outreach} open b"), "ok")?;
    ask.says(&wide, &format!("ask {outreach} open a"), "access denied")?;
    let some = "spawn outreach keyvalue:*,sockets:127.0.0.1:1,http:example.com";
    let outreach = ask.child(&wide, some)?;
    ask.says(&wide, &format!("ask {outreach} open b"), "ok")?;
    ask.says(
        &wide,
        &format!("ask {outreach} connect 127.0.0.1:2"),
        "access denied",
    )?;
    ask.says(
        &wide,
        "spawn outreach disk",
        "refused: the spawn's option capabilities: \"disk\" is no capability: there are \
         \"keyvalue:BUCKET\", \"http:HOST\", \"sockets:HOST:PORT\", \"files:PATH\", \
         \"files-read-only:PATH\", \"env:NAME\", and \"*\" for all",
    )?;
    // A link that an actor makes is no way out for its child.
    std::os::unix::fs::symlink("/etc", format!("{inner}/link"))?;
    let child = ask.child(
        &wide,
        &format!("ask {fourth} spawn wide files:{inner}/link"),
    )?;
    let said = site.call(&node, &wide, &format!("ask {child} list"))?;
    ensure!(said.starts_with("error: call error"), "{said}");
    Ok(())
}

#[test]
fn what_an_actor_holds_shrinks_across_nodes() -> Result<()> {
    let site = Site::new()?;
    let (a, b) = (folder(&site, "a")?, folder(&site, "b")?);
    let reach = test_actor("reach")?;
    site.install(N1, "reach", &reach)?;
    site.install(N1, "less", &reach)?;
    site.install(N2, "reach", &reach)?;
    site.install(N2, "wide", &reach)?;
    let folders = |folders: &[&String]| {
        let texts: Vec<String> = folders
            .iter()
            .map(|folder| format!("files:{folder}"))
            .collect();
        texts
    };
    let rule_of = |module: &str, of: &[&String]| {
        let texts = folders(of);
        rule(
            module,
            &texts.iter().map(String::as_str).collect::<Vec<_>>(),
        )
    };
    let n1 = start(
        &site,
        "n1",
        &(rule_of("reach", &[&a, &b]) + &rule_of("less", &[&b])),
        &[],
    )?;
    let n2 = start(
        &site,
        "n2",
        &(rule_of("reach", &[&a]) + &rule("wide", &["*"])),
        &["--connect", N1],
    )?;
    n1.wait_up(N2)?;
    let ask = Asked {
        site: &site,
        node: &n1,
    };
    let parent = site.spawn(&n1, "reach", "", &[])?;
    ask.says(&parent, "list", &format!("{a} {b}"))?;
    // The same code on the other node: what that node's policy leaves of it.
    let child = ask.child(&parent, &format!("spawn-on {N2} reach -"))?;
    ask.says(&parent, &format!("ask {child} list"), &a)?;
    let child = ask.child(&parent, &format!("spawn-on {N2} reach none"))?;
    ask.says(&parent, &format!("ask {child} list"), "")?;
    // What the parent lacks does not come back on the way.
    let less = ask.child(&parent, "spawn less -")?;
    ask.says(&parent, &format!("ask {less} list"), &b)?;
    let child = ask.child(&parent, &format!("ask {less} spawn-on {N2} reach -"))?;
    ask.says(&parent, &format!("ask {child} list"), "")?;
    // A grandchild on a third hop, back where more is granted.
    let there = ask.child(&parent, &format!("spawn-on {N2} reach -"))?;
    let wide = ask.child(&parent, &format!("ask {there} spawn wide -"))?;
    ask.says(&parent, &format!("ask {wide} list"), &a)?;
    let back = ask.child(&parent, &format!("ask {wide} spawn-on {N1} reach -"))?;
    ask.says(&parent, &format!("ask {back} list"), &a)?;
    drop(n2);
    Ok(())
}

#[test]
fn code_from_another_node_may_do_nothing_that_was_not_said_of_it() -> Result<()> {
    let site = Site::new()?;
    let (files, reach) = (folder(&site, "files")?, test_actor("reach")?);
    let outreach = test_actor("outreach")?;
    let known = with_custom_section(&reach, b"known");
    for (name, code) in [
        ("reach", &reach),
        ("named", &reach),
        ("known", &known),
        ("outreach", &outreach),
    ] {
        site.install(N1, name, code)?;
    }
    let n1 = start(
        &site,
        "n1",
        &["reach", "named", "known", "outreach"]
            .map(|name| rule(name, &["*"]))
            .concat(),
        &[],
    )?;
    let listed = site.ask(&["modules", N1])?;
    let digest = |name| {
        Ok::<_, anyhow::Error>(
            module(&listed, name)?["digest"]
                .as_str()
                .unwrap_or("")
                .to_owned(),
        )
    };
    let grant = format!("files:{files}");
    // The other node has no file of its own: what it says of names is for such files, unless it
    // says otherwise.
    let policy = [
        "[default]\ncapabilities = [\"*\"]\n".to_owned(),
        rule("reach", &["*"]),
        rule("named", &[&grant]) + "shipped = true\n",
        rule(&digest("known")?, &[&grant]),
        rule("outreach", &["*"]),
    ]
    .concat();
    let n2 = start(&site, "n2", &policy, &["--connect", N1])?;
    n1.wait_up(N2)?;
    let ask = Asked {
        site: &site,
        node: &n1,
    };
    let parent = site.spawn(&n1, "reach", "", &[])?;
    for (name, sees) in [("reach", ""), ("named", &files[..]), ("known", &files[..])] {
        let child = ask.child(&parent, &format!("spawn-on {N2} {name} -"))?;
        ask.says(&parent, &format!("ask {child} list"), sees)?;
        ask.says(&parent, &format!("ask {child} getenv HOME"), "-")?;
    }
    ask.says(
        &parent,
        &format!("spawn-on {N2} outreach -"),
        &format!(
            "refused: the module \"outreach\", whose code came from another node, imports \
             wasi:keyvalue/store, which needs the capability \"keyvalue:BUCKET\"; grant it in this \
             node's policy ([modules.{}] capabilities = [\"keyvalue:BUCKET\"], or shipped = true in \
             [modules.outreach])",
            digest("outreach")?
        ),
    )?;
    // Once it is a file of that node's, it is what that node's policy names.
    site.install(N2, "reach", &reach)?;
    n2.wait_log(&["module loaded", "module=\"reach\""])?;
    let child = ask.child(&parent, &format!("spawn-on {N2} reach -"))?;
    ask.says(&parent, &format!("ask {child} list"), "/")?;
    Ok(())
}

#[test]
fn a_new_version_that_imports_more_is_refused() -> Result<()> {
    let site = Site::new()?;
    let (reach, outreach) = (test_actor("reach")?, test_actor("outreach")?);
    for name in ["small", "parent", "able"] {
        site.install(N1, name, &reach)?;
    }
    let everything = [rule("able", &["*"]), rule("parent", &["*"])].concat();
    let node = start(&site, "n1", &everything, &[])?;
    let ask = Asked {
        site: &site,
        node: &node,
    };
    let small = site.spawn(&node, "small", "", &[])?;
    ask.says(&small, "save kept", "ok")?;
    let before = site.ask(&["modules", N1])?;
    // Its module is not granted what the new one imports.
    site.install(N1, "small", &outreach)?;
    let why = "the module \\\"small\\\" imports wasi:keyvalue/store, which needs the capability \
               \\\"keyvalue:BUCKET\\\"; grant it in the node's policy";
    let logged = node.wait_log(&["version refused, nothing has changed", "small"])?;
    ensure!(
        logged.replace('\\', "").contains(&why.replace('\\', "")),
        "{logged}"
    );
    ask.says(&small, "saved", "kept")?;
    let after = site.ask(&["modules", N1])?;
    ensure!(module(&before, "small")?["digest"] == module(&after, "small")?["digest"]);
    let again = site.spawn(&node, "small", "", &[])?;
    ask.says(&again, "saved", "")?;

    // Its module is, and one actor was given nothing.
    let parent = site.spawn(&node, "parent", "", &[])?;
    let given = site.spawn(&node, "able", "", &["--local-name", "given"])?;
    let kept = ask.child(&parent, "spawn able none")?;
    ask.says(&given, "save moves", "ok")?;
    ask.says(&parent, &format!("ask {kept} save stays"), "ok")?;
    let position = node.stderr.position();
    site.install(N1, "able", &outreach)?;
    let words = [
        "stays with the old version",
        "able",
        "was not given when it was spawned",
    ];
    node.wait_log_since(position, PATIENCE, &words)?;
    node.wait_log_since(position, PATIENCE, &["moved to the new version", "able"])?;
    ask.says(&parent, &format!("ask {kept} saved"), "stays")?;
    ask.says(&given, "open a", "ok")?;
    // A version that imports no more is welcome to it, with what it holds.
    site.install(N1, "able", &with_custom_section(&reach, b"3"))?;
    node.wait_log_since(
        position,
        PATIENCE,
        &["moved to the new version", &digest_of(&site, "able")?],
    )?;
    wasm_node_tests::node::eventually("it moved", || {
        Ok(ask
            .says(&parent, &format!("ask {kept} saved"), "stays")
            .is_ok())
    })?;
    ask.says(&parent, &format!("ask {kept} list"), "")
}

#[test]
fn a_version_that_is_granted_less_takes_it_from_its_actors() -> Result<()> {
    let site = Site::new()?;
    let (files, reach) = (folder(&site, "files")?, test_actor("reach")?);
    site.install(N1, "known", &reach)?;
    site.install(N1, "wide", &reach)?;
    let digest = wasm_node_protocol::Digest::of(&reach).to_string();
    let policy = [
        rule(&digest, &[&format!("files:{files}")]),
        rule("known", &["env:HOME"]),
    ]
    .concat();
    let node = start(&site, "n1", &policy, &[])?;
    let ask = Asked {
        site: &site,
        node: &node,
    };
    let actor = site.spawn(&node, "known", "", &[])?;
    ask.says(&actor, "list", &files)?;
    for version in [with_custom_section(&reach, b"2"), reach.clone()] {
        let position = node.stderr.position();
        site.install(N1, "known", &version)?;
        node.wait_log_since(position, PATIENCE, &["moved to the new version", "known"])?;
        // It does not come back with the version that is granted it.
        ask.says(&actor, "list", "")?;
        ask.says(&actor, "getenv HOME", "-")?;
        let child = ask.child(&actor, "spawn wide -")?;
        ask.says(&actor, &format!("ask {child} list"), "")?;
    }
    let fresh = site.spawn(&node, "known", "", &[])?;
    ask.says(&fresh, "list", &files)
}

fn digest_of(site: &Site, name: &str) -> Result<String> {
    let code = std::fs::read(site.modules(N1)?.join(format!("{name}.wasm")))?;
    Ok(wasm_node_protocol::Digest::of(&code).to_string())
}

/// A manifest in a site, with files of these modules in the folder of `n1`.
fn app(site: &Site, modules: &str) -> Result<PathBuf> {
    let text = format!(
        "[app]\nname = \"app\"\n{modules}\n\
         [supervisor]\n[[supervisor.child]]\nid = \"keeper\"\nmodule = \"keeper\"\nname = \"keeper\"\n"
    );
    let file = site.path("app.toml");
    std::fs::write(&file, text)?;
    site.install(N1, "supervisor", &component("supervisor")?)?;
    site.install(N1, "keeper", &test_actor("reach")?)?;
    Ok(file)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("no UTF-8")
}

#[test]
fn a_supervisors_child_holds_the_same_when_it_is_restarted() -> Result<()> {
    let site = Site::new()?;
    let (files, more) = (folder(&site, "files")?, folder(&site, "more")?);
    // The tree's root needs no word about it. Folders are relative to the manifest.
    let app = app(
        &site,
        "[modules.supervisor]\nfile = \"supervisor.wasm\"\n\
         [modules.keeper]\nfile = \"keeper.wasm\"\ncapabilities = [\"files:files\", \"files:more\"]\n",
    )?;
    let lesser = "[[supervisor.child]]\nid = \"lesser\"\nmodule = \"keeper\"\nname = \"lesser\"\n\
                  capabilities = [\"files:more\"]\n";
    std::fs::write(&app, std::fs::read_to_string(&app)? + lesser)?;
    let node = site.start("n1", &["--app", path(&app)?])?;
    let ask = Asked {
        site: &site,
        node: &node,
    };
    ask.says("keeper", "list", &format!("{files} {more}"))?;
    // A child may hold less than its module.
    ask.says("lesser", "list", &more)?;
    for _ in 0..2 {
        let before = site.ok(&["whereis", N1, "keeper"]).ok();
        site.ok(&["exit", N1, "keeper", "--reason", "kill"])?;
        wasm_node_tests::node::eventually("it is restarted", || {
            let now = site.ok(&["whereis", N1, "keeper"]).ok();
            Ok(now != before && site.call(&node, "keeper", "list").is_ok())
        })?;
        ask.says("keeper", "list", &format!("{files} {more}"))?;
    }
    drop(node);
    // A policy bounds what the app asks for.
    let policy = site.path("policy.toml");
    std::fs::write(
        &policy,
        rule("keeper", &["files-read-only:more", "env:HOME"]),
    )?;
    let args = ["--app", path(&app)?, "--policy", path(&policy)?];
    let node = site.start("n1", &args)?;
    let ask = Asked {
        site: &site,
        node: &node,
    };
    ask.says("keeper", "list", &more)?;
    let listed = site.ask(&["modules", N1])?;
    let held = json!([format!("files-read-only:{more}")]);
    ensure!(
        module(&listed, "keeper")?["capabilities"] == held,
        "{listed}"
    );
    ensure!(
        module(&listed, "supervisor")?["capabilities"] == held,
        "{listed}"
    );
    Ok(())
}

#[test]
fn an_http_handler_makes_the_requests_that_it_is_granted() -> Result<()> {
    let site = Site::new()?;
    let (open, closed) = (serve()?, serve()?);
    site.install(N1, "relay", &test_actor("relay")?)?;
    let manifest = site.path("app.toml");
    let write = |capabilities: Value| {
        let text = format!(
            "[app]\nname = \"app\"\n[modules.relay]\nfile = \"relay.wasm\"\n\
             capabilities = {capabilities}\n[[http]]\nmodule = \"relay\"\nlisten = \"127.0.0.1:0\"\n"
        );
        std::fs::write(&manifest, text)
    };
    write(json!([format!("http:{open}")]))?;
    let node = site.launch("n1", &["--app", path(&manifest)?])?;
    let ready = node.wait_ready()?;
    let url = ready
        .get("http")
        .and_then(Value::as_str)
        .context("no URL")?;
    for (to, status) in [(open, 204), (closed, 403), (open, 204)] {
        let answer = Connection::open(url)?.request("GET", &format!("/{to}"))?;
        ensure!(answer.status == status, "{to}: {}", answer.status);
    }
    drop(node);
    write(json!(["keyvalue:a"]))?;
    let mut node = site.launch("n1", &["--app", path(&manifest)?])?;
    ensure!(node.wait_end()? == Some(1));
    let said = node.stderr.tail();
    let why = "the module \"relay\" imports wasi:http/outgoing-handler, which needs the capability";
    ensure!(said.contains(why), "{said}");
    Ok(())
}

#[test]
fn an_app_whose_tree_lacks_a_capability_does_not_start() -> Result<()> {
    let site = Site::new()?;
    let app = app(
        &site,
        "[modules.supervisor]\nfile = \"supervisor.wasm\"\n\
         [modules.keeper]\nfile = \"keeper.wasm\"\n",
    )?;
    site.install(N1, "keeper", &test_actor("outreach")?)?;
    let mut node = site.launch("n1", &["--app", path(&app)?])?;
    ensure!(node.wait_end()? == Some(1));
    let said = node.stderr.tail();
    let why = "the module \"keeper\" imports wasi:keyvalue/store, which needs the capability";
    ensure!(said.replace('\\', "").contains(why), "{said}");
    Ok(())
}

#[test]
fn a_bad_policy_is_told_with_its_line() -> Result<()> {
    let site = Site::new()?;
    let policy = site.path("policy.toml");
    std::fs::write(&policy, "[modules.x]\ncapabilities = [\n  \"disk:/\",\n]\n")?;
    let mut node = site.launch("n1", &["--policy", path(&policy)?])?;
    ensure!(node.wait_end()? == Some(1));
    let said = node.stderr.tail();
    ensure!(
        said.contains("policy.toml:3: \"disk:/\" is no capability: there are"),
        "{said}"
    );
    let missing = site.path("missing.toml");
    let mut node = site.launch("n1", &["--policy", path(&missing)?])?;
    ensure!(node.wait_end()? == Some(1));
    ensure!(
        node.stderr.tail().contains("could not read the policy"),
        "{}",
        node.stderr.tail()
    );
    Ok(())
}
