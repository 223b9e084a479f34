//! Cookies set at run time, for all peers and for one.

use super::*;

fn cookie(text: &str) -> Cookie {
    Cookie::for_tests(text)
}

fn name(node: &Node) -> NodeName {
    node.dist.name().clone()
}

#[tokio::test]
async fn a_cookie_set_at_run_time_counts_for_new_links_only() {
    for security in [Security::Noise, Security::Plaintext] {
        let started = |name| {
            Node::start(DistConfig {
                security,
                ..config(name)
            })
        };
        let (a, b, c) = (started("a").await, started("b").await, started("c").await);
        connect(&a, &b).await.unwrap();
        a.dist.set_cookie(None, cookie("vanilla")).unwrap();
        // What is up stays.
        assert_eq!(a.names(NodeSet::All), ["b"]);
        for (from, to) in [(&a, &c), (&c, &a)] {
            let refused = connect(from, to).await.unwrap_err();
            assert!(refused.reason.contains("wrong cookie"), "{refused}");
        }
        // For one peer, on both sides; either may dial.
        a.dist
            .set_cookie(Some(&name(&c)), cookie("nougat"))
            .unwrap();
        c.dist
            .set_cookie(Some(&name(&a)), cookie("nougat"))
            .unwrap();
        connect(&c, &a).await.unwrap();
        until("both see it", || {
            a.names(NodeSet::All).contains(&"c".into())
        })
        .await;
        assert!(a.dist.disconnect(&name(&c)));
        connect(&a, &c).await.unwrap();
        // One for itself is for all, and both sides agree then.
        c.dist.disconnect(&name(&b));
        let rows = |node: &Node| node.dist.cookies();
        c.dist
            .set_cookie(Some(&name(&c)), cookie("vanilla"))
            .unwrap();
        assert_eq!(
            rows(&a),
            [
                CookieRow {
                    peer: None,
                    fingerprint: cookie("vanilla").fingerprint()
                },
                CookieRow {
                    peer: Some(name(&c)),
                    fingerprint: cookie("nougat").fingerprint()
                },
            ]
        );
        assert_eq!(rows(&a)[0], rows(&c)[0]);
        stop([a, b, c]).await;
    }
}

#[tokio::test]
async fn a_cookie_for_one_name_opens_no_other() {
    let (a, b) = (start("a").await, start("b").await);
    a.dist
        .set_cookie(Some(&name(&b)), cookie("nougat"))
        .unwrap();
    // It has what is meant for b, and is not b.
    let thief = start("thief").await;
    thief.dist.set_cookie(None, cookie("nougat")).unwrap();
    let refused = connect(&thief, &a).await.unwrap_err();
    assert!(refused.reason.contains("wrong cookie"), "{refused}");
    // Even if it introduces itself as b: the hello has to say the same.
    for security in [Security::Noise, Security::Plaintext] {
        let a = Node::start(DistConfig {
            security,
            ..config("a2")
        })
        .await;
        a.dist
            .set_cookie(Some(&name(&b)), cookie("nougat"))
            .unwrap();
        let stream = TcpStream::connect(a.dist.address().unwrap()).await.unwrap();
        let introduced = Introduced::exchange(stream, security, &name(&b))
            .await
            .unwrap();
        assert_eq!(*introduced.peer(), name(&a));
        let secured = introduced.secure(Role::Dialler, &cookie("nougat")).await;
        let mut channel = secured.unwrap();
        let hello = Hello::new(name(&thief), Incarnation(77), NodeKind::Visible, 4_000);
        let (state, message) = Dialling::start(hello, None);
        channel.send(&message).await.unwrap();
        let failed = state
            .on_message(&channel.receive().await.unwrap())
            .unwrap_err();
        assert!(
            failed.error.to_string().contains("introduced itself as b@"),
            "{failed:?}"
        );
        assert!(a.names(NodeSet::All).is_empty());
        stop([a]).await;
    }
    stop([a, b, thief]).await;
}

#[tokio::test]
async fn a_wrong_cookie_is_logged_with_who_it_was() {
    let log = Log::default();
    let _installed = log.install();
    let (a, b) = (start("a").await, start("b").await);
    b.dist.set_cookie(None, cookie("vanilla")).unwrap();
    connect(&b, &a).await.unwrap_err();
    until("the acceptor logs it", || {
        log.count("by its own words b@127.0.0.1") > 0
    })
    .await;
    assert!(log.count("wrong cookie") >= 2, "and so does the dialler");
    stop([a, b]).await;
}
