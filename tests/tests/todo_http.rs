//! The to-do system's HTTP behaviour, request by request, on a real node.

use anyhow::Result;
use wasm_node_tests::cluster::Cluster;
use wasm_node_tests::http::{Connection, Response, encode};
use wasm_node_tests::todo::{Client, DAY, add_target, entries_target};

const TEXT: &str = "text/plain; charset=utf-8";

#[test]
fn requests_get_the_answers_that_are_promised() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let url = cluster.http(1);
    the_two_routes(url)?;
    values_are_decoded(url)?;
    any_text_names_a_list(url)?;
    bad_requests_say_what_is_wrong_and_keep_the_connection(url)?;
    other_paths_and_methods(url)?;
    limits(url)?;
    what_is_not_http(url)?;
    a_retry_with_the_same_key_adds_once(url)?;
    many_entries_stay_in_order(url)
}

fn the_two_routes(url: &str) -> Result<()> {
    let mut connection = Connection::open(url)?;
    let empty = connection.request("GET", "/entries?list=bob&date=2018-12-19")?;
    expect(&empty, 200, "");
    for title in ["Dentist", "Shopping"] {
        let target = format!("/add_entry?list=bob&date=2018-12-19&title={title}");
        expect(&connection.request("POST", &target)?, 200, "OK");
    }
    // No body and no content-length, as an old client sends it.
    connection.send(
        b"POST /add_entry?list=bob&date=2018-12-20&title=Movies HTTP/1.1\r\nHost: x\r\n\r\n",
    )?;
    expect(&connection.receive(false)?, 200, "OK");
    // A body says nothing and does no harm.
    let with_body = connection.request_with(
        "POST",
        "/add_entry?list=bob&date=2018-12-21&title=Rest",
        &[],
        b"title=ignored",
    )?;
    expect(&with_body, 200, "OK");
    for (date, lines) in [
        ("2018-12-19", "2018-12-19 Dentist\n2018-12-19 Shopping"),
        ("2018-12-20", "2018-12-20 Movies"),
        ("2018-12-21", "2018-12-21 Rest"),
        ("2018-12-22", ""),
    ] {
        let target = format!("/entries?list=bob&date={date}");
        expect(&connection.request("GET", &target)?, 200, lines);
        let head = connection.request("HEAD", &target)?;
        expect(&head, 200, "");
        let length = head.header("content-length").map(str::to_string);
        assert_eq!(
            length,
            Some(lines.len().to_string()),
            "HEAD tells what GET would"
        );
    }
    Ok(())
}

fn values_are_decoded(url: &str) -> Result<()> {
    let mut connection = Connection::open(url)?;
    let add = "/add_entry?title=Caf%C3%A9+%26+Tea&date=2018-12-19&list=d%C3%A9j%c3%a0%20vu&more=x";
    expect(&connection.request("POST", add)?, 200, "OK");
    let target = "/entries?list=d%C3%A9j%C3%A0+vu&date=2018-12-19";
    expect(
        &connection.request("GET", target)?,
        200,
        "2018-12-19 Café & Tea",
    );
    Ok(())
}

fn any_text_names_a_list(url: &str) -> Result<()> {
    let mut connection = Connection::open(url)?;
    let longest = "x".repeat(255);
    let names = [
        "a/b/c",
        "../escape",
        "/etc/passwd",
        " ",
        ".",
        "a\nb",
        "\0",
        "list=x&y",
        "🦀",
        &longest,
    ];
    for name in names {
        let add = add_target(name, DAY, &format!("of {}", name.len()));
        expect(&connection.request("POST", &add)?, 200, "OK");
    }
    for name in names {
        let entries = connection.request("GET", &entries_target(name, DAY))?;
        expect(&entries, 200, &format!("{DAY} of {}", name.len()));
    }
    Ok(())
}

fn bad_requests_say_what_is_wrong_and_keep_the_connection(url: &str) -> Result<()> {
    let mut connection = Connection::open(url)?;
    let long_list = "x".repeat(256);
    let long_title = "x".repeat(4097);
    let mut cases: Vec<(String, String)> = Vec::new();
    let mut case = |query: &str, about: &str| cases.push((query.into(), about.into()));
    for name in ["list", "date", "title"] {
        let with = |wanted: &str| {
            let parts = [("list", "bob"), ("date", DAY), ("title", "x")].map(|(key, value)| {
                match key == name {
                    true => wanted.to_string(),
                    false => format!("{key}={value}"),
                }
            });
            parts
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("&")
        };
        case(&with(""), name);
        case(&with(&format!("{name}=")), name);
        case(&with(name), name);
        case(&with(&format!("{name}=a&{name}=b")), name);
        case(&with(&format!("{name}=%")), "");
        case(&with(&format!("{name}=%4")), "");
        case(&with(&format!("{name}=%zz")), "");
        case(&with(&format!("{name}=%FF%FE")), "");
        case(&with(&format!("{name}=%C3")), "");
    }
    for date in [
        "2018-02-29",
        "2018-13-01",
        "2018-00-10",
        "2018-12-00",
        "2018-12-32",
        "2018-04-31",
        "19-12-2018",
        "2018-12-9",
        "2018-1-09",
        "20181219",
        "2018/12/19",
        "2018-12-19x",
        "+2018-12-19",
        "2018-12-19%20",
        "yesterday",
        "2018-W51-3",
        "%EF%BC%92018-12-19",
    ] {
        case(&format!("list=bob&date={date}&title=x"), "date");
    }
    case(&format!("list={long_list}&date={DAY}&title=x"), "list");
    case(&format!("list=bob&date={DAY}&title={long_title}"), "title");
    case(&format!("list=bob&date={DAY}&title=a%0Ab"), "title");
    case(&format!("list=bob&date={DAY}&title=a%0D"), "title");
    for (query, about) in &cases {
        let response = connection.request("POST", &format!("/add_entry?{query}"))?;
        assert_eq!(response.status, 400, "{query}: {response:?}");
        assert_eq!(response.header("content-type"), Some(TEXT), "{query}");
        assert!(
            response.text().contains(about.as_str()),
            "{query}: {}",
            response.text()
        );
        assert!(!response.body.is_empty(), "{query}");
    }
    for query in [
        "",
        "list=bob",
        "date=2018-12-19",
        "list=&date=2018-12-19",
        "list=bob&date=x",
        "list=bob&list=bob&date=2018-12-19",
        "list=%&date=2018-12-19",
    ] {
        let response = connection.request("GET", &format!("/entries?{query}"))?;
        assert_eq!(response.status, 400, "{query}: {response:?}");
        assert!(!response.body.is_empty(), "{query}");
    }
    // The longest that are allowed.
    let target = add_target(&"y".repeat(255), "2016-02-29", &"x".repeat(4096));
    expect(&connection.request("POST", &target)?, 200, "OK");
    // Nothing of all that was added, and the connection is still the first.
    expect(
        &connection.request("GET", &entries_target("bob", "2018-12-31"))?,
        200,
        "",
    );
    Ok(())
}

fn other_paths_and_methods(url: &str) -> Result<()> {
    let mut connection = Connection::open(url)?;
    for path in [
        "/",
        "/entries/",
        "/Entries",
        "/add_entry/x",
        "//entries",
        "/favicon.ico?list=x",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            expect(&connection.request(method, path)?, 404, "not found");
        }
    }
    let query = "list=bob&date=2018-12-19&title=x";
    for (methods, path, allow) in [
        (
            ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"],
            "/add_entry",
            "POST",
        ),
        (
            ["POST", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"],
            "/entries",
            "GET, HEAD",
        ),
    ] {
        for method in methods {
            let response = connection.request(method, &format!("{path}?{query}"))?;
            assert_eq!(response.status, 405, "{method} {path}: {response:?}");
            assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
        }
    }
    Ok(())
}

fn limits(url: &str) -> Result<()> {
    // In all of these the connection may go on or be closed, as the response says, but the
    // client gets the response, and the next request one as well.
    let long_line = format!("/entries?list=bob&date={DAY}&x={}", "y".repeat(20_000));
    answered_and_alive(url, 414, |connection| connection.request("GET", &long_line))?;
    let huge_line = format!("/entries?x={}", "y".repeat(100_000));
    answered_and_alive(url, 414, |connection| connection.request("GET", &huge_line))?;
    let value = "v".repeat(40_000);
    let target = entries_target("bob", DAY);
    answered_and_alive(url, 431, |connection| {
        connection.request_with("GET", &target, &[("x-long", &value)], b"")
    })?;
    let names: Vec<String> = (0..200).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    answered_and_alive(url, 431, |connection| {
        connection.request_with("GET", &target, &many, b"")
    })?;
    let add = add_target("bodies", DAY, "x");
    let body = vec![b'x'; 70 * 1024];
    answered_and_alive(url, 413, |connection| {
        connection.request_with("POST", &add, &[], &body)
    })?;
    // Said, not yet sent.
    answered_and_alive(url, 413, |connection| {
        let head = format!("POST {add} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000000\r\n\r\n");
        connection.send(head.as_bytes())?;
        connection.receive(false)
    })?;
    // Not said, but sent.
    answered_and_alive(url, 413, |connection| {
        let head = format!("POST {add} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.send(head.as_bytes())?;
        for _ in 0..17 {
            connection.send(b"1000\r\n")?;
            connection.send(&[b'x'; 0x1000])?;
            connection.send(b"\r\n")?;
        }
        connection.send(b"0\r\n\r\n")?;
        connection.receive(false)
    })?;
    let entries = Client::new(url).titles("bodies")?;
    assert!(
        entries.is_empty(),
        "what was refused was not added: {entries:?}"
    );
    Ok(())
}

fn what_is_not_http(url: &str) -> Result<()> {
    for bytes in [
        "GET\r\n\r\n",
        "\u{0}\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut connection = Connection::open(url)?;
        connection.send(bytes.as_bytes())?;
        assert_eq!(connection.receive(false)?.status, 400, "{bytes:?}");
    }
    // A client that goes away in the middle of anything leaves no trace.
    let add = add_target("gone", DAY, "never");
    for bytes in [
        "GE".to_string(),
        format!("GET {}", entries_target("bob", DAY)),
        format!("POST {add} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfive"),
    ] {
        Connection::open(url)?.send(bytes.as_bytes())?;
    }
    expect(
        &Connection::open(url)?.request("GET", &entries_target("bob", "2018-12-20"))?,
        200,
        "2018-12-20 Movies",
    );
    Ok(())
}

fn a_retry_with_the_same_key_adds_once(url: &str) -> Result<()> {
    let mut client = Client::new(url);
    let add = |client: &mut Client, title: &str, key: &str| {
        let target = add_target("keys", DAY, title);
        client.request("POST", &target, &[("Idempotency-Key", key)])
    };
    for key in ["k-1", "k-1", "k-2", "k-1", "k-2"] {
        expect(&add(&mut client, "twice", key)?.0, 200, "OK");
    }
    // Another connection, at the same time, and without a key each is an entry.
    std::thread::scope(|scope| {
        let adders: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| add(&mut Client::new(url), "once", "k-3")))
            .collect();
        for adder in adders {
            let answer = adder
                .join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))??;
            expect(&answer.0, 200, "OK");
        }
        anyhow::Ok(())
    })?;
    client.add("keys", "plain")?;
    client.add("keys", "plain")?;
    assert_eq!(
        client.titles("keys")?,
        ["twice", "twice", "once", "plain", "plain"]
    );
    for key in [String::new(), "k".repeat(256)] {
        assert_eq!(add(&mut client, "no", &key)?.0.status, 400);
    }
    Ok(())
}

fn many_entries_stay_in_order(url: &str) -> Result<()> {
    let mut client = Client::new(url);
    let expected: Vec<String> = (0..100).map(|number| format!("entry {number}")).collect();
    for title in &expected {
        client.add("many", title)?;
    }
    assert_eq!(client.titles("many")?, expected);
    Ok(())
}

fn answered_and_alive(
    url: &str,
    status: u16,
    request: impl FnOnce(&mut Connection) -> Result<Response>,
) -> Result<()> {
    let mut connection = Connection::open(url)?;
    let response = request(&mut connection)?;
    assert_eq!(response.status, status, "{response:?}");
    if response.header("connection") == Some("close") {
        connection = Connection::open(url)?;
    }
    let path = format!("/entries?list={}&date={DAY}", encode("nobody"));
    expect(&connection.request("GET", &path)?, 200, "");
    Ok(())
}

#[track_caller]
fn expect(response: &Response, status: u16, text: &str) {
    assert_eq!(
        (response.status, response.text().as_str()),
        (status, text),
        "{response:?}"
    );
    assert_eq!(response.header("content-type"), Some(TEXT), "{response:?}");
}
