#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use config::live::channel;
use config::resource::GatewayAddresses;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use prometheus::Registry;
use proptest::prelude::*;

use super::*;
use crate::fixture::{gateway, name, snapshot};

fn responder(snapshot: Snapshot) -> Responder {
    let (_, snapshot) = channel(Arc::new(snapshot));
    let (_, health) = channel(Arc::new(Health::default()));
    let metrics = Metrics::register(&Registry::new()).unwrap();
    Responder { snapshot, health, address: "10.1.0.53".parse().ok(), metrics }
}

fn query(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(text).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

fn send(responder: &Responder, message: &Message, transport: Transport) -> (usize, Message) {
    let bytes = responder.respond(&message.to_vec().unwrap(), transport).unwrap();
    (bytes.len(), Message::from_vec(&bytes).unwrap())
}

fn code(message: &Message) -> ResponseCode {
    send(&responder(snapshot()), message, Transport::Udp).1.metadata.response_code
}

/// A world in which a cluster has this many gateways.
fn crowded(gateways: u8) -> Snapshot {
    let mut snapshot = snapshot();
    let one = |n| gateway(&format!("gw-{n}"), &format!("2001:db8::{n:x}"), &format!("10.9.0.{n}"));
    snapshot.gateways.insert(name("north"), (1..=gateways).map(one).collect::<Vec<GatewayAddresses>>().into());
    snapshot
}

#[test]
fn an_answer_keeps_id_case_and_flags_and_is_authoritative() {
    let (_, answer) = send(&responder(snapshot()), &query("CaRt.Shop.Internal.", RecordType::A), Transport::Udp);
    let metadata = answer.metadata;
    assert_eq!((metadata.id, metadata.message_type), (4711, MessageType::Response));
    assert!(metadata.authoritative && metadata.recursion_desired);
    assert!(!metadata.recursion_available && !metadata.truncation);
    assert_eq!(answer.queries[0].name.to_ascii(), "CaRt.Shop.Internal.");
    assert_eq!(answer.answers.len(), 2);
    assert!(answer.answers.iter().all(|record| record.name.to_ascii() == "CaRt.Shop.Internal." && record.ttl == 5));
}

#[test]
fn negative_answers_carry_the_soa() {
    for (text, code) in [("x.shop.internal.", ResponseCode::NXDomain), ("shop.internal.", ResponseCode::NoError)] {
        let (_, answer) = send(&responder(snapshot()), &query(text, RecordType::A), Transport::Udp);
        assert_eq!(answer.metadata.response_code, code);
        assert!(answer.metadata.authoritative && answer.answers.is_empty());
        let record = &answer.authorities[0];
        assert_eq!((record.name.to_ascii().as_str(), record.ttl), ("shop.internal.", 5));
        assert!(matches!(&record.data, RData::SOA(soa) if soa.minimum == 5 && soa.serial == 10));
    }
}

#[test]
fn what_is_not_for_us_is_refused_or_not_implemented() {
    assert_eq!(code(&query("example.org.", RecordType::A)), ResponseCode::Refused);
    assert_eq!(code(&query(".", RecordType::NS)), ResponseCode::Refused);
    for kind in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(code(&query("shop.internal.", kind)), ResponseCode::Refused);
    }
    for class in [DNSClass::CH, DNSClass::ANY, DNSClass::NONE, DNSClass::Unknown(0)] {
        let mut message = query("cart.shop.internal.", RecordType::A);
        message.queries[0].query_class = class;
        assert_eq!(code(&message), ResponseCode::Refused);
    }
    for opcode in [OpCode::Status, OpCode::Notify, OpCode::Update] {
        let mut message = query("cart.shop.internal.", RecordType::A);
        message.metadata.op_code = opcode;
        assert_eq!(code(&message), ResponseCode::NotImp);
    }
}

#[test]
fn any_is_answered_with_hinfo() {
    let (_, answer) = send(&responder(snapshot()), &query("cart.shop.internal.", RecordType::ANY), Transport::Udp);
    assert_eq!(answer.answers.len(), 1);
    assert_eq!(answer.answers[0].record_type(), RecordType::HINFO);
}

#[test]
fn questions_are_asked_one_at_a_time() {
    let mut message = query("cart.shop.internal.", RecordType::A);
    message.add_query(Query::query(Name::root(), RecordType::A));
    assert_eq!(code(&message), ResponseCode::FormErr);
    message.queries.clear();
    assert_eq!(code(&message), ResponseCode::FormErr);
}

#[test]
fn edns_is_answered_with_edns_and_other_versions_of_it_are_not_spoken() {
    let mut message = with_edns(query("cart.shop.internal.", RecordType::A), 4096);
    message.edns.as_mut().unwrap().set_dnssec_ok(true);
    let (_, answer) = send(&responder(snapshot()), &message, Transport::Udp);
    let edns = answer.edns.unwrap();
    assert_eq!((edns.max_payload(), edns.version(), edns.flags().dnssec_ok), (1232, 0, true));
    message.edns.as_mut().unwrap().set_version(1);
    let (_, answer) = send(&responder(snapshot()), &message, Transport::Udp);
    assert_eq!(u16::from(answer.metadata.response_code), 16, "BADVERS");
    assert!(answer.answers.is_empty());
}

#[test]
fn datagrams_are_short_and_streams_hold_everything() {
    let responder = responder(crowded(200));
    let question = with_edns(query("cart.shop.internal.", RecordType::A), 4096);
    let (length, answer) = send(&responder, &question, Transport::Udp);
    assert!(length <= 4 * question.to_vec().unwrap().len() && answer.answers.len() > 4);
    assert!(!answer.metadata.truncation);
    let (_, answer) = send(&responder, &question, Transport::Tcp);
    assert_eq!(answer.answers.len(), 200);
    assert!(!answer.metadata.truncation);
}

#[test]
fn what_a_datagram_cannot_hold_is_truncated_and_says_so() {
    let responder = responder(crowded(200));
    // A long question has room for a long answer.
    let mut question = with_edns(query("cart.shop.internal.", RecordType::A), 4096);
    let padding = hickory_proto::rr::rdata::opt::EdnsOption::Unknown(12, vec![0; 500]);
    question.edns.as_mut().unwrap().options_mut().insert(padding);
    let (length, answer) = send(&responder, &question, Transport::Udp);
    assert!(length <= 1232 && answer.answers.len() > 70);
    assert!(answer.metadata.truncation);
    question.edns.as_mut().unwrap().set_max_payload(512);
    let (length, answer) = send(&responder, &question, Transport::Udp);
    assert!(length <= 512 && answer.metadata.truncation);
}

#[test]
fn a_slip_says_only_come_back_over_tcp() {
    let (_, answer) = send(&responder(snapshot()), &query("cart.shop.internal.", RecordType::A), Transport::Slip);
    assert!(answer.metadata.truncation && answer.answers.is_empty());
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
}

#[test]
fn responses_and_stumps_are_met_with_silence() {
    let responder = responder(snapshot());
    let respond = |packet: &[u8]| responder.respond(packet, Transport::Udp);
    let mut message = query("cart.shop.internal.", RecordType::A);
    message.metadata.message_type = MessageType::Response;
    assert_eq!(respond(&message.to_vec().unwrap()), None);
    assert_eq!(respond(&[]), None);
    assert_eq!(respond(&[0; 11]), None);
    assert_eq!((responder.metrics.dropped.response.get(), responder.metrics.dropped.malformed.get()), (1, 2));
}

#[test]
fn a_packet_that_claims_too_much_is_a_format_error_of_twelve_bytes() {
    let responder = responder(snapshot());
    let mut packet = vec![0xff; 300];
    packet[2..12].copy_from_slice(&[1, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    for questions in [[0, 1], [0xff, 0xff]] {
        packet[4..6].copy_from_slice(&questions);
        let answer = responder.respond(&packet, Transport::Udp).unwrap();
        assert_eq!(answer, [0xff, 0xff, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert_eq!(responder.metrics.answered(ResponseCode::FormErr).get(), 2);
}

fn any_query() -> impl Strategy<Value = Message> {
    let texts = [
        "cart.shop.internal",
        "CART.SHOP.INTERNAL",
        "x.Shop.internal",
        "shop.internal",
        "shop.EXAMPLE.com",
        "a.b.SHOP.example.com",
        "o.rg",
    ];
    let kinds = [RecordType::A, RecordType::AAAA, RecordType::SOA, RecordType::NS, RecordType::ANY, RecordType::TXT];
    let select = (prop::sample::select(texts.to_vec()), prop::sample::select(kinds.to_vec()), any::<Option<u16>>());
    select.prop_map(|(text, kind, payload)| {
        let message = query(&format!("{text}."), kind);
        payload.map_or(message.clone(), |payload| with_edns(message, payload))
    })
}

proptest! {
    #[test]
    fn a_datagram_is_never_answered_with_more_than_four_times_its_length(message in any_query(), gateways in 0..60u8) {
        let (length, _) = send(&responder(crowded(gateways)), &message, Transport::Udp);
        prop_assert!(length <= 1232 && length <= AMPLIFICATION * message.to_vec().unwrap().len());
    }

    #[test]
    fn garbage_never_panics(packet in prop::collection::vec(any::<u8>(), 0..200), asks in any::<bool>()) {
        let mut packet = packet;
        if asks && packet.len() > 5 {
            packet[2..6].copy_from_slice(&[0, 0, 0, 1]);
        }
        responder(snapshot()).respond(&packet, Transport::Udp);
    }

    #[test]
    fn damaged_questions_never_panic(
        message in any_query(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        let mut packet = message.to_vec().unwrap();
        let (at, cut) = (at.index(packet.len()), cut.index(packet.len()));
        packet[at] = byte;
        let responder = responder(snapshot());
        responder.respond(&packet, Transport::Tcp);
        responder.respond(&packet[..cut], Transport::Udp);
    }
}
