//! Each way a handshake can end.

use proptest::prelude::*;

use super::challenge::{AcceptorChallenge, DiallerChallenge};
use super::*;

fn hello(name: &str, incarnation: u64) -> Hello {
    Hello::new(
        name.parse().unwrap(),
        Incarnation(incarnation),
        NodeKind::Visible,
        4_000,
    )
}

/// Both sides up to the acceptor's verdict.
fn meet(dialler: Hello, acceptor: Hello) -> Result<(Dialling, Asked), Failed> {
    let (dialling, message) = Dialling::start(dialler, None);
    Accepting::start(acceptor)
        .on_message(&message)
        .map(|asked| (dialling, asked))
}

fn refusal(dialler: Hello, acceptor: Hello) -> Refusal {
    let (dialling, message) = Dialling::start(dialler, None);
    let failed = Accepting::start(acceptor).on_message(&message).unwrap_err();
    let HandshakeError::Refused(ours) = failed.error else {
        panic!("{:?}", failed.error)
    };
    let told = dialling.on_message(&failed.reply.unwrap()).unwrap_err();
    assert_eq!(told.error, HandshakeError::RefusedByPeer(ours.clone()));
    assert!(told.reply.is_none());
    ours
}

#[test]
fn both_sides_agree_on_a_link() {
    let mut ours = hello("a@h", 1);
    ours.asked = true;
    ours.address = Some("127.0.0.1:1".into());
    let (dialling, asked) = meet(ours, hello("b@h", 2)).unwrap();
    assert!(asked.peer().asked);
    let (confirming, message) = asked.accept();
    let greeted = dialling.on_message(&message).unwrap();
    let (to, message) = greeted.accept();
    let from = confirming.on_message(&message).unwrap();
    assert_eq!(
        (to.name.as_str(), to.incarnation, to.version),
        ("b@h", Incarnation(2), VERSION_MAX)
    );
    assert_eq!(
        (from.name.as_str(), from.address.as_deref()),
        ("a@h", Some("127.0.0.1:1"))
    );
}

#[test]
fn the_dialler_may_refuse_too() {
    let (dialling, asked) = meet(hello("a@h", 1), hello("b@h", 2)).unwrap();
    let (confirming, message) = asked.accept();
    let failed = dialling
        .on_message(&message)
        .unwrap()
        .refuse(Refusal::Simultaneous);
    let told = confirming.on_message(&failed.reply.unwrap()).unwrap_err();
    assert_eq!(
        told.error,
        HandshakeError::RefusedByPeer(Refusal::Simultaneous)
    );
}

#[test]
fn names_and_incarnations_must_fit() {
    assert!(matches!(
        refusal(hello("a@h", 1), hello("a@h", 2)),
        Refusal::SameName(_)
    ));
    assert_eq!(
        refusal(hello("a@h", 1), hello("a@h", 1)),
        Refusal::SelfConnect
    );
    let mixed = refusal(hello("a@h", 1), hello("b@h.org", 2));
    assert!(mixed.to_string().contains("do not mix"), "{mixed}");
    assert!(matches!(
        refusal(hello("a@h", 0), hello("b@h", 2)),
        Refusal::BadHello(_)
    ));
    let mut long = hello("a@h", 1);
    long.address = Some("x".repeat(MAX_ADDRESS_BYTES + 1));
    assert!(matches!(
        refusal(long, hello("b@h", 2)),
        Refusal::BadHello(_)
    ));
}

#[test]
fn the_newest_common_version_is_taken() {
    let with = |name, incarnation, version_min, version_max| Hello {
        version_min,
        version_max,
        ..hello(name, incarnation)
    };
    let (_, asked) = meet(with("a@h", 1, 2, 3), with("b@h", 2, 1, 2)).unwrap();
    assert_eq!(asked.peer().version, 2);
    let refused = refusal(with("a@h", 1, 4, 5), with("b@h", 2, 2, 3));
    assert_eq!(
        refused,
        Refusal::Version {
            min: 2,
            max: 3,
            peer_min: 4,
            peer_max: 5
        }
    );
}

#[test]
fn another_node_at_the_address_is_refused() {
    let (dialling, message) = Dialling::start(hello("a@h", 1), Some("c@h".parse().unwrap()));
    let asked = Accepting::start(hello("b@h", 2))
        .on_message(&message)
        .unwrap();
    let (confirming, message) = asked.accept();
    let failed = dialling.on_message(&message).unwrap_err();
    assert!(matches!(
        failed.error,
        HandshakeError::Refused(Refusal::Unexpected { .. })
    ));
    assert!(confirming.on_message(&failed.reply.unwrap()).is_err());
}

#[test]
fn a_later_version_may_say_more_in_its_hello() {
    let (_, mut message) = Dialling::start(hello("a@h", 1), None);
    message.extend_from_slice(b"more");
    assert!(
        Accepting::start(hello("b@h", 2))
            .on_message(&message)
            .is_ok()
    );
}

#[test]
fn a_preamble_must_match() {
    let noise = Preamble {
        security: Security::Noise,
    };
    let plain = Preamble {
        security: Security::Plaintext,
    };
    assert_eq!(noise.check(&noise.encode()), Ok(()));
    let mixed = noise.check(&plain.encode()).unwrap_err();
    assert!(mixed.to_string().contains("--plaintext"), "{mixed}");
    assert_eq!(plain.check(b"GET / HT"), Err(HandshakeError::NotANode));
    assert_eq!(plain.check(b"WASMNODX"), Err(HandshakeError::NotANode));
}

#[test]
fn one_cookie_proves_both_sides() {
    let (dialler, message) = DiallerChallenge::start([7; 32], [1; 32]);
    let (acceptor, message) = AcceptorChallenge::start([7; 32], [2; 32])
        .on_message(&message)
        .unwrap();
    let message = dialler.on_message(&message).unwrap();
    acceptor.on_message(&message).unwrap();
}

#[test]
fn two_cookies_are_noticed_on_both_sides() {
    let (dialler, message) = DiallerChallenge::start([7; 32], [1; 32]);
    let (acceptor, message) = AcceptorChallenge::start([8; 32], [2; 32])
        .on_message(&message)
        .unwrap();
    let failed = dialler.on_message(&message).unwrap_err();
    assert_eq!(failed.error, HandshakeError::WrongCookie);
    let told = acceptor.on_message(&failed.reply.unwrap()).unwrap_err();
    assert_eq!(told.error, HandshakeError::WrongCookie);
}

#[test]
fn a_proof_is_worth_nothing_elsewhere() {
    // An intruder without the cookie reflects the acceptor's own proof.
    let (_, message) = AcceptorChallenge::start([7; 32], [2; 32])
        .on_message(&encode(&[1_u8; 32]))
        .unwrap();
    let (_, proof) = decode::<([u8; 32], [u8; 32])>(&message).unwrap();
    let (acceptor, _) = AcceptorChallenge::start([7; 32], [2; 32])
        .on_message(&encode(&[1_u8; 32]))
        .unwrap();
    assert!(
        acceptor
            .on_message(&encode(&Answer::Accepted(proof)))
            .is_err()
    );
    // Or replays a dialler's proof to another nonce.
    let (dialler, hello) = DiallerChallenge::start([7; 32], [1; 32]);
    let (_, message) = AcceptorChallenge::start([7; 32], [2; 32])
        .on_message(&hello)
        .unwrap();
    let proof = dialler.on_message(&message).unwrap();
    let (acceptor, _) = AcceptorChallenge::start([7; 32], [3; 32])
        .on_message(&hello)
        .unwrap();
    assert!(acceptor.on_message(&proof).is_err());
}

proptest! {
    #[test]
    fn any_bytes_fail_or_pass_at_each_step(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Accepting::start(hello("b@h", 2)).on_message(&bytes);
        let _ = Dialling::start(hello("b@h", 2), None).0.on_message(&bytes);
        let _ = AcceptorChallenge::start([1; 32], [2; 32]).on_message(&bytes);
        let _ = DiallerChallenge::start([1; 32], [2; 32]).0.on_message(&bytes);
        if let Ok((_, asked)) = meet(hello("a@h", 1), hello("b@h", 2)) {
            let _ = asked.accept().0.on_message(&bytes);
        }
    }
}
