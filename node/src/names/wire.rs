//! One DNS message in, one out (RFC 1035, RFC 6891). Pure but for the look-up behind [`Zone`]. Answers are short, one
//! record at most and its question, so that none is ever cut off, not even in the 512 bytes of plain UDP.

use super::{
    Records,
    zone::{Answer, Zone},
};
use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode},
    rr::{DNSClass, RecordType},
};

/// What fits into one packet of any network (DNS flag day 2020); said to those who ask with EDNS.
const PAYLOAD: u16 = 1232;
/// Everything before the first question.
const HEADER: usize = 12;

/// The answer to `request`; none if it is no request: answering answers would go round for ever.
pub(super) async fn respond(request: &[u8], zone: &Zone, records: &dyn Records) -> Option<Vec<u8>> {
    let request = match Message::from_vec(request) {
        Ok(request) => request,
        Err(_) => return malformed(request),
    };
    if request.metadata.message_type == MessageType::Response {
        return None;
    }
    let answer = answer(&request, zone, records).await;
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.metadata.authoritative = answer.authoritative;
    response.metadata.response_code = answer.code;
    response.queries = request.queries;
    response.answers = answer.answers;
    response.authorities = answer.authority;
    response.edns = request.edns.map(|edns| {
        let mut ours = Edns::new();
        ours.set_max_payload(PAYLOAD).set_version(0).set_dnssec_ok(edns.flags().dnssec_ok);
        ours
    });
    response.to_vec().ok()
}

async fn answer(request: &Message, zone: &Zone, records: &dyn Records) -> Answer {
    if request.metadata.op_code != OpCode::Query {
        return Answer::error(ResponseCode::NotImp);
    }
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Answer::error(ResponseCode::BADVERS);
    }
    let [query] = request.queries.as_slice() else { return Answer::error(ResponseCode::FormErr) };
    let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
    if query.query_class() != DNSClass::IN || transfer {
        return Answer::error(ResponseCode::Refused);
    }
    zone.answer(query.name(), query.query_type(), records).await
}

/// Says so to whoever sent a header at least, and no answer.
fn malformed(request: &[u8]) -> Option<Vec<u8>> {
    let (id, flags) = (request.get(..2)?, request.get(2)?);
    if request.len() < HEADER || flags & 0x80 != 0 {
        return None;
    }
    let id = u16::from_be_bytes(id.try_into().ok()?);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}
