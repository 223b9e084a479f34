//! How a link begins: finding the other node, connecting, and the handshake of either side.
//!
//! Owns the order of these steps. Whether a link shall be is decided by the kernel's machines,
//! which hear of each step in time to settle simultaneous dials.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};
use wasm_node_protocol::NodeName;
use wasm_node_protocol::handshake::{Accepting, Dialling, Hello, Peer};
use wasm_node_protocol::membership::{DialTarget, LinkId};

use super::config::EpmdMode;
use super::epmd;
use super::kernel::Kernel;
use super::link::LinkError;
use super::transport::{Channel, Role};

/// Finds the node, connects and shakes hands; the link is agreed on when this returns.
pub(super) async fn reach(
    kernel: &Kernel,
    id: LinkId,
    target: DialTarget,
    asked: bool,
) -> Result<(Channel, Peer), LinkError> {
    let (name, address) = match target {
        DialTarget::Address(address) => return dial_at(kernel, id, &address, None, asked).await,
        DialTarget::Node { name, address } => (name, address),
    };
    if let Some(address) = &address {
        match dial_at(kernel, id, address, Some(name.clone()), asked).await {
            Err(error) if error.is_about_address() && kernel.config.epmd != EpmdMode::Off => {
                tracing::debug!(%name, address, %error, "not where it was: asking the port mapper");
            }
            result => return result,
        }
    }
    let EpmdMode::Port(port) = kernel.config.epmd else {
        return Err(LinkError::NoAddress(name));
    };
    let host = resolve(name.host(), port).await?.ip();
    // A machine's own name may mean an address that neither nodes nor the port mapper
    // listen on, such as Debian's 127.0.1.1.
    let here = name.host() == kernel.config.name.host();
    let mapper = if here {
        epmd::local(port)
    } else {
        SocketAddr::new(host, port)
    };
    let port = epmd::port_of(mapper, name.alive()).await?;
    let at = |ip| SocketAddr::new(ip, port).to_string();
    match dial_at(kernel, id, &at(mapper.ip()), Some(name.clone()), asked).await {
        Err(LinkError::Unreachable(..)) if host != mapper.ip() => {
            dial_at(kernel, id, &at(host), Some(name), asked).await
        }
        result => result,
    }
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, LinkError> {
    let failed = |error| LinkError::Resolve(host.into(), error);
    let found = lookup_host((host, port)).await.map_err(failed)?;
    let mut found: Vec<_> = found.collect();
    // Ours serves on IPv4 alone, as `localhost` may not tell.
    found.sort_by_key(SocketAddr::is_ipv6);
    let nothing = || failed(io::Error::new(io::ErrorKind::NotFound, "no address"));
    found.first().copied().ok_or_else(nothing)
}

async fn dial_at(
    kernel: &Kernel,
    id: LinkId,
    address: &str,
    expected: Option<NodeName>,
    asked: bool,
) -> Result<(Channel, Peer), LinkError> {
    let found = lookup_host(address)
        .await
        .map_err(|e| LinkError::Resolve(address.into(), e))?;
    let found: Vec<_> = found.collect();
    let connected = TcpStream::connect(found.as_slice()).await;
    let stream = connected.map_err(|e| LinkError::Unreachable(address.into(), e))?;
    let (security, cookie) = (kernel.config.security, &kernel.config.cookie);
    let mut channel = Channel::secure(stream, Role::Dialler, security, cookie).await?;
    let hello = Hello {
        asked,
        ..kernel.hello()
    };
    let (state, message) = Dialling::start(hello, expected);
    kernel.hello_sent(id);
    channel.send(&message).await?;
    let message = channel.receive().await?;
    let greeted = match state.on_message(&message) {
        Ok(greeted) => greeted,
        Err(failed) => return Err(channel.fail(failed).await.into()),
    };
    if let Err(refusal) = kernel.judge(id, greeted.peer()) {
        return Err(channel.fail(greeted.refuse(refusal)).await.into());
    }
    let (peer, message) = greeted.accept();
    channel.send(&message).await?;
    Ok((channel, peer))
}

/// Shakes hands with whoever dialled; the link is agreed on when this returns.
pub(super) async fn greet(
    kernel: &Kernel,
    id: LinkId,
    stream: TcpStream,
) -> Result<(Channel, Peer), LinkError> {
    let (security, cookie) = (kernel.config.security, &kernel.config.cookie);
    let mut channel = Channel::secure(stream, Role::Acceptor, security, cookie).await?;
    let message = channel.receive().await?;
    let asked = match Accepting::start(kernel.hello()).on_message(&message) {
        Ok(asked) => asked,
        Err(failed) => return Err(channel.fail(failed).await.into()),
    };
    if let Err(refusal) = kernel.judge(id, asked.peer()) {
        return Err(channel.fail(asked.refuse(refusal)).await.into());
    }
    let (state, message) = asked.accept();
    channel.send(&message).await?;
    let message = channel.receive().await?;
    match state.on_message(&message) {
        Ok(peer) => Ok((channel, peer)),
        Err(failed) => Err(channel.fail(failed).await.into()),
    }
}
