//! The HTTP interface: what a request asks for, or why it is refused, and with which words. It
//! knows texts and status codes, not how requests arrive or where lists live.

use crate::date::Date;
use crate::form::{Form, ParameterError};
use crate::list::{ListName, ListNameError, MAX_LIST_BYTES};

/// The longest title, in bytes of UTF-8. A longer one is refused with 400.
pub const MAX_TITLE_BYTES: usize = 4096;

/// The longest `Idempotency-Key`, in bytes. A longer one is refused with 400.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// The longest request body, in bytes; nothing needs one. A longer one is refused with 413.
pub const MAX_BODY_BYTES: u64 = 64 * 1024;

/// How long a client should wait before it tries again after a 503, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 1;

/// What a request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Add an entry.
    Add {
        /// To this list.
        list: ListName,
        /// On this day.
        date: Date,
        /// With this text.
        title: String,
        /// The client's `Idempotency-Key`, if it sent one.
        key: Option<Vec<u8>>,
    },
    /// Tell the entries of a day.
    Entries {
        /// Of this list.
        list: ListName,
        /// On this day.
        date: Date,
    },
}

/// Why a request is refused. The client's fault, except 503.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// The body: what is wrong.
    pub text: String,
    /// The methods for the header `Allow`, with a 405.
    pub allow: Option<&'static str>,
}

impl Refusal {
    fn bad(text: impl Into<String>) -> Self {
        Self {
            status: 400,
            text: text.into(),
            allow: None,
        }
    }

    /// The body is longer than [`MAX_BODY_BYTES`].
    pub fn body_too_large() -> Self {
        let text = format!("the body is longer than {MAX_BODY_BYTES} bytes; none is needed");
        Self {
            status: 413,
            text,
            allow: None,
        }
    }

    /// The cluster could not answer in time.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self {
            status: 503,
            text: text.into(),
            allow: None,
        }
    }
}

#[derive(Clone, Copy)]
enum Route {
    AddEntry,
    Entries,
}

/// Reads a request: its method, its path with its query, the values of its `Idempotency-Key`
/// headers.
pub fn read(method: &str, target: &str, keys: &[Vec<u8>]) -> Result<Command, Refusal> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let route = route(method, path)?;
    let mut form = Form::parse(query).map_err(|error| Refusal::bad(error.to_string()))?;
    let list = list_name(parameter(&mut form, "list")?)?;
    let date = day(&parameter(&mut form, "date")?)?;
    Ok(match route {
        Route::Entries => Command::Entries { list, date },
        Route::AddEntry => {
            let title = title(parameter(&mut form, "title")?)?;
            Command::Add {
                list,
                date,
                title,
                key: idempotency_key(keys)?,
            }
        }
    })
}

/// The body that tells the entries of a day: a line each, no newline at the end.
pub fn entries_text(date: Date, titles: &[String]) -> String {
    let date = date.to_string();
    let length: usize = titles
        .iter()
        .map(|title| date.len() + title.len() + 2)
        .sum();
    let mut text = String::with_capacity(length);
    for title in titles {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&date);
        text.push(' ');
        text.push_str(title);
    }
    text
}

fn route(method: &str, path: &str) -> Result<Route, Refusal> {
    let (route, allow): (_, &'static str) = match path {
        "/add_entry" => (Route::AddEntry, "POST"),
        "/entries" => (Route::Entries, "GET, HEAD"),
        _ => {
            return Err(Refusal {
                status: 404,
                text: "not found".into(),
                allow: None,
            });
        }
    };
    if allow.split(", ").any(|allowed| allowed == method) {
        return Ok(route);
    }
    let text = format!("{path} does not know the method {method}: use {allow}");
    Err(Refusal {
        status: 405,
        text,
        allow: Some(allow),
    })
}

fn parameter(form: &mut Form, name: &str) -> Result<String, Refusal> {
    form.take(name).map_err(|error| {
        Refusal::bad(match error {
            ParameterError::Missing => format!("the parameter {name} is missing"),
            ParameterError::Repeated => format!("the parameter {name} is there more than once"),
            ParameterError::Empty => format!("the parameter {name} is empty"),
        })
    })
}

fn list_name(text: String) -> Result<ListName, Refusal> {
    ListName::try_from(text).map_err(|error| {
        Refusal::bad(match error {
            ListNameError::Empty => "the parameter list is empty".into(),
            ListNameError::TooLong => {
                format!("the parameter list is longer than {MAX_LIST_BYTES} bytes")
            }
        })
    })
}

fn day(text: &str) -> Result<Date, Refusal> {
    text.parse().map_err(|_| {
        Refusal::bad("the parameter date is no calendar day in the form YYYY-MM-DD, as 2018-12-19")
    })
}

fn title(text: String) -> Result<String, Refusal> {
    if text.len() > MAX_TITLE_BYTES {
        let text = format!("the parameter title is longer than {MAX_TITLE_BYTES} bytes");
        return Err(Refusal::bad(text));
    }
    if text.contains(['\n', '\r']) {
        return Err(Refusal::bad("the parameter title has a line break"));
    }
    Ok(text)
}

fn idempotency_key(keys: &[Vec<u8>]) -> Result<Option<Vec<u8>>, Refusal> {
    match keys {
        [] => Ok(None),
        [key] if key.is_empty() => Err(Refusal::bad("the header Idempotency-Key is empty")),
        [key] if key.len() > MAX_IDEMPOTENCY_KEY_BYTES => Err(Refusal::bad(format!(
            "the header Idempotency-Key is longer than {MAX_IDEMPOTENCY_KEY_BYTES} bytes"
        ))),
        [key] => Ok(Some(key.clone())),
        _ => Err(Refusal::bad(
            "the header Idempotency-Key is there more than once",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &str, target: &str) -> (u16, String) {
        let refusal = read(method, target, &[]).expect_err(target);
        (refusal.status, refusal.text)
    }

    #[test]
    fn the_two_routes() {
        let list: ListName = "bob".to_string().try_into().expect("a name");
        let date: Date = "2018-12-19".parse().expect("a day");
        let add = "/add_entry?list=bob&date=2018-12-19&title=Caf%C3%A9+%26+Tea";
        let expected = |key| {
            let title = "Café & Tea".into();
            Ok(Command::Add {
                list: list.clone(),
                date,
                title,
                key,
            })
        };
        assert_eq!(read("POST", add, &[]), expected(None));
        assert_eq!(
            read("POST", add, &[b"k".to_vec()]),
            expected(Some(b"k".to_vec()))
        );
        let entries = "/entries?date=2018-12-19&other=x&list=bob";
        for method in ["GET", "HEAD"] {
            let expected = Ok(Command::Entries {
                list: list.clone(),
                date,
            });
            assert_eq!(read(method, entries, &[]), expected);
        }
    }

    #[test]
    fn other_paths_are_not_found_whatever_the_method() {
        for path in [
            "/",
            "",
            "/entries/",
            "/Entries",
            "/add_entry/x",
            "//entries",
            "*",
        ] {
            for method in ["GET", "POST", "BREW"] {
                assert_eq!(refused(method, path), (404, "not found".into()), "{path:?}");
            }
        }
    }

    #[test]
    fn other_methods_are_told_which_there_are() {
        for (method, target, allow) in [
            ("GET", "/add_entry?list=", "POST"),
            ("HEAD", "/add_entry", "POST"),
            ("POST", "/entries", "GET, HEAD"),
            ("OPTIONS", "/entries", "GET, HEAD"),
            ("get", "/entries", "GET, HEAD"),
        ] {
            let refusal = read(method, target, &[]).expect_err(target);
            assert_eq!((refusal.status, refusal.allow), (405, Some(allow)));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let rest = "date=2018-12-19&title=x";
        for (target, says) in [
            (
                format!("/add_entry?{rest}"),
                "the parameter list is missing",
            ),
            (
                format!("/add_entry?list=&{rest}"),
                "the parameter list is empty",
            ),
            (
                format!("/add_entry?list=a&list=b&{rest}"),
                "the parameter list is there more than once",
            ),
            (
                format!("/add_entry?list={}&{rest}", "x".repeat(256)),
                "the parameter list is longer than 255 bytes",
            ),
            (
                "/add_entry?list=a&title=x".into(),
                "the parameter date is missing",
            ),
            (
                "/add_entry?list=a&date=2018-02-30&title=x".into(),
                "no calendar day",
            ),
            ("/entries?list=a&date=yesterday".into(), "no calendar day"),
            (
                "/add_entry?list=a&date=2018-12-19".into(),
                "the parameter title is missing",
            ),
            (
                "/add_entry?list=a&date=2018-12-19&title=".into(),
                "the parameter title is empty",
            ),
            (
                "/add_entry?list=a&date=2018-12-19&title=a%0Ab".into(),
                "a line break",
            ),
            (
                "/add_entry?list=a&date=2018-12-19&title=a%0Db".into(),
                "a line break",
            ),
            (
                format!(
                    "/add_entry?list=a&date=2018-12-19&title={}",
                    "x".repeat(4097)
                ),
                "longer than 4096 bytes",
            ),
            (
                "/entries?list=%zz&date=2018-12-19".into(),
                "two hexadecimal digits",
            ),
            ("/entries?list=%ff&date=2018-12-19".into(), "not UTF-8"),
        ] {
            let method = if target.starts_with("/add") {
                "POST"
            } else {
                "GET"
            };
            let (status, text) = refused(method, &target);
            assert_eq!(status, 400, "{target}");
            assert!(text.contains(says), "{target}: {text}");
        }
    }

    #[test]
    fn an_idempotency_key_is_one_short_text() {
        let add = "/add_entry?list=bob&date=2018-12-19&title=x";
        for keys in [
            vec![vec![]],
            vec![vec![b'x'; 256]],
            vec![b"a".to_vec(), b"a".to_vec()],
        ] {
            assert_eq!(read("POST", add, &keys).expect_err("refused").status, 400);
        }
    }

    #[test]
    fn entries_are_lines() {
        let date: Date = "2018-12-19".parse().expect("a day");
        assert_eq!(entries_text(date, &[]), "");
        assert_eq!(
            entries_text(date, &["Dentist".into()]),
            "2018-12-19 Dentist"
        );
        let text = entries_text(date, &["a b".into(), "c".into()]);
        assert_eq!(text, "2018-12-19 a b\n2018-12-19 c");
    }
}
