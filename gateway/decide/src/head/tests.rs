#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

type Field = (Vec<u8>, Vec<u8>);

#[derive(Debug, PartialEq)]
struct Read {
    method: Vec<u8>,
    target: Vec<u8>,
    version: Version,
    fields: Vec<Field>,
    rest: Vec<u8>,
}

fn read(bytes: &[u8]) -> Result<Option<Read>, BadHead> {
    let Some(end) = Scan::head(100).find_end(bytes)? else { return Ok(None) };
    let (head, rest) = bytes.split_at(end);
    let RequestHead { method, target, version, fields } = parse(head)?;
    let fields: Result<Vec<Field>, BadHead> =
        fields.map(|field| field.map(|(name, value)| (name.to_vec(), value.to_vec()))).collect();
    Ok(Some(Read { method: method.to_vec(), target: target.to_vec(), version, fields: fields?, rest: rest.to_vec() }))
}

fn fault(head: &str) -> Option<BadHead> {
    read(head.as_bytes()).err()
}

#[test]
fn a_head_is_read_to_its_end_and_no_further() {
    let head = read(b"\r\nGET /x?y HTTP/1.1\r\nHost: a\r\nX:\t b c \r\nEmpty:\r\n\r\nPOST").unwrap().unwrap();
    assert_eq!((head.method.as_slice(), head.target.as_slice()), (b"GET".as_slice(), b"/x?y".as_slice()));
    let fields = [("Host", "a"), ("X", "b c"), ("Empty", "")];
    assert_eq!(head.fields, fields.map(|(name, value)| (name.into(), value.into())));
    assert_eq!(head.rest, b"POST");
    assert_eq!(read(b"GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().version, Version::HTTP_10);
    assert_eq!(read(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
}

#[test]
fn each_break_of_the_grammar_has_its_reason() {
    for head in ["GET / HTTP/1.1\n", "GET / HTTP/1.1\rX", "GET / HTTP/1.1\r\nA: b\n\n", "GET / HTTP/1.1\r\r\n", "\n"] {
        assert_eq!(fault(head), Some(BadHead::LineEnd), "{head:?}");
    }
    for head in ["GET /\0", "\u{16}\u{3}\u{1}", "GET / HTTP/1.1\r\nA: \u{b}", "GET / HTTP/1.1\r\nA: \u{7f}", "G\u{1b}"]
    {
        assert_eq!(fault(head), Some(BadHead::ControlByte), "{head:?}");
    }
    let lines = [
        "GET /",
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / x HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "G(T / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1,1",
        "GET / ",
        "/ HTTP/1.1",
    ];
    for line in lines {
        assert_eq!(fault(&format!("{line}\r\n\r\n")), Some(BadHead::RequestLine), "{line:?}");
    }
    assert_eq!(fault("\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Some(BadHead::RequestLine));
    for target in ["/#x", "/é", "http://a/#"] {
        assert_eq!(fault(&format!("GET {target} HTTP/1.1\r\n\r\n")), Some(BadHead::Target), "{target}");
    }
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.0"] {
        assert_eq!(fault(&format!("GET / {version}\r\n\r\n")), Some(BadHead::Version), "{version}");
    }
    assert_eq!(fault("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(BadHead::Preface));
    for fold in [" b", "\tb", " "] {
        assert_eq!(fault(&format!("GET / HTTP/1.1\r\nA: a\r\n{fold}\r\n\r\n")), Some(BadHead::Folded), "{fold:?}");
    }
    for field in ["A", ": b", "A : b", "A\t: b", "A b: c", "(A): b", "é: b", "\"A\": b"] {
        assert_eq!(fault(&format!("GET / HTTP/1.1\r\n{field}\r\n\r\n")), Some(BadHead::FieldName), "{field:?}");
    }
    let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!((fault(&fields(100)), fault(&fields(101))), (None, Some(BadHead::TooMany)));
}

#[test]
fn a_trailer_section_may_be_empty() {
    assert_eq!(Scan::trailers(2).find_end(b"\r\nGET"), Ok(Some(2)));
    assert_eq!(Scan::trailers(2).find_end(b"a: b\r\n\r\nGET"), Ok(Some(8)));
    assert_eq!(Scan::trailers(1).find_end(b"a: b\r\nc: d\r\n\r\n"), Err(BadHead::TooMany));
    let fields: Vec<_> = Fields::of_trailers(b"a: b\r\n\r\n").map(Result::unwrap).collect();
    assert_eq!(fields, [(b"a".as_slice(), b"b".as_slice())]);
}

/// Heads that are right, but perhaps for a few bytes.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let line = "[A-Z!]{1,4} (/[a-z?%]{0,4}|\\*|http://a) HTTP/1\\.[01]\r\n";
    let field = "[A-Za-z^_|~-]{1,4}:[ \t]{0,2}[!-~ é]{0,6}[ \t]{0,2}\r\n";
    let piece =
        prop::sample::select(vec!["\r\n", "\r", "\n", " ", "\t", ":", "\0", "\u{7f}", "é", "#", "\"", "\r\n\r\n"]);
    let noise = prop::collection::vec((any::<prop::sample::Index>(), piece), 0..3);
    ("(\r\n)?", line, prop::collection::vec(field, 0..4), noise).prop_map(|(skipped, line, fields, noise)| {
        let mut head = [skipped, line, fields.concat(), "\r\nGET /".to_owned()].concat().into_bytes();
        for (at, piece) in noise {
            let at = at.index(head.len());
            head.splice(at..=at, piece.bytes());
        }
        head
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_passes_is_the_same_to_another_parser(bytes in heads()) {
        let Ok(Some(ours)) = read(&bytes) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut theirs = httparse::Request::new(&mut fields);
        let end = theirs.parse(&bytes).unwrap().unwrap();
        prop_assert_eq!(&bytes[end..], &ours.rest);
        prop_assert_eq!(theirs.method.unwrap().as_bytes(), &ours.method);
        prop_assert_eq!(theirs.path.unwrap().as_bytes(), &ours.target);
        prop_assert_eq!(theirs.version.unwrap() == 1, ours.version == Version::HTTP_11);
        let seen: Vec<Field> = theirs.headers.iter().map(|h| (h.name.into(), h.value.into())).collect();
        prop_assert_eq!(seen, ours.fields);
    }

    #[test]
    fn pieces_make_no_difference(bytes in heads()) {
        let whole = Scan::head(100).find_end(&bytes);
        let mut scan = Scan::head(100);
        let stepwise = (0..=bytes.len()).map(|end| scan.find_end(&bytes[..end])).find(|found| found != &Ok(None));
        prop_assert_eq!(stepwise.unwrap_or(Ok(None)), whole);
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = read(&bytes);
        let _ = parse(&bytes);
        let _ = Fields::of_trailers(&bytes).count();
    }
}
