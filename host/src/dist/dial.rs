//! How a link begins: finding the other node, connecting, and the handshake of either side.
//!
//! Owns the order of these steps. Whether a link shall be is decided by the kernel's machines,
//! which hear of each step in time to settle simultaneous dials.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};
use wasm_node_protocol::NodeName;
use wasm_node_protocol::handshake::{Accepting, Dialling, Hello, Peer, Refusal};
use wasm_node_protocol::membership::{DialTarget, LinkId};

use super::config::EpmdMode;
use super::epmd;
use super::kernel::Kernel;
use super::link::LinkError;
use super::transport::{Channel, Introduced, Role};

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
    let (mut channel, claimed) = secure(kernel, stream, Role::Dialler, |_| {}).await?;
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
    if let Err(refusal) = judge(kernel, id, greeted.peer(), &claimed) {
        return Err(channel.fail(greeted.refuse(refusal)).await.into());
    }
    let (peer, message) = greeted.accept();
    channel.send(&message).await?;
    Ok((channel, peer))
}

/// Exchanges introductions, tells who the other side says it is, and proves the cookie for that.
async fn secure(
    kernel: &Kernel,
    stream: TcpStream,
    role: Role,
    introduced: impl FnOnce(&NodeName),
) -> Result<(Channel, NodeName), LinkError> {
    let (security, own) = (kernel.config.security, &kernel.config.name);
    let unproven = Introduced::exchange(stream, security, own).await?;
    let claimed = unproven.peer().clone();
    introduced(&claimed);
    let cookie = kernel.cookies.with(&claimed);
    Ok((unproven.secure(role, &cookie).await?, claimed))
}

/// Whether the link shall be, with a peer whose cookie was chosen by the name that it claimed.
fn judge(kernel: &Kernel, id: LinkId, peer: &Peer, claimed: &NodeName) -> Result<(), Refusal> {
    if peer.name != *claimed {
        let words = format!(
            "it introduced itself as {claimed} and says that it is {}",
            peer.name
        );
        return Err(Refusal::BadHello(words));
    }
    kernel.judge(id, peer)
}

/// Shakes hands with whoever dialled; the link is agreed on when this returns. `introduced` hears
/// who it says it is.
pub(super) async fn greet(
    kernel: &Kernel,
    id: LinkId,
    stream: TcpStream,
    introduced: impl FnOnce(&NodeName),
) -> Result<(Channel, Peer), LinkError> {
    let (mut channel, claimed) = secure(kernel, stream, Role::Acceptor, introduced).await?;
    let message = channel.receive().await?;
    let asked = match Accepting::start(kernel.hello()).on_message(&message) {
        Ok(asked) => asked,
        Err(failed) => return Err(channel.fail(failed).await.into()),
    };
    if let Err(refusal) = judge(kernel, id, asked.peer(), &claimed) {
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
