//! A client of the to-do system, which remembers nothing and retries nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::http::{Connection, Response, encode};

/// Within this a request is answered, whatever other nodes do.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What the bound above is given for the test's own machine to be busy.
pub const SCHEDULING: Duration = Duration::from_millis(500);
/// The day that tests use when the day does not matter.
pub const DAY: &str = "2018-12-19";
/// How long a list may take to be available again after nodes are gone.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// How soon after an answer that says to try again this is done.
const RETRY: Duration = Duration::from_millis(100);

/// A connection to one node.
pub struct Client {
    url: String,
    connection: Option<Connection>,
}

impl Client {
    /// Connects when it is first needed.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            connection: None,
        }
    }

    /// One request, and how long its answer took. After a failure the next one connects anew.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<(Response, Duration)> {
        let begun = Instant::now();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.url)?,
        };
        let response = connection.request_with(method, target, headers, b"")?;
        if response.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok((response, begun.elapsed()))
    }

    /// Asks to add an entry.
    pub fn try_add(&mut self, list: &str, title: &str) -> Result<(Response, Duration)> {
        self.request("POST", &add_target(list, DAY, title), &[])
    }

    /// Adds an entry; anything but `OK` is an error.
    pub fn add(&mut self, list: &str, title: &str) -> Result<()> {
        let (response, _) = self.try_add(list, title)?;
        let text = response.text();
        ensure!(
            (response.status, text.as_str()) == (200, "OK"),
            "{title:?} was not added to {list:?}: {} {text}",
            response.status
        );
        Ok(())
    }

    /// Asks for the titles of the day.
    pub fn try_titles(&mut self, list: &str) -> Result<(Response, Duration)> {
        self.request("GET", &entries_target(list, DAY), &[])
    }

    /// The titles of the day; anything but 200 is an error.
    pub fn titles(&mut self, list: &str) -> Result<Vec<String>> {
        let (response, _) = self.try_titles(list)?;
        ensure!(
            response.status == 200,
            "{list:?} was not read: {} {}",
            response.status,
            response.text()
        );
        titles_of(&response)
    }

    /// The titles of the day, once an answer is not 503.
    pub fn titles_in_time(&mut self, list: &str) -> Result<Vec<String>> {
        let deadline = Instant::now() + RECOVERY_TIMEOUT;
        loop {
            let (response, _) = self.try_titles(list)?;
            if response.status != 503 || Instant::now() >= deadline {
                ensure!(
                    response.status == 200,
                    "{list:?} was not read: {response:?}"
                );
                return titles_of(&response);
            }
            std::thread::sleep(RETRY);
        }
    }
}

/// The titles that a response to `/entries` tells, all of [`DAY`].
pub fn titles_of(response: &Response) -> Result<Vec<String>> {
    let text = response.text();
    let lines = text.split('\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let title = line
                .strip_prefix(DAY)
                .and_then(|rest| rest.strip_prefix(' '));
            title
                .map(str::to_string)
                .with_context(|| format!("not of {DAY}: {line:?}"))
        })
        .collect()
}

/// The target of a request that adds.
pub fn add_target(list: &str, date: &str, title: &str) -> String {
    format!(
        "/add_entry?list={}&date={date}&title={}",
        encode(list),
        encode(title)
    )
}

/// The target of a request that reads.
pub fn entries_target(list: &str, date: &str) -> String {
    format!("/entries?list={}&date={date}", encode(list))
}

/// The global name of a list's server.
pub fn server_name(list: &str) -> String {
    format!("todo_list:{list}")
}
