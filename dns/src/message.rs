//! From the bytes of a question to the bytes of its answer. Nothing here waits, and nothing in the bytes can panic.

use std::net::IpAddr;

use config::live::Live;
use config::snapshot::Snapshot;
use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{HINFO, NS, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use crate::answer::{Answer, Data, Question, QuestionType, SERVER_LABELS, Soa, TTL, answer};
use crate::health::Health;
use crate::metrics::Metrics;

/// The longest question that is read, in bytes.
pub(crate) const LONGEST_QUESTION: usize = 4096;

/// The longest answer over UDP, in bytes: what crosses every IPv6 path unbroken.
const LONGEST_DATAGRAM: u16 = 1232;

/// How many times a question's length its answer over UDP may have.
const AMPLIFICATION: usize = 4;

/// The length of a header, of what follows a question's name, and of an EDNS record without options.
const HEADER: usize = 12;
const TYPE_AND_CLASS: usize = 4;
const OPT: usize = 11;

/// A response's flag (the top bit of a header's third byte), and the bits of that byte that a response repeats:
/// the opcode and "recursion desired" (RFC 1035, section 4.1.1).
const IS_RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const REPEATED: u8 = OPCODE | 0x01;

/// How the answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// In a datagram: short.
    Udp,
    /// In a datagram that says only that the answer is to be had over TCP.
    Slip,
    /// In a stream.
    Tcp,
}

/// Answers messages by what is live at that moment.
pub(crate) struct Responder {
    pub(crate) snapshot: Live<Snapshot>,
    pub(crate) health: Live<Health>,
    /// This server's address, where it has one that others can use.
    pub(crate) address: Option<IpAddr>,
    pub(crate) metrics: Metrics,
}

impl Responder {
    /// The answer, or nothing where silence is right. Counts either.
    pub(crate) fn respond(&self, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let Some(header) = packet.first_chunk::<HEADER>() else {
            self.metrics.dropped.malformed.inc();
            return None;
        };
        let &[_, _, flags, _, questions @ .., _, _, _, _, _, _] = header;
        if flags & IS_RESPONSE != 0 {
            self.metrics.dropped.response.inc();
            return None;
        }
        let reply = match (flags & OPCODE, questions) {
            (0, [0, 1]) => self.reply(packet, transport),
            (0, _) => Err(ResponseCode::FormErr),
            _ => Err(ResponseCode::NotImp),
        };
        let (bytes, code) = reply.unwrap_or_else(|code| (bare(header, code), code));
        self.metrics.answered(code).inc();
        Some(bytes)
    }

    fn reply(&self, packet: &[u8], transport: Transport) -> Result<Reply, ResponseCode> {
        let request = Message::from_vec(packet).map_err(|_| ResponseCode::FormErr)?;
        let query = request.queries.first().ok_or(ResponseCode::FormErr)?;
        let response = if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            Response::empty(ResponseCode::BADVERS)
        } else if query.query_class != DNSClass::IN {
            Response::empty(ResponseCode::Refused)
        } else if transport == Transport::Slip {
            Response { truncated: true, ..Response::empty(ResponseCode::NoError) }
        } else {
            let question = Question::new(query.name.to_ascii(), question_type(query.query_type));
            // Drawn, not counted: clients ask for A and AAAA by turns, which would tie each to one half of the turns.
            let turn = fastrand::u64(..);
            let answer = answer(&self.snapshot.load(), &self.health.load(), &question, self.address, turn);
            Response::from_answer(answer, &query.name)
        };
        response.encode(request, packet.len(), transport).map_err(|_| ResponseCode::ServFail)
    }
}

type Reply = (Vec<u8>, ResponseCode);

/// A header that says what is wrong, and nothing else.
fn bare(&[id_high, id_low, flags, ..]: &[u8; HEADER], code: ResponseCode) -> Vec<u8> {
    vec![id_high, id_low, IS_RESPONSE | flags & REPEATED, code.low(), 0, 0, 0, 0, 0, 0, 0, 0]
}

fn question_type(kind: RecordType) -> QuestionType {
    match kind {
        RecordType::A => QuestionType::A,
        RecordType::AAAA => QuestionType::Aaaa,
        RecordType::SOA => QuestionType::Soa,
        RecordType::NS => QuestionType::Ns,
        RecordType::ANY => QuestionType::Any,
        RecordType::AXFR | RecordType::IXFR => QuestionType::Transfer,
        _ => QuestionType::Other,
    }
}

/// An answer in the library's types.
struct Response {
    code: ResponseCode,
    authoritative: bool,
    truncated: bool,
    answers: Vec<Record>,
    soa: Option<Record>,
}

impl Response {
    fn empty(code: ResponseCode) -> Self {
        Response { code, authoritative: false, truncated: false, answers: Vec::new(), soa: None }
    }

    fn authoritative(code: ResponseCode) -> Self {
        Response { authoritative: true, ..Response::empty(code) }
    }

    fn from_answer(answer: Answer, name: &Name) -> Self {
        let negative = |code, soa: Soa| {
            let record = Record::from_rdata(below(&soa.apex, ""), TTL, soa_data(&soa));
            Response { soa: Some(record), ..Response::authoritative(code) }
        };
        match answer {
            Answer::Records { data, ttl } => {
                let record = |data: &Data| Record::from_rdata(name.clone(), ttl, record_data(data));
                let answers = data.iter().map(record).collect();
                Response { answers, ..Response::authoritative(ResponseCode::NoError) }
            }
            Answer::NoData(soa) => negative(ResponseCode::NoError, soa),
            Answer::NoName(soa) => negative(ResponseCode::NXDomain, soa),
            Answer::Unknown => Response::empty(ResponseCode::ServFail),
            Answer::Refused => Response::empty(ResponseCode::Refused),
        }
    }

    /// `length` is the request's, in bytes.
    fn encode(mut self, request: Message, length: usize, transport: Transport) -> Result<Reply, ProtoError> {
        let longest = match transport {
            Transport::Tcp => u16::MAX,
            Transport::Udp | Transport::Slip => {
                self.trim(&request, length);
                request.max_payload().min(LONGEST_DATAGRAM)
            }
        };
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(longest);
        let code = self.code;
        self.message(request).emit(&mut encoder)?;
        Ok((bytes, code))
    }

    fn message(self, request: Message) -> Message {
        let asked = request.metadata;
        let mut message = Message::new(asked.id, MessageType::Response, asked.op_code);
        message.metadata.recursion_desired = asked.recursion_desired;
        message.metadata.checking_disabled = asked.checking_disabled;
        message.metadata.response_code = self.code;
        message.metadata.authoritative = self.authoritative;
        message.metadata.truncation = self.truncated;
        message.queries = request.queries;
        message.answers = self.answers;
        message.authorities = self.soa.into_iter().collect();
        message.edns = request.edns.as_ref().map(own_edns);
        message
    }

    /// Leaves out addresses until the answer is no more than [`AMPLIFICATION`] times as long as its question. The
    /// truncation flag is not for this: any of a name's addresses alone are an answer, and the others have their turn.
    fn trim(&mut self, request: &Message, length: usize) {
        let questions: usize = request.queries.iter().map(|query| query.name.len() + TYPE_AND_CLASS).sum();
        let fixed = HEADER + questions + request.edns.as_ref().map_or(0, |_| OPT);
        let room = (AMPLIFICATION * length).saturating_sub(fixed);
        // The name is a pointer to the question's (2 bytes), then come type, class, TTL and length (10).
        let each = match self.answers.first().map(|record| &record.data) {
            Some(RData::A(_)) => 12 + 4,
            Some(RData::AAAA(_)) => 12 + 16,
            _ => return,
        };
        self.answers.truncate((room / each).max(1));
    }
}

/// Our own EDNS record, in answer to a client's (RFC 6891, section 6.1.1; RFC 3225, section 3).
fn own_edns(theirs: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(LONGEST_DATAGRAM).set_dnssec_ok(theirs.flags().dnssec_ok);
    edns
}

fn record_data(data: &Data) -> RData {
    match data {
        Data::Address(IpAddr::V4(address)) => RData::A((*address).into()),
        Data::Address(IpAddr::V6(address)) => RData::AAAA((*address).into()),
        Data::Soa(soa) => soa_data(soa),
        Data::Ns(apex) => RData::NS(NS(below(apex, SERVER_LABELS))),
        Data::Minimal => RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new())),
    }
}

/// Nobody transfers these zones, so that of the intervals only the last counts: how long resolvers may keep that
/// something does not exist (RFC 2308, section 4).
fn soa_data(soa: &Soa) -> RData {
    let (refresh, retry, expire) = (3_600, 600, 86_400);
    let (server, contact) = (below(&soa.apex, SERVER_LABELS), below(&soa.apex, "hostmaster"));
    RData::SOA(SOA::new(server, contact, soa.serial, refresh, retry, expire, TTL))
}

/// The name of these labels below the apex, or the apex where no room is left for them.
fn below(apex: &config::resource::Host, labels: &str) -> Name {
    let dot = if labels.is_empty() { "" } else { "." };
    let name = Name::from_ascii(format!("{labels}{dot}{apex}."));
    name.or_else(|_| Name::from_ascii(format!("{apex}."))).unwrap_or_default()
}

#[cfg(test)]
mod tests;
