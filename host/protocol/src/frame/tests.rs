use proptest::prelude::*;

use super::*;

fn drain(reader: &mut FrameReader) -> Vec<(Lane, Vec<u8>)> {
    let mut messages = Vec::new();
    while let Some((lane, payload)) = reader.next_message().unwrap() {
        messages.push((lane, payload.as_slice().to_vec()));
    }
    messages
}

/// What the writer has, as bytes.
fn wire(writer: &mut FrameWriter, target: usize) -> Vec<u8> {
    let mut batch = Batch::default();
    writer.fill(&mut batch, target);
    let wire = batch.slices().collect::<Vec<_>>().concat();
    assert_eq!(wire.len(), batch.len());
    wire
}

fn lanes() -> impl Strategy<Value = Lane> {
    prop_oneof![Just(Lane::Control), Just(Lane::Signal), Just(Lane::Bulk)]
}

proptest! {
    #[test]
    fn each_lane_arrives_whole_and_in_order(
        messages in prop::collection::vec((lanes(), 0..200_000_usize), 0..20),
        chunk in 1..100_000_usize,
        target in 1..300_000_usize,
    ) {
        let mut writer = FrameWriter::new();
        let mut sent = [const { Vec::new() }; Lane::COUNT];
        for (number, (lane, size)) in messages.into_iter().enumerate() {
            let message = vec![number as u8; size];
            if number % 2 == 0 {
                writer.push_with(lane, |out| out.extend_from_slice(&message)).unwrap();
            } else {
                writer.push(lane, message.clone().into()).unwrap();
            }
            sent[lane as usize].push(message);
        }
        let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
        let mut received = [const { Vec::new() }; Lane::COUNT];
        while !writer.is_empty() {
            let wire = wire(&mut writer, target);
            prop_assert!(wire.len() < target + 200 * 1024);
            for (number, mut piece) in wire.chunks(chunk).enumerate() {
                while !piece.is_empty() {
                    // Both ways in: fed, and put where they belong.
                    let room = if number % 2 == 0 {
                        reader.room()
                    } else {
                        Room { into: reader.buffer_mut(), at_most: None, behind: None }
                    };
                    let size = room.at_most.unwrap_or(usize::MAX).min(piece.len());
                    prop_assert!(size > 0);
                    room.into.extend_from_slice(&piece[..size]);
                    piece = &piece[size..];
                    for (lane, message) in drain(&mut reader) {
                        received[lane as usize].push(message);
                    }
                }
            }
        }
        prop_assert_eq!(writer.queued_bytes(), 0);
        prop_assert!(received == sent);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), chunk in 1..50_usize) {
        let mut reader = FrameReader::new(1000);
        for piece in bytes.chunks(chunk) {
            reader.feed(piece);
            loop {
                match reader.next_message() {
                    Ok(Some((_, payload))) => prop_assert!(payload.as_slice().len() <= 1000),
                    Ok(None) => break,
                    Err(_) => return Ok(()),
                }
            }
        }
    }
}

#[test]
fn a_tick_does_not_wait_for_a_large_message() {
    let mut writer = FrameWriter::new();
    writer
        .push(Lane::Signal, vec![1; 10 * 1024 * 1024].into())
        .unwrap();
    let mut sent = wire(&mut writer, 1);
    writer.push(Lane::Control, vec![2].into()).unwrap();
    sent.extend(wire(&mut writer, 1));
    let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
    reader.feed(&sent);
    assert_eq!(drain(&mut reader), [(Lane::Control, vec![2])]);
}

#[test]
fn signals_and_bulk_take_turns() {
    let mut writer = FrameWriter::new();
    writer
        .push(Lane::Bulk, vec![1; 10 * MAX_FRAME_BYTES].into())
        .unwrap();
    for _ in 0..10 {
        writer
            .push(Lane::Signal, vec![2; MAX_FRAME_BYTES].into())
            .unwrap();
    }
    let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
    reader.feed(&wire(&mut writer, 12 * MAX_FRAME_BYTES));
    let signals = drain(&mut reader).len();
    assert!((3..10).contains(&signals), "{signals}");
}

#[test]
fn too_long_is_refused_on_both_sides() {
    let mut writer = FrameWriter::new();
    let refused = writer.push_with(Lane::Bulk, |out| {
        out.resize(out.len() + MAX_MESSAGE_BYTES + 1, 0)
    });
    assert!(matches!(refused, Err(FrameError::TooLong { .. })));
    assert!(writer.is_empty());
    writer
        .push(Lane::Bulk, vec![0; 3 * MAX_FRAME_BYTES].into())
        .unwrap();
    let mut reader = FrameReader::new(2 * MAX_FRAME_BYTES);
    reader.feed(&wire(&mut writer, usize::MAX));
    assert!(matches!(
        reader.next_message(),
        Err(FrameError::TooLong { .. })
    ));
}

#[test]
fn another_protocol_is_noticed() {
    let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
    reader.feed(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(reader.next_message(), Err(FrameError::Length(_))));
}

/// Sender and number at the head of a signal, and then nothing that matters.
fn signal(sender: u64, number: usize, size: usize) -> Vec<u8> {
    let mut message = [sender.to_le_bytes(), (number as u64).to_le_bytes()].concat();
    message.resize(size.max(16), 7);
    message
}

proptest! {
    #[test]
    fn each_senders_signals_keep_their_order(
        signals in prop::collection::vec(
            // More senders of large ones than there are side streams.
            (0..2 * SIDE_STREAMS as u64, prop_oneof![3 => 0..200_usize, 2 => 0..400_000_usize], 0..2_usize),
            0..40,
        ),
        target in 1..300_000_usize,
    ) {
        let mut writer = FrameWriter::new();
        let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
        let mut received = Vec::new();
        let mut sent = Vec::new();
        for (number, (sender, size, fills)) in signals.into_iter().enumerate() {
            let message = signal(sender, number, size);
            if number % 2 == 0 {
                writer.push_signal_with(Some(sender), |out| out.extend_from_slice(&message)).unwrap();
            } else {
                writer.push_signal_parts(Some(sender), message[..16].to_vec(), message[16..].to_vec().into()).unwrap();
            }
            sent.push(message);
            for _ in 0..fills {
                reader.feed(&wire(&mut writer, target));
                received.extend(drain(&mut reader));
            }
        }
        writer.push(Lane::Last, vec![1].into()).unwrap();
        while !writer.is_empty() {
            reader.feed(&wire(&mut writer, target));
            received.extend(drain(&mut reader));
        }
        prop_assert_eq!(writer.queued_bytes(), 0);
        prop_assert!(writer.is_idle(), "all side streams are free again");
        prop_assert_eq!(received.pop(), Some((Lane::Signal, vec![1])), "the goodbye is the last");
        let of = |sender: u64, all: &[Vec<u8>]| {
            let own = all.iter().filter(|message| message[..8] == sender.to_le_bytes());
            own.cloned().collect::<Vec<_>>()
        };
        prop_assert!(received.iter().all(|(lane, _)| *lane == Lane::Signal));
        let received: Vec<_> = received.into_iter().map(|(_, message)| message).collect();
        prop_assert_eq!(received.len(), sent.len());
        for sender in 0..2 * SIDE_STREAMS as u64 {
            prop_assert!(of(sender, &received) == of(sender, &sent), "of {sender}");
        }
    }
}

#[test]
fn a_signal_passes_the_large_ones_of_others_but_not_its_own_senders() {
    let mut writer = FrameWriter::new();
    let small = |writer: &mut FrameWriter, sender| {
        let message = signal(sender, 0, 20);
        writer.push_signal_with(Some(sender), |out| out.extend_from_slice(&message))
    };
    small(&mut writer, 1).unwrap();
    for sender in [1, 2] {
        let large = signal(sender, 1, 50 << 20);
        writer
            .push_signal_parts(Some(sender), Vec::new(), large.into())
            .unwrap();
    }
    let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
    reader.feed(&wire(&mut writer, 1 << 20));
    assert_eq!(drain(&mut reader), [(Lane::Signal, signal(1, 0, 20))]);
    small(&mut writer, 1).unwrap();
    small(&mut writer, 3).unwrap();
    // Not behind what waits, but behind one fragment of it.
    reader.feed(&wire(&mut writer, 2 * MAX_FRAME_BYTES));
    assert_eq!(drain(&mut reader), [(Lane::Signal, signal(3, 0, 20))]);
    let mut order = Vec::new();
    while !writer.is_empty() {
        reader.feed(&wire(&mut writer, 1 << 20));
        order.extend(drain(&mut reader).into_iter().map(|(_, m)| (m[0], m[8])));
    }
    let own: Vec<_> = order.iter().filter(|(sender, _)| *sender == 1).collect();
    assert_eq!(own, [&(1, 1), &(1, 0)], "its own large one comes first");
    assert_eq!(order.len(), 3);
}
