use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What an actor may try to do.
#[derive(Debug, Clone)]
enum Use {
    Bucket(&'static str),
    Variable(&'static str),
    Request(EndpointHost, u16),
    Connect(EndpointHost, u16),
    Read(&'static str),
    Write(&'static str),
}

fn allows(held: &Capabilities, tried: &Use) -> bool {
    let named = |of: &Any<String>, name: &str| match of {
        Any::All => true,
        Any::One(own) => own == name,
    };
    held.iter().any(|one| match (one, tried) {
        (Capability::KeyValue(of), Use::Bucket(name)) => named(of, name),
        (Capability::Env(of), Use::Variable(name)) => named(of, name),
        (Capability::Http(of), Use::Request(host, port))
        | (Capability::Sockets(of), Use::Connect(host, port)) => of.includes(host, *port),
        (Capability::Files { folder, access }, Use::Write(file)) => {
            *access == Access::ReadWrite && file.starts_with(&format!("{folder}/"))
        }
        (Capability::Files { folder, .. }, Use::Read(file)) => {
            file.starts_with(&format!("{folder}/"))
        }
        _ => false,
    })
}

/// Every use that the capabilities below could tell apart.
fn uses() -> Vec<Use> {
    let mut all = Vec::new();
    for name in ["a", "b", "c"] {
        all.extend([Use::Bucket(name), Use::Variable(name)]);
    }
    for host in ["a", "b.example", "127.0.0.1", "[::1]"] {
        for port in [80, 443, 9] {
            let host = EndpointHost::parse(host).unwrap();
            all.extend([Use::Request(host.clone(), port), Use::Connect(host, port)]);
        }
    }
    for file in ["/x", "/a/x", "/ab/x", "/a/b/x", "/a/b/c/x", "/c/x"] {
        all.extend([Use::Read(file), Use::Write(file)]);
    }
    all
}

fn capability() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "*"]);
    let host = prop::sample::select(vec!["a", "b.example", "127.0.0.1", "[::1]"]);
    let port = prop::sample::select(vec!["", ":80", ":443"]);
    let place = prop_oneof![
        1 => Just("*".to_owned()),
        6 => (host, port).prop_map(|(host, port)| format!("{host}{port}")),
    ];
    let folder = prop::sample::select(vec!["/", "/a", "/ab", "/a/b", "/a/b/c", "/c"]);
    prop_oneof![
        4 => (prop::sample::select(vec!["keyvalue", "env"]), name)
            .prop_map(|(kind, name)| format!("{kind}:{name}")),
        4 => (prop::sample::select(vec!["http", "sockets"]), place)
            .prop_map(|(kind, place)| format!("{kind}:{place}")),
        4 => (prop::sample::select(vec!["files", "files-read-only"]), folder)
            .prop_map(|(kind, folder)| format!("{kind}:{folder}")),
        1 => Just("*".to_owned()),
    ]
}

fn set() -> impl Strategy<Value = Capabilities> {
    vec(capability(), 0..8).prop_map(|texts| Capabilities::parse(texts).unwrap())
}

proptest! {
    #[test]
    fn a_child_never_holds_more_than_its_parent(
        grants in vec(set(), 1..6)
    ) {
        // Each is what a module is granted, or what a spawn asks for, on the way down.
        let mut held = Capabilities::EVERYTHING;
        for grant in &grants {
            let child = held.meet(grant).unwrap();
            prop_assert!(held.covers(&child) && grant.covers(&child));
            for tried in uses() {
                // Exactly what both allow: nothing is lost either.
                let both = allows(&held, &tried) && allows(grant, &tried);
                prop_assert_eq!(allows(&child, &tried), both, "{:?} of {:?}", tried, child);
            }
            held = child;
        }
    }

    #[test]
    fn meeting_is_an_intersection(a in set(), b in set(), c in set()) {
        let meet = |x: &Capabilities, y: &Capabilities| x.meet(y).unwrap();
        prop_assert_eq!(meet(&a, &b), meet(&b, &a));
        prop_assert_eq!(meet(&a, &a), a.clone());
        prop_assert_eq!(meet(&meet(&a, &b), &c), meet(&a, &meet(&b, &c)));
        let either = a.join(&b).unwrap();
        prop_assert!(either.covers(&a) && either.covers(&b));
        prop_assert_eq!(meet(&either, &a), a);
    }

    #[test]
    fn a_text_prints_back_and_survives_the_wire(texts in vec(capability(), 0..8)) {
        for text in texts.iter().filter(|text| *text != "*") {
            let parsed: Capability = text.parse().unwrap();
            prop_assert_eq!(&parsed.to_string(), text);
        }
        let set = Capabilities::parse(&texts).unwrap();
        prop_assert_eq!(&Capabilities::parse(set.to_texts()).unwrap(), &set);
        let bytes = postcard::to_stdvec(&set).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Capabilities>(&bytes).unwrap(), set);
    }

    #[test]
    fn no_text_panics(text in ".{0,40}", kind in "(keyvalue|http|sockets|files|env):.{0,20}") {
        for text in [text, kind] {
            if let Ok(parsed) = text.parse::<Capability>() {
                prop_assert_eq!(parsed.to_string().parse::<Capability>().unwrap(), parsed);
            }
        }
    }
}

#[test]
fn one_spelling_for_each() {
    let canonical = [
        ("http:Example.COM:443", "http:example.com:443"),
        ("sockets:[0:0::1]:80", "sockets:[::1]:80"),
        ("files:/srv/data/", "files:/srv/data"),
        ("files-read-only:/", "files-read-only:/"),
    ];
    for (text, printed) in canonical {
        assert_eq!(text.parse::<Capability>().unwrap().to_string(), printed);
    }
}

#[test]
fn what_is_wrong_is_said_with_what_to_write() {
    let cases = [
        (
            "disk",
            "\"disk\" is no capability: there are \"keyvalue:BUCKET\"",
        ),
        ("disk:/", "is no capability: there are"),
        ("keyvalue:", "write \"keyvalue:BUCKET\""),
        ("http:", "write \"http:HOST\""),
        ("http:https://a", "write \"http:HOST\""),
        ("http:a:0", "write \"http:HOST\""),
        ("http:a:65536", "write \"http:HOST\""),
        ("http:a:+1", "write \"http:HOST\""),
        ("sockets:::1", "IPv6 as \"[::1]\""),
        ("files:", "an absolute path"),
        ("files:data", "an absolute path"),
        ("files:/a/../b", "an absolute path"),
        ("files:/a//b", "an absolute path"),
        ("env:A=1", "no variable has \"=\""),
        ("env:A\nfiles:/", "control characters"),
    ];
    for (text, said) in cases {
        let error = text.parse::<Capability>().unwrap_err().to_string();
        assert!(error.contains(said), "{text:?}: {error}");
    }
    let long = format!("env:{}", "x".repeat(MAX_CAPABILITY_BYTES));
    let error = long.parse::<Capability>().unwrap_err().to_string();
    assert!(
        error.contains("at most 1024 bytes, this one 1028"),
        "{error}"
    );
    let many = (0..=MAX_CAPABILITIES).map(|number| format!("env:V{number}"));
    let error = Capabilities::parse(many).unwrap_err().to_string();
    assert!(error.contains("more than 128 capabilities"), "{error}");
}

#[test]
fn sets_keep_no_more_than_they_need() {
    let set = Capabilities::parse(["keyvalue:a", "keyvalue:*", "files-read-only:/a", "files:/a"]);
    assert_eq!(set.unwrap().to_texts(), ["keyvalue:*", "files:/a"]);
    let everything = ["keyvalue:*", "http:*", "sockets:*", "files:/", "env:*"];
    let set = Capabilities::parse(everything).unwrap();
    assert_eq!(
        (&set, set.to_texts()),
        (&Capabilities::EVERYTHING, vec!["*".to_owned()])
    );
    assert_eq!(Capabilities::default().to_string(), "nothing");
}
