//! A small HTTP/1.1 client, for tests that look at bytes: one connection, kept alive, and no
//! retry that a test did not ask for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long a response may take by default: far beyond any promise, so that a test that times
/// its requests sees the excess.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A response, in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The body; empty after `HEAD`.
    pub body: Vec<u8>,
}

impl Response {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// Connects to `http://HOST:PORT`.
    pub fn open(url: &str) -> Result<Self> {
        let host = url
            .strip_prefix("http://")
            .unwrap_or(url)
            .trim_end_matches('/');
        let stream =
            TcpStream::connect(host).with_context(|| format!("cannot connect to {host}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
        stream.set_write_timeout(Some(RESPONSE_TIMEOUT))?;
        Ok(Self {
            stream: BufReader::new(stream),
            host: host.into(),
        })
    }

    /// Sends a request without a body, and waits for its response.
    pub fn request(&mut self, method: &str, target: &str) -> Result<Response> {
        self.request_with(method, target, &[], b"")
    }

    /// Sends a request with further headers and a body, and waits for its response.
    pub fn request_with(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response> {
        let mut bytes =
            format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", self.host).into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !body.is_empty() || method == "POST" {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.send(&bytes)?;
        self.receive(method == "HEAD")
            .with_context(|| format!("{method} {target} at {}", self.host))
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .get_mut()
            .write_all(bytes)
            .context("cannot send")
    }

    /// Receives one response; `head` says that it answers `HEAD`.
    pub fn receive(&mut self, head: bool) -> Result<Response> {
        let status_line = self.line()?;
        let mut words = status_line.splitn(3, ' ');
        ensure!(
            words
                .next()
                .is_some_and(|version| version.starts_with("HTTP/1.")),
            "no status line: {status_line:?}"
        );
        let status = words
            .next()
            .unwrap_or_default()
            .parse()
            .context("no status code")?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        let mut response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        if head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(response);
        }
        response.body = if response.header("transfer-encoding") == Some("chunked") {
            self.chunks()?
        } else if let Some(length) = response.header("content-length") {
            let mut body = vec![0; length.parse().context("no content-length")?];
            self.stream
                .read_exact(&mut body)
                .context("the body ends early")?;
            body
        } else {
            let mut body = Vec::new();
            self.stream
                .read_to_end(&mut body)
                .context("cannot read the body")?;
            body
        };
        Ok(response)
    }

    /// Whether the other side has closed the connection and sent nothing more.
    pub fn is_closed(&mut self) -> Result<bool> {
        match self.stream.fill_buf() {
            Ok(bytes) => Ok(bytes.is_empty()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(true),
            Err(error) => Err(error).context("cannot read"),
        }
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).context("no chunk size")?;
            let from = body.len();
            body.resize(from + size, 0);
            let chunk = body.get_mut(from..).unwrap_or_default();
            self.stream
                .read_exact(chunk)
                .context("a chunk ends early")?;
            ensure!(self.line()?.is_empty(), "no line end after a chunk");
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let read = self
            .stream
            .read_until(b'\n', &mut line)
            .context("no answer")?;
        if read == 0 {
            bail!("the connection was closed");
        }
        let text = String::from_utf8(line).context("a head that is no text")?;
        Ok(text.trim_end_matches(['\r', '\n']).to_string())
    }
}

/// Percent-encodes a query's value.
pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
