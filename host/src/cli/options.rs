//! Options that several commands share, parsed into values.

use std::path::PathBuf;

use wasm_node_protocol::NodeName;
use wasm_node_protocol::global::PartitionPolicy;

use super::error::CliError;
use crate::dist::{Cookie, CookieSource, EpmdMode, Security, epmd};
use crate::node::Contact;

/// The cookie of a command or of its children, when the command line has neither option.
pub(super) const COOKIE_VARIABLE: &str = "WASM_NODE_COOKIE";
/// Erlang's own variable for the port mapper's port.
const EPMD_PORT_VARIABLE: &str = "ERL_EPMD_PORT";

/// How a node and its peers trust each other.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Trust {
    /// The cluster's shared secret; others on this machine can see it in the process list, so
    /// better set WASM_NODE_COOKIE or use --cookie-file [default: ~/.wasm-node.cookie, made if
    /// there is none]
    #[arg(long, value_name = "TEXT", env = COOKIE_VARIABLE, hide_env_values = true)]
    pub(super) cookie: Option<String>,
    /// A file that holds it, readable by you only
    #[arg(long, value_name = "FILE")]
    pub(super) cookie_file: Option<PathBuf>,
    /// Authenticate, but do not encrypt: for trusted networks, on all nodes alike
    #[arg(long)]
    pub(super) plaintext: bool,
}

impl Trust {
    pub(super) fn source(&self) -> Result<CookieSource, CliError> {
        // A file that was asked for goes before a variable that merely happens to be set.
        if let Some(path) = &self.cookie_file {
            return Ok(CookieSource::File(path.clone()));
        }
        if let Some(text) = &self.cookie {
            return Ok(CookieSource::Text(text.clone()));
        }
        match std::env::home_dir() {
            Some(home) if !home.as_os_str().is_empty() => Ok(CookieSource::Home(home)),
            _ => Err(CliError::Usage(
                "there is no home folder to keep a cookie in: give --cookie-file FILE".into(),
            )),
        }
    }

    /// Takes tens of milliseconds, by design.
    pub(super) fn cookie(&self) -> Result<Cookie, CliError> {
        Ok(Cookie::load(&self.source()?)?)
    }

    pub(super) fn security(&self) -> Security {
        if self.plaintext {
            Security::Plaintext
        } else {
            Security::Noise
        }
    }
}

/// What the smaller part of a divided cluster may do.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Partition {
    /// Whether global names and locks may be had in the smaller part of a divided cluster:
    /// "available" (in both parts then, to be resolved when they meet) or "minority-refuses";
    /// the same on all nodes
    #[arg(long, value_name = "POLICY", default_value = "available",
          value_parser = ["available", "minority-refuses"])]
    pub(super) partition_policy: String,
    /// How many visible nodes the cluster has, for minority-refuses [default: those that this
    /// node has met since it started, less those that stopped in order]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) cluster_size: Option<u32>,
}

impl Partition {
    pub(super) fn policy(&self) -> Result<PartitionPolicy, CliError> {
        let cluster_size = self.cluster_size;
        match (self.partition_policy.as_str(), cluster_size) {
            ("minority-refuses", cluster_size) => {
                Ok(PartitionPolicy::MinorityRefuses { cluster_size })
            }
            (_, None) => Ok(PartitionPolicy::Available),
            (_, Some(_)) => Err(CliError::Usage(
                "--cluster-size is for --partition-policy minority-refuses: give both".into(),
            )),
        }
    }
}

/// The port mapper to use: Erlang's port for it unless the environment moves it.
pub(super) fn epmd_port() -> Result<u16, CliError> {
    match std::env::var(EPMD_PORT_VARIABLE) {
        Err(_) => Ok(epmd::DEFAULT_PORT),
        Ok(text) => text.parse().ok().filter(|&port| port != 0).ok_or_else(|| {
            CliError::Usage(format!(
                "{EPMD_PORT_VARIABLE}={text:?} is no port: set it to 1..65535, or unset it"
            ))
        }),
    }
}

pub(super) fn epmd_mode(off: bool) -> Result<EpmdMode, CliError> {
    Ok(if off {
        EpmdMode::Off
    } else {
        EpmdMode::Port(epmd_port()?)
    })
}

/// A whole node name on the command line.
pub(super) fn node_name(text: &str) -> Result<NodeName, String> {
    text.parse()
        .map_err(|error: wasm_node_protocol::ids::NodeNameError| error.to_string())
}

/// `NAME@HOST`, or `HOST:PORT`.
pub(super) fn contact(text: &str) -> Result<Contact, String> {
    if text.contains('@') {
        return node_name(text).map(Contact::Name);
    }
    host_port(text).map(Contact::Address)
}

/// `HOST:PORT`, with a host in brackets if it has colons.
pub(super) fn host_port(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(port)) if port != 0 => Ok(text.into()),
        _ => Err(format!(
            "{text:?} is no address: write HOST:PORT, or a node's name NAME@HOST"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_a_name_or_an_address() {
        assert_eq!(
            contact("node1@127.0.0.1"),
            Ok(Contact::Name("node1@127.0.0.1".parse().unwrap()))
        );
        assert_eq!(
            contact("127.0.0.1:9000"),
            Ok(Contact::Address("127.0.0.1:9000".into()))
        );
        assert_eq!(
            contact("[::1]:9000"),
            Ok(Contact::Address("[::1]:9000".into()))
        );
        for text in ["node1", "@host", "host:", ":80", "host:0", "host:70000"] {
            assert!(contact(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_file_goes_before_the_text() {
        let trust = Trust {
            cookie: Some("text".into()),
            cookie_file: Some("file".into()),
            plaintext: false,
        };
        assert_eq!(trust.source().unwrap(), CookieSource::File("file".into()));
    }
}
