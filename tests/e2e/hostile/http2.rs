//! Hostile requests in HTTP/2: what would be something else once it is written in HTTP/1.1.

use super::http1::{Attack, Fate};
use crate::support::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, block, frame};

/// A field, whatever is in it.
type Field = (Vec<u8>, Vec<u8>);

struct Attacks {
    host: &'static str,
    all: Vec<Attack>,
}

/// All of them; each has its number in its path.
pub fn attacks(host: &'static str) -> Vec<Attack> {
    let mut attacks = Attacks { host, all: Vec::new() };
    attacks.honest();
    attacks.pseudo_fields();
    attacks.fields();
    attacks.paths();
    attacks.authorities();
    attacks.framing();
    attacks.all
}

fn field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Field {
    (name.as_ref().to_vec(), value.as_ref().to_vec())
}

fn headers(flags: u8, fields: &[Field]) -> Vec<u8> {
    let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    frame(HEADERS, flags | END_HEADERS, 1, &block(&fields))
}

impl Attacks {
    fn path(&self) -> String {
        format!("/open/{}", self.all.len())
    }

    /// The pseudo-fields of an ordinary request.
    fn pseudo(&self) -> Vec<Field> {
        vec![
            field(":method", "GET"),
            field(":scheme", "https"),
            field(":authority", self.host),
            field(":path", self.path()),
        ]
    }

    fn add(&mut self, fate: Fate, bytes: Vec<u8>) {
        self.all.push(Attack { bytes, fate });
    }

    /// A whole request of these fields.
    fn request(&mut self, fate: Fate, fields: &[Field]) {
        self.add(fate, headers(END_STREAM, fields));
    }

    fn with(&mut self, fate: Fate, more: &[Field]) {
        self.request(fate, &[&self.pseudo(), more].concat());
    }

    fn honest(&mut self) {
        let fate = Fate::Served(self.path(), Vec::new());
        self.with(fate, &[field("te", "trailers"), field("cookie", "a=1"), field("cookie", "b=2")]);
        let fate = Fate::Served(self.path(), Vec::new());
        self.with(fate, &[field("host", self.host)]);
    }

    fn pseudo_fields(&mut self) {
        for missing in 0..4 {
            let mut fields = self.pseudo();
            fields.remove(missing);
            self.request(Fate::Refused, &fields);
        }
        for repeated in 0..4 {
            let mut fields = self.pseudo();
            fields.push(fields[repeated].clone());
            self.request(Fate::Refused, &fields);
            let mut fields = self.pseudo();
            fields.insert(0, field("x", "y"));
            fields.swap(0, repeated);
            self.request(Fate::Refused, &fields);
        }
        for name in [":status", ":evil", ":", ":Method", ":protocol", ":host"] {
            let mut fields = self.pseudo();
            fields.insert(0, field(name, "200"));
            self.request(Fate::Refused, &fields);
        }
        for method in [
            "",
            "get",
            "GET ",
            " GET",
            "GET / HTTP/1.1\r\nX: y",
            "G\0T",
            "G T",
            "TRACE",
            "CONNECT",
            "GÉT",
            "GET\n",
            "G:T",
        ] {
            let mut fields = self.pseudo();
            fields[0] = field(":method", method);
            self.request(Fate::Refused, &fields);
        }
        for scheme in ["", "ftp", "https://evil", "h ttps", "https\r\nX: y", "http://evil/?"] {
            let mut fields = self.pseudo();
            fields[1] = field(":scheme", scheme);
            self.request(Fate::Unambiguous, &fields);
        }
    }

    fn fields(&mut self) {
        for (name, value) in [
            ("connection", "close"),
            ("connection", "x-evil"),
            ("keep-alive", "evil"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("transfer_encoding", "chunked"),
            ("content_length", "4"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("te", "trailers, gzip"),
            ("content-length", "4"),
            ("content-length", "+0"),
            ("content-length", "0, 0"),
            ("content-length", ""),
        ] {
            self.with(Fate::Refused, &[field(name, value)]);
        }
        self.with(Fate::Refused, &[field("content-length", "0"), field("content-length", "0")]);
        self.with(Fate::Refused, &[field("authorization", "a"), field("authorization", "b")]);
        for name in [
            "X-Upper",
            "x y",
            "x:",
            "x:y",
            "",
            "x\r\ny",
            "x\n",
            "x\0",
            "x\t",
            " x",
            "x\u{7f}",
            "é",
            "x: evil\r\nhost",
            "\"x\"",
            "x/y",
        ] {
            self.with(Fate::Refused, &[field(name, "z")]);
        }
        for byte in (0..32).filter(|byte| *byte != b'\t').chain([127]) {
            for value in [[b'a', byte, b'b'].to_vec(), vec![byte], vec![b'a', byte]] {
                self.with(Fate::Refused, &[field("x-a", value)]);
            }
        }
        for value in [" a", "a ", "\ta", "a\t", "a\r\nhost: evil", "a\r\n\r\nGET /open/smuggled HTTP/1.1\r\nhost: evil"]
        {
            self.with(Fate::Refused, &[field("x-a", value)]);
        }
        for (name, value) in [
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("tombolo-source", "evil"),
            ("tombolo_source", "evil"),
            ("x-original-url", "/secret"),
            ("proxy", "evil"),
            ("proxy-authorization", "evil"),
            ("http2-settings", "evil"),
        ] {
            let fate = Fate::Served(self.path(), Vec::new());
            self.with(fate, &[field(name, value)]);
        }
        self.with(Fate::Refused, &vec![field("x-a", "b"); 101]);
        self.with(Fate::Refused, &vec![field("cookie", "a=b"); 500]);
    }

    fn paths(&mut self) {
        for path in [
            "",
            "open",
            "*",
            "/open x",
            "/open\tx",
            "/open HTTP/1.1\r\nx: y",
            "/open\r\n",
            "/open\0",
            "/open/é",
            "/open/%",
            "/open/%0",
            "http://{}/open",
            "//{}/open/../secret",
            "/secret",
            "/open/../secret",
            "/open/%2e%2e/secret",
            "/open%2f..%2fsecret",
            "/open\\..\\secret",
            "/open/..;/secret",
            "/open/%c0%ae%c0%ae/secret",
            "/open/..%00/secret",
            "\\open",
            "?x",
            "/../open",
            "/open/%5c..%5csecret",
        ] {
            let mut fields = self.pseudo();
            fields[3] = field(":path", path.replace("{}", self.host));
            self.request(Fate::Refused, &fields);
        }
        // The library leaves fragments out by itself.
        let mut fields = self.pseudo();
        fields[3] = field(":path", self.path() + "#x");
        self.request(Fate::Unambiguous, &fields);
        let fate = Fate::Served(self.path(), Vec::new());
        let mut fields = self.pseudo();
        fields[3] = field(":path", format!("//x/..{}", self.path().replace("open", "%6fpen")));
        self.request(fate, &fields);
    }

    fn authorities(&mut self) {
        for authority in [
            "",
            "evil",
            "{}:",
            "{}:x",
            "evil@{}",
            "{}@evil",
            "{},evil",
            "{} ",
            "{}/x",
            "{}#x",
            "{}\r\nx: y",
            "{}\0",
            "http://{}",
            "{}é",
            "{}..",
            "[{}]",
            "{}%00",
            "{}:443:443",
        ] {
            let authority = authority.replace("{}", self.host);
            let mut fields = self.pseudo();
            fields[2] = field(":authority", &authority);
            self.request(Fate::Refused, &fields);
            self.with(Fate::Refused, &[field("host", &authority)]);
        }
        self.with(Fate::Refused, &[field("host", self.host), field("host", self.host)]);
    }

    /// Bodies whose length is not what was said, and streams that are none.
    fn framing(&mut self) {
        let post = |attacks: &Self, length: &str| {
            let mut fields = attacks.pseudo();
            fields[0] = field(":method", "POST");
            fields.push(field("content-length", length));
            fields
        };
        for (length, body) in [("2", "abc"), ("4", "abc"), ("0", "abc"), ("99", "abc")] {
            let fields = post(self, length);
            self.add(Fate::Unambiguous, [headers(0, &fields), frame(DATA, END_STREAM, 1, body.as_bytes())].concat());
        }
        let (fields, fate) = (post(self, "3"), Fate::Served(self.path(), b"abc".to_vec()));
        self.add(fate, [headers(0, &fields), frame(DATA, END_STREAM, 1, b"abc")].concat());
        // A trailer that frames, a pseudo-field in a trailer.
        for trailer in [
            field("content-length", "9"),
            field("transfer-encoding", "chunked"),
            field(":path", "/secret"),
            field("X", "y"),
        ] {
            let fields = post(self, "3");
            let trailers = headers(END_STREAM, &[trailer]);
            self.add(Fate::Unambiguous, [headers(0, &fields), frame(DATA, 0, 1, b"abc"), trailers].concat());
        }
        let whole = headers(END_STREAM, &self.pseudo());
        let (head, payload) = whole.split_at(9);
        for stream in [0, 2] {
            let mut moved = head.to_vec();
            moved[8] = stream;
            self.add(Fate::Refused, [&moved, payload].concat());
        }
        // A header block that another frame interrupts.
        let whole = headers(END_STREAM, &self.pseudo());
        let (first, second) = whole[9..].split_at(12);
        let begun = frame(HEADERS, END_STREAM, 1, first);
        let rest = frame(CONTINUATION, END_HEADERS, 1, second);
        self.add(Fate::Refused, [&begun[..], &frame(DATA, END_STREAM, 1, b"x"), &rest].concat());
        self.add(Fate::Refused, [&begun[..], &frame(CONTINUATION, END_HEADERS, 3, second)].concat());
        self.add(Fate::Refused, frame(CONTINUATION, END_HEADERS, 1, &whole[9..]));
        self.add(Fate::Refused, frame(DATA, END_STREAM, 1, b"GET /open/smuggled HTTP/1.1\r\n\r\n"));
        // Two requests on one stream are one.
        let (one, two) = (headers(END_STREAM, &self.pseudo()), headers(END_STREAM, &self.pseudo()));
        self.add(Fate::Unambiguous, [one, two].concat());
    }
}
