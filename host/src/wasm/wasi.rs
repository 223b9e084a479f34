//! What of its node's machine an actor sees through WASI: what it holds capabilities for.
//!
//! Owns the translation of capabilities into what wasmtime's WASI checks: buckets, hosts of
//! requests, addresses of sockets, folders, variables. Does not decide who holds what.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use http_body_util::BodyExt;
use rustix::fs::{Mode, OFlags, open, openat};
use wasm_node_protocol::capability::{
    Access, Any, Capabilities, Capability, CapabilityKind, Endpoint, EndpointHost,
};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder};
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};

use super::keyvalue::KeyvalueCtx;
use crate::store::{BucketGrants, BucketName, Store};

/// The longest that an actor's request may take to connect, whatever it asks for.
const HTTP_CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Streams, files, sockets and requests that one instance may hold; one more ends its actor.
const MAX_HANDLES: usize = 1024;

/// The WASI of one instance.
pub(super) struct Wasi {
    pub(super) ctx: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) http: wasmtime_wasi_http::WasiHttpCtx,
    pub(super) hooks: OutgoingHttp,
    pub(super) keyvalue: KeyvalueCtx,
}

/// A granted folder cannot be used. The fault of whoever granted it, or of the machine.
#[derive(Debug, thiserror::Error)]
#[error("the folder of the capability {0} cannot be opened: {1}")]
pub(super) struct FolderError(Capability, std::io::Error);

impl Wasi {
    /// WASI as far as these capabilities go; `ctx` has what needs none. Folders come with
    /// [`open_folders`].
    pub(super) fn new(ctx: &mut WasiCtxBuilder, held: &Capabilities, store: Store) -> Self {
        for one in held.iter() {
            match one {
                Capability::Env(Any::All) => {
                    // What is no UTF-8 cannot be told.
                    for (name, value) in std::env::vars_os() {
                        if let (Some(name), Some(value)) = (name.to_str(), value.to_str()) {
                            ctx.env(name, value);
                        }
                    }
                }
                Capability::Env(Any::One(name)) => {
                    if let Ok(value) = std::env::var(name) {
                        ctx.env(name, value);
                    }
                }
                _ => {}
            }
        }
        if held.has(CapabilityKind::Sockets) {
            allow_sockets(ctx, held);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        Self {
            ctx: ctx.build(),
            table,
            http: wasmtime_wasi_http::WasiHttpCtx::new(),
            hooks: OutgoingHttp(held.clone()),
            keyvalue: KeyvalueCtx::new(store, buckets(held)),
        }
    }
}

/// The buckets that may be opened.
fn buckets(held: &Capabilities) -> BucketGrants {
    let mut named = Vec::new();
    for one in held.iter() {
        match one {
            Capability::KeyValue(Any::All) => return BucketGrants::All,
            // What can be no bucket's name grants none.
            Capability::KeyValue(Any::One(name)) => named.extend(BucketName::new(name).ok()),
            _ => {}
        }
    }
    named.into_iter().collect()
}

/// Shows the granted folders, each under its own path.
pub(super) fn open_folders(
    ctx: &mut WasiCtxBuilder,
    held: &Capabilities,
) -> Result<(), FolderError> {
    for one in held.iter() {
        let Capability::Files { folder, access } = one else {
            continue;
        };
        let perms = match access {
            Access::ReadOnly => FsPerms::ReadOnly,
            Access::ReadWrite => FsPerms::ReadWrite,
        };
        let failed = |error| FolderError(one.clone(), error);
        let opened = open_folder(folder).map_err(failed)?;
        let name = if folder.is_empty() { "/" } else { folder };
        let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
        ctx.preopened_dir(path, name, perms)
            .map_err(|error| failed(std::io::Error::other(error)))?;
    }
    Ok(())
}

/// Opens a folder without following links. Those of whoever wrote a policy were resolved when it
/// was read: a link met here was made by an actor that may write where it lies, and asks for
/// a folder elsewhere on behalf of its child.
fn open_folder(folder: &str) -> std::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut opened = open("/", flags, Mode::empty())?;
    for part in folder.split('/').filter(|part| !part.is_empty()) {
        opened = openat(&opened, part, flags, Mode::empty())?;
    }
    Ok(opened)
}

fn allow_sockets(ctx: &mut WasiCtxBuilder, held: &Capabilities) {
    let by_name = |one: &Capability| {
        matches!(
            one,
            Capability::Sockets(
                Any::All
                    | Any::One(Endpoint {
                        host: EndpointHost::Name(_),
                        ..
                    })
            )
        )
    };
    let held = held.clone();
    ctx.allow_tcp(true)
        .allow_udp(true)
        .allow_ip_name_lookup(held.iter().any(by_name))
        .socket_addr_check(move |address, usage| {
            let held = held.clone();
            Box::pin(async move { may_use(&held, address, usage).await })
        });
}

/// Whether a socket may have to do with an address.
async fn may_use(held: &Capabilities, address: SocketAddr, usage: SocketAddrUse) -> bool {
    match usage {
        // The socket listens, which was allowed.
        SocketAddrUse::TcpAccept => return true,
        // What every socket does before it connects or sends.
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind
            if address.ip().is_unspecified() && address.port() == 0 =>
        {
            return true;
        }
        _ => {}
    }
    let (ip, port) = (address.ip().to_canonical(), address.port());
    for one in held.iter() {
        let Capability::Sockets(place) = one else {
            continue;
        };
        let may = match place {
            Any::One(Endpoint {
                host: EndpointHost::Name(name),
                port: of,
            }) => of.is_none_or(|of| of == port) && is_address_of(ip, name.clone()).await,
            place => place.includes(&EndpointHost::Ip(ip), port),
        };
        if may {
            return true;
        }
    }
    tracing::debug!(%address, ?usage, "no capability for this address");
    false
}

/// Whether a name stands for an address, as the machine resolves it now.
async fn is_address_of(ip: IpAddr, name: String) -> bool {
    let resolving = tokio::spawn(async move {
        let found = tokio::net::lookup_host((name, 0)).await;
        found.is_ok_and(|mut found| found.any(|at| at.ip().to_canonical() == ip))
    });
    resolving.await.unwrap_or(false)
}

/// Sends the requests of one actor to the hosts that it may ask.
pub(super) struct OutgoingHttp(Capabilities);

impl OutgoingHttp {
    fn may_ask(&self, uri: &hyper::Uri) -> bool {
        let Some(host) = uri.host().and_then(EndpointHost::parse) else {
            return false;
        };
        let default = match uri.scheme_str() {
            Some("http") => 80,
            _ => 443,
        };
        let port = uri.port_u16().unwrap_or(default);
        self.0.iter().any(|one| match one {
            Capability::Http(place) => place.includes(&host, port),
            _ => false,
        })
    }
}

type Sending = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

impl WasiHttpHooks for OutgoingHttp {
    fn send_request(
        &mut self,
        request: hyper::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Sending,
    ) -> Box<dyn Future<Output = Result<(hyper::Response<WasiBody>, Sending), HttpError>> + Send>
    {
        if !self.may_ask(request.uri()) {
            tracing::debug!(uri = %request.uri(), "no capability for this host");
            return Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)));
        }
        let mut options = options.unwrap_or_default();
        let asked = options.connect_timeout.unwrap_or(HTTP_CONNECT_TIMEOUT);
        options.connect_timeout = Some(asked.min(HTTP_CONNECT_TIMEOUT));
        Box::new(async move {
            let sent = wasmtime_wasi_http::default_send_request(request, Some(options));
            let (response, rest) = sent.await?;
            Ok((
                response.map(BodyExt::boxed_unsync),
                Box::new(rest) as Sending,
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(texts: &[&str]) -> Capabilities {
        Capabilities::parse(texts).unwrap()
    }

    #[test]
    fn requests_go_to_granted_hosts_only() {
        let hooks = OutgoingHttp(held(&["http:example.com", "http:127.0.0.1:8080"]));
        let may = |uri: &str| hooks.may_ask(&uri.parse().unwrap());
        assert!(may("https://example.com/a") && may("http://EXAMPLE.com:9/"));
        assert!(may("http://127.0.0.1:8080/"));
        assert!(!may("http://127.0.0.1/") && !may("https://127.0.0.1/"));
        assert!(!may("http://sub.example.com/") && !may("http://example.com.evil.org/"));
        assert!(!may("http://example.com@evil.org/"));
        assert!(!OutgoingHttp(held(&[])).may_ask(&"http://a/".parse().unwrap()));
    }

    #[tokio::test]
    async fn sockets_reach_granted_addresses_only() {
        use SocketAddrUse::*;
        let held = held(&[
            "sockets:127.0.0.1:80",
            "sockets:localhost:90",
            "sockets:[::2]",
        ]);
        for (address, usage, may) in [
            ("127.0.0.1:80", TcpConnect, true),
            ("127.0.0.1:80", TcpListen, true),
            ("[::ffff:127.0.0.1]:80", TcpConnect, true),
            ("127.0.0.1:81", TcpConnect, false),
            ("127.0.0.2:80", UdpSend, false),
            ("127.0.0.1:90", UdpSend, true),
            ("127.0.0.9:90", TcpConnect, false),
            ("[::2]:7", UdpReceive, true),
            ("[::3]:7", UdpReceive, false),
            // To connect, any port of one's own.
            ("0.0.0.0:0", TcpBind, true),
            ("0.0.0.0:0", UdpBind, true),
            ("0.0.0.0:0", TcpListen, false),
            ("0.0.0.0:80", TcpBind, false),
            ("127.0.0.1:0", TcpBind, false),
            ("203.0.113.9:4000", TcpAccept, true),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(
                may_use(&held, address, usage).await,
                may,
                "{address} {usage:?}"
            );
        }
    }

    #[test]
    fn a_link_is_no_granted_folder() {
        let site = tempfile::tempdir().unwrap();
        let root = site.path().canonicalize().unwrap();
        let (inner, link) = (root.join("inner"), root.join("link"));
        std::fs::create_dir(&inner).unwrap();
        std::os::unix::fs::symlink("/", &link).unwrap();
        let open = |path: &std::path::Path| open_folder(path.to_str().unwrap());
        assert!(open(&inner).is_ok() && open(&root).is_ok() && open_folder("").is_ok());
        assert!(open(&link).is_err() && open(&link.join("tmp")).is_err());
        assert!(open(&root.join("missing")).is_err());
    }

    #[test]
    fn buckets_are_those_held() {
        let a = BucketName::new("a").unwrap();
        assert!(buckets(&held(&["keyvalue:a"])).allow(&a));
        assert!(!buckets(&held(&["keyvalue:b", "sockets:*"])).allow(&a));
        assert!(buckets(&held(&["*"])).allow(&a));
    }
}
