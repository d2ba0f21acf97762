#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// The bytes of a PING, and of its acknowledgement.
const PONG: usize = 17;

fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
    let [.., high, middle, low] = length.to_be_bytes();
    [vec![high, middle, low, kind, flags, 0, 0, 0, 1], vec![0; length]].concat()
}

struct Client {
    meter: Meter,
    now: Instant,
}

impl Client {
    fn new() -> Client {
        let now = Instant::now();
        let mut meter = Meter::new(Bounds::default(), now);
        meter.read(PREFACE, now).unwrap();
        Client { meter, now }
    }

    fn sends(&mut self, frame: &[u8]) -> Result<(), Flood> {
        self.meter.read(frame, self.now)
    }

    /// The flood that this is taken for when it goes on without a pause.
    fn floods(kind: u8, flags: u8, length: usize) -> Option<Flood> {
        let (mut client, frame) = (Client::new(), frame(kind, flags, length));
        client.sends(&self::frame(HEADERS, 4, 10)).unwrap();
        (0..100_000).find_map(|_| client.sends(&frame).err())
    }
}

#[test]
fn a_client_has_begun_with_its_first_frame() {
    let mut client = Client::new();
    let settings = frame(SETTINGS, 0, 0);
    let (head, rest) = settings.split_at(settings.len() - 1);
    client.sends(head).unwrap();
    assert!(!client.meter.has_begun());
    client.sends(rest).unwrap();
    assert!(client.meter.has_begun());
    let mut foreign = Meter::new(Bounds::default(), client.now);
    foreign.read(&[b"GET / HTTP/1.1\r\n".as_slice(), &settings].concat(), client.now).unwrap();
    assert!(!foreign.has_begun());
}

#[test]
fn every_flood_is_known() {
    for (kind, flags, length, flood) in [
        (RESET, 0, 4, Flood::Resets),
        (CONTINUATION, 0, 0, Flood::HeaderBlock),
        (CONTINUATION, 0, 16_000, Flood::HeaderBlock),
        (SETTINGS, 0, 0, Flood::Settings),
        (SETTINGS, 1, 0, Flood::Settings),
        (PING, 0, 8, Flood::Pings),
        (PING, 1, 8, Flood::Pings),
        (WINDOW_UPDATE, 0, 4, Flood::WindowUpdates),
        (DATA, 0, 0, Flood::EmptyData),
        (DATA, 8, 256, Flood::EmptyData),
        (PRIORITY, 0, 5, Flood::Useless),
        (7, 0, 8, Flood::Useless),
        (0x10, 0, 5, Flood::Useless),
        (0xFF, 0xFF, 0, Flood::Useless),
        (DATA, 1, 16_385, Flood::FrameSize),
    ] {
        assert_eq!(Client::floods(kind, flags, length), Some(flood), "{kind} {flags} {length}");
    }
    for (kind, flags, length) in [(HEADERS, 5, 40), (DATA, 0, 1), (DATA, 1, 0), (DATA, 9, 256), (DATA, 0, 16_384)] {
        assert_eq!(Client::floods(kind, flags, length), None, "{kind} {flags} {length}");
    }
}

#[test]
fn bad_requests_are_borne_for_a_while() {
    let mut client = Client::new();
    let borne = |client: &mut Client| (0..1_000).take_while(|_| client.meter.refused(1, client.now).is_ok()).count();
    assert_eq!(borne(&mut client), 100);
    client.now += Duration::from_secs(3);
    assert_eq!(borne(&mut client), 30);
    assert_eq!(client.meter.refused(1, client.now), Err(Flood::BadRequests));
}

/// Ten seconds of a client that does in each millisecond what the closure does.
fn honest(mut each_millisecond: impl FnMut(&mut Client, u64) -> Result<(), Flood>) {
    let mut client = Client::new();
    for millisecond in 0..10_000 {
        client.now += Duration::from_millis(1);
        each_millisecond(&mut client, millisecond).unwrap();
    }
}

#[test]
fn a_load_generator_is_honest() {
    // 20,000 requests a second over one connection, each of which makes room for its answer as cautiously as can be.
    honest(|client, _| {
        for _ in 0..20 {
            client.sends(&frame(HEADERS, 5, 30))?;
            client.meter.sent(60);
            client.sends(&frame(WINDOW_UPDATE, 0, 4))?;
            client.sends(&frame(WINDOW_UPDATE, 0, 4))?;
        }
        Ok(())
    });
}

#[test]
fn a_grpc_download_that_measures_every_round_trip_is_honest() {
    honest(|client, _| {
        for _ in 0..5 {
            client.meter.sent(2_000);
            client.sends(&frame(PING, 0, 8))?;
            client.sends(&frame(WINDOW_UPDATE, 0, 4))?;
        }
        Ok(())
    });
}

#[test]
fn a_grpc_client_that_measures_at_each_small_answer_is_honest() {
    for (calls, every) in [(1, 10), (5, 1)] {
        for answer in [60, 130] {
            honest(|client, millisecond| {
                for _ in 0..if millisecond % every == 0 { calls } else { 0 } {
                    client.sends(&frame(HEADERS, 4, 30))?;
                    client.sends(&frame(DATA, 1, 5))?;
                    client.meter.sent(answer);
                    client.sends(&frame(PING, 0, 8))?;
                    client.meter.sent(PONG);
                }
                Ok(())
            });
        }
    }
}

#[test]
fn a_grpc_stream_of_the_least_messages_that_measures_at_each_is_honest() {
    honest(|client, _| {
        for _ in 0..5 {
            client.meter.sent(10);
            client.sends(&frame(PING, 0, 8))?;
            client.meter.sent(PONG);
        }
        Ok(())
    });
}

#[test]
fn acknowledgements_do_not_pay_for_a_flood_of_pings() {
    for at_once in [1, 100, 964] {
        let mut client = Client::new();
        let flood = (0..(16 << 20) / (at_once * PONG)).find_map(|_| {
            let ended = (0..at_once).find_map(|_| client.sends(&frame(PING, 0, 8)).err());
            client.meter.sent(at_once * PONG);
            ended
        });
        assert_eq!(flood, Some(Flood::Pings), "{at_once}");
    }
}

#[test]
fn a_stream_of_small_events_is_honest() {
    for event in [10, 40] {
        honest(|client, _| {
            for _ in 0..5 {
                client.meter.sent(event);
                client.sends(&frame(WINDOW_UPDATE, 0, 4))?;
                client.sends(&frame(WINDOW_UPDATE, 0, 4))?;
            }
            Ok(())
        });
    }
}

#[test]
fn uploads_that_flush_an_empty_frame_each_are_honest() {
    honest(|client, _| {
        client.sends(&frame(HEADERS, 4, 30))?;
        client.sends(&frame(DATA, 0, 100))?;
        client.sends(&frame(DATA, 0, 0))?;
        client.sends(&frame(DATA, 1, 0))
    });
}

#[test]
fn a_reader_who_leaves_one_page_after_another_is_honest() {
    honest(|client, millisecond| {
        if millisecond % 2_000 == 0 {
            for _ in 0..100 {
                client.sends(&frame(HEADERS, 5, 30))?;
                client.sends(&frame(0x10, 0, 9))?;
                client.sends(&frame(RESET, 0, 4))?;
            }
        }
        Ok(())
    });
}

#[test]
fn other_protocols_are_left_alone() {
    let now = Instant::now();
    for start in ["GET / HTTP/1.1\r\n", "PRI * HTTP/1.1\r\n", "\0\0\0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"] {
        let mut meter = Meter::new(Bounds::default(), now);
        meter.read(start.as_bytes(), now).unwrap();
        (0..1_000).for_each(|_| meter.read(&frame(SETTINGS, 0, 0), now).unwrap());
    }
}

proptest! {
    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut(
        frames in prop::collection::vec((0..11_u8, any::<u8>(), 0..40_usize), 0..400),
        cuts in prop::collection::vec(1..30_usize, 1..20),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(kind, flags, length)| frame(*kind, *flags, *length)).collect();
        let whole = Client::new().sends(&bytes);
        let mut client = Client::new();
        let (mut rest, mut cut) = (bytes.as_slice(), cuts.iter().cycle());
        let mut piecewise = Ok(());
        while !rest.is_empty() && piecewise.is_ok() {
            let (part, after) = rest.split_at(rest.len().min(*cut.next().unwrap()));
            piecewise = client.sends(part);
            rest = after;
        }
        prop_assert_eq!(whole, piecewise);
    }

    #[test]
    fn any_bytes_are_metered(bytes in prop::collection::vec(any::<u8>(), 0..300), now in any::<u32>()) {
        let mut client = Client::new();
        client.now += Duration::from_secs(now.into());
        _ = client.sends(&bytes);
        client.meter.sent(bytes.len());
    }
}

#[test]
fn long_heads_are_borne_as_long_as_they_are_a_pages_worth() {
    let long = [frame(HEADERS, 0, LONG_BLOCK as usize), frame(CONTINUATION, 4, 1)].concat();
    let mut client = Client::new();
    for _ in 0..500 {
        client.sends(&long).unwrap();
    }
    assert_eq!((0..10_000).try_for_each(|_| client.sends(&long)), Err(Flood::HeaderBlock));
    let mut client = Client::new();
    let usual = [frame(HEADERS, 0, 8_000), frame(CONTINUATION, 4, 8_000)].concat();
    for _ in 0..10_000 {
        client.sends(&usual).unwrap();
    }
}
