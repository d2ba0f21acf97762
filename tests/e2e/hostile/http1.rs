//! Thousands of hostile requests in HTTP/1.1, made of lists of what parsers are known to read differently.

use super::disguises::{CODINGS, LENGTH_DISGUISES};

/// What must become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It reaches no instance.
    Refused,
    /// It reaches an instance with this target and this body.
    Served(String, Vec<u8>),
    /// Either: it is refused, or it reaches an instance once, under the name that it was given.
    Unambiguous,
}

/// One attack: some bytes, on a connection of their own.
#[derive(Debug, Clone)]
pub struct Attack {
    pub bytes: Vec<u8>,
    pub fate: Fate,
}

/// Gives each attack a number, which is a part of its path.
pub struct Attacks {
    host: &'static str,
    pub all: Vec<Attack>,
}

impl Attacks {
    pub fn new(host: &'static str) -> Self {
        let mut attacks = Attacks { host, all: Vec::new() };
        attacks.two_framings();
        attacks.lengths();
        attacks.codings();
        attacks.chunks();
        attacks.bytes_in_heads();
        attacks.line_ends();
        attacks.versions();
        attacks.hosts();
        attacks.paths();
        attacks.methods();
        attacks.fields();
        attacks
    }

    /// What a second request would look like, were there one.
    fn smuggled(&self) -> String {
        format!("GET /open/smuggled-{} HTTP/1.1\r\nHost: {}\r\n\r\n", self.all.len(), self.host)
    }

    /// The path of the next attack.
    fn path(&self) -> String {
        format!("/open/{}", self.all.len())
    }

    fn add(&mut self, fate: Fate, bytes: impl Into<Vec<u8>>) {
        self.all.push(Attack { bytes: bytes.into(), fate });
    }

    /// A POST with these header lines and this body.
    fn post(&self, lines: &str, body: &str) -> String {
        format!("POST {} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n{body}", self.path(), self.host)
    }

    /// CL.TE, TE.CL, TE.TE.
    fn two_framings(&mut self) {
        let inner = self.smuggled();
        let as_chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
        let bodies = [format!("0\r\n\r\n{inner}"), as_chunk, format!("3\r\nabc\r\n0\r\n\r\n{inner}")];
        let lengths = ["Content-Length: 0", "Content-Length: 4", "content-length: 5", "CONTENT-LENGTH: 999"];
        for coding in CODINGS.iter().chain(&["Transfer-Encoding: chunked"]) {
            for length in lengths {
                for body in &bodies {
                    for lines in [format!("{length}\r\n{coding}\r\n"), format!("{coding}\r\n{length}\r\n")] {
                        self.add(Fate::Refused, self.post(&lines, body));
                    }
                }
            }
        }
    }

    fn lengths(&mut self) {
        let inner = self.smuggled();
        for value in [
            "",
            " ",
            "+4",
            "-4",
            "-0",
            "0x4",
            "4 4",
            "4,4",
            "4, 4",
            "4,",
            ",4",
            "4;",
            "4.0",
            "4e0",
            "\"4\"",
            "four",
            "１",
            "99999999999999999999",
            "18446744073709551620",
            "4\u{b}",
            "\u{c}4",
            "4\0",
            "0\r\n 4",
            "4\r\n\t4",
        ] {
            self.add(Fate::Refused, self.post(&format!("Content-Length: {value}\r\n"), &format!("abcd{inner}")));
        }
        for (one, other) in [("4", "4"), ("4", "5"), ("0", "4"), ("4", "0"), ("4", "")] {
            let lines = format!("Content-Length: {one}\r\nContent-Length: {other}\r\n");
            self.add(Fate::Refused, self.post(&lines, &format!("abcd{inner}")));
            let lines = format!("Content-Length: {one}\r\ncontent-length: {other}\r\n");
            self.add(Fate::Refused, self.post(&lines, &format!("abcd{inner}")));
        }
        for name in LENGTH_DISGUISES {
            self.add(Fate::Refused, self.post(&format!("{name}: 4\r\n"), &format!("abcd{inner}")));
        }
        // What is the body's is the body, whatever it looks like.
        for value in [format!("{}", inner.len()), format!("00{}", inner.len()), format!("  {} ", inner.len())] {
            let fate = Fate::Served(self.path(), inner.clone().into());
            self.add(fate, self.post(&format!("Content-Length: {value}\r\n"), &inner));
        }
    }

    /// A coding that is not exactly one `chunked`.
    fn codings(&mut self) {
        let inner = self.smuggled();
        for coding in CODINGS {
            self.add(Fate::Refused, self.post(&format!("{coding}\r\n"), &format!("0\r\n\r\n{inner}")));
            let old = format!("POST {} HTTP/1.0\r\nHost: {}\r\n{coding}\r\n\r\n0\r\n\r\n", self.path(), self.host);
            self.add(Fate::Refused, old);
        }
        for value in ["Chunked", "CHUNKED", " chunked\t"] {
            let fate = Fate::Served(self.path(), b"abc".to_vec());
            self.add(fate, self.post(&format!("Transfer-Encoding:{value}\r\n"), "3\r\nabc\r\n0\r\n\r\n"));
        }
        let old = format!("POST {} HTTP/1.0\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", self.path(), self.host);
        self.add(Fate::Refused, old + "3\r\nabc\r\n0\r\n\r\n");
    }

    fn chunks(&mut self) {
        let inner = self.smuggled();
        for size in [
            "",
            " ",
            "g",
            "-1",
            "+3",
            "0x3",
            "0X3",
            "3 ",
            " 3",
            "3\t",
            "\t3",
            "3g",
            "3.",
            "3,",
            "3_",
            "3\u{b}",
            "3\0",
            "3\r",
            "３",
            "ffffffffffffffff3",
            "10000000000000003",
            "80000000000000000000000000000003",
            "3;\n",
            "3;a\rb",
            "3;a=\0",
            "3 ;a",
            "3;a=b\nc",
            "3\r\r",
            "0x",
            "--3",
            "3:",
            "3/",
            "3[",
        ] {
            let body = format!("{size}\r\nabc\r\n0\r\n\r\n{inner}");
            self.add(Fate::Refused, self.post("Transfer-Encoding: chunked\r\n", &body));
        }
        for body in [
            "3\nabc\n0\n\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nab\r\n0\r\n\r\n",
            "3\r\nabc\r\r\n0\r\n\r\n",
            "3\rabc\r\n0\r\n\r\n",
            "3\r\nabc\r\n0\n\r\n",
            "3\r\nabc\r\n0\r\n\n",
            "3\r\nabc\r\n",
            "3\r\nabc\r\n0\r\nbad line\r\n\r\n",
            "3\r\nabc\r\n0\r\na b: c\r\n\r\n",
            "3\r\nabc\r\n0\r\n: c\r\n\r\n",
            "3\r\nabc\r\n0\r\na\0: c\r\n\r\n",
            "3\r\nabc\r\n0\r\na: b\r\n c\r\n\r\n",
            "3\r\nabc\r\n0\r\na: b\rc\r\n\r\n",
        ] {
            self.add(Fate::Refused, self.post("Transfer-Encoding: chunked\r\n", &format!("{body}{inner}")));
        }
        for body in [
            "3\r\nabc\r\n0\r\n\r\n",
            "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
            "03\r\nabc\r\n00\r\n\r\n",
            "3;a=b\r\nabc\r\n0;c\r\n\r\n",
            "3\r\nabc\r\n0\r\nX-After: 1\r\n\r\n",
            "3\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: evil\r\n\r\n",
            "3\r\nabc\r\n0\r\nTransfer-Encoding: gzip\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n",
        ] {
            // Trailers and extensions may be refused. Where they aren't, they change nothing.
            let plain = !body.contains([';', ':']);
            let fate = if plain { Fate::Served(self.path(), b"abc".to_vec()) } else { Fate::Unambiguous };
            self.add(fate, self.post("Transfer-Encoding: chunked\r\n", body));
        }
    }

    /// Each control byte, and some others, in each place of a head.
    fn bytes_in_heads(&mut self) {
        let bytes = (0..32).chain([127, 128, 160, 173, 255]);
        for byte in bytes {
            for place in 0..9 {
                // A tab may stand in a value and around it, a byte above 127 in a value that isn't Host's.
                let allowed = (byte == b'\t' && place == 3) || (matches!(byte, b'\t' | 128..) && place > 4);
                let (path, host) = (self.path(), self.host);
                let parts = [
                    "GE",
                    "T ",
                    &path,
                    "/x HTTP/1.1\r\nHost: ",
                    host,
                    "\r\nX-A",
                    ":",
                    " a",
                    "b",
                    "\r\nX-B: c",
                    "\r\n\r\n",
                ];
                let after = [1, 2, 3, 5, 6, 7, 8, 9, 10][place];
                let mut request = Vec::new();
                for (number, part) in parts.iter().enumerate() {
                    if number == after {
                        request.push(byte);
                    }
                    request.extend(part.as_bytes());
                }
                let fate = if allowed { Fate::Unambiguous } else { Fate::Refused };
                self.add(fate, request);
            }
        }
        for line in [
            "X-A : b",
            "X-A\t: b",
            " X-A: b",
            "\tX-A: b",
            "X A: b",
            ": b",
            "X-A",
            "=",
            "X-A: b\r\n c",
            "X-A: b\r\n\tc",
            "\"X\": b",
            "X(A): b",
            "X/A: b",
            "X@A: b",
            "X[A]: b",
            "X,A: b",
            "X;A: b",
            "X{A}: b",
            "Xé: b",
        ] {
            self.add(Fate::Refused, self.post(&format!("{line}\r\nContent-Length: 0\r\n"), ""));
        }
    }

    fn line_ends(&mut self) {
        let inner = self.smuggled();
        for end in ["\n", "\r", "\r\r\n", "\n\r", "\r\n\r", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\0\r\n"] {
            for place in 0..4 {
                let at = |number: usize| if number == place { end } else { "\r\n" };
                let (path, host) = (self.path(), self.host);
                let head = format!("POST {path} HTTP/1.1{}Host: {host}{}", at(0), at(1));
                let request = format!("{head}Content-Length: 3{}{}abc{inner}", at(2), at(3));
                // Behind a head's end all is body, a carriage return too.
                let is_body = place == 3 && end == "\r\n\r";
                self.add(if is_body { Fate::Unambiguous } else { Fate::Refused }, request);
            }
        }
    }

    fn versions(&mut self) {
        for version in [
            "HTTP/0.9",
            "HTTP/1.2",
            "HTTP/1.10",
            "HTTP/01.1",
            "HTTP/1.01",
            "HTTP/2",
            "HTTP/2.0",
            "HTTP/3.0",
            "http/1.1",
            "Http/1.1",
            "HTTP/1",
            "HTTP/1.",
            "HTTP/.1",
            "HTTP/1.1 x",
            "HTTP/1.1\t",
            "HTTP/ 1.1",
            "HTTP /1.1",
            "HTTPS/1.1",
            "HTTP/-1.1",
            "HTTP/+1.1",
            "HTTP\\1.1",
            "HTTP/1,1",
            "XTTP/1.1",
            "1.1",
            "/1.1",
        ] {
            let request = format!("GET {} {version}\r\nHost: {}\r\n\r\n", self.path(), self.host);
            self.add(Fate::Refused, request);
        }
        for line in [
            "GET {}",
            "GET {} ",
            "GET",
            "",
            " GET {} HTTP/1.1",
            "GET  {} HTTP/1.1",
            "GET {}  HTTP/1.1",
            "GET\t{} HTTP/1.1",
        ] {
            let line = line.replace("{}", &self.path());
            self.add(Fate::Refused, format!("{line}\r\nHost: {}\r\n\r\n", self.host));
        }
        self.add(Fate::Refused, format!("GET {}\r\n", self.path()));
        let old = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", self.path(), self.host);
        self.add(Fate::Served(self.path(), Vec::new()), old);
        self.add(Fate::Refused, format!("GET {} HTTP/1.0\r\n\r\n", self.path()));
    }

    fn hosts(&mut self) {
        let host = self.host;
        let good = [host.to_uppercase(), format!("{host}."), format!(" {host} "), format!("{host}:80")];
        for value in good {
            let request = format!("GET {} HTTP/1.1\r\nHost: {value}\r\n\r\n", self.path());
            self.add(Fate::Served(self.path(), Vec::new()), request);
        }
        let near =
            ["evil.example.com", "example.com", "localhost", "127.0.0.1", "[::1]", "0", "127.1"].map(str::to_owned);
        let made = [
            "",
            "{}:",
            "{}:0",
            "{}:x",
            "{}:80:80",
            "{}:-80",
            "{}:+80",
            "{}:65616",
            "{}:80 x",
            "{} evil",
            "evil@{}",
            "{}@evil",
            "{},evil",
            "{}, {}",
            "{}/x",
            "{}?x",
            "{}#x",
            "http://{}",
            "{}\\x",
            "{}%00",
            "{}%2ecom",
            "{}..",
            ".{}",
            "-{}",
            "{}-",
            "*.example.com",
            "{}\u{e9}",
            "[{}]",
            "{};x",
            "{}\tx",
            "{}|",
            "{}&",
            "\"{}\"",
            "'{}'",
            "{}%20",
            "{}::80",
            "[::1",
            "::1]",
            "[::1%25lo]",
            "[1.2.3.4]",
            "a_{}",
            "{}:80,{}:80",
            "x.{}",
            "{}x",
        ];
        for value in near.into_iter().chain(made.map(|value| value.replace("{}", host))) {
            for method in ["GET", "POST"] {
                let lines = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
                let request = format!("{method} {} HTTP/1.1\r\nHost: {value}\r\n{lines}\r\n", self.path());
                self.add(Fate::Refused, request);
            }
            // The target's authority may not lead elsewhere than Host, either way round.
            self.add(Fate::Refused, format!("GET http://{value}{} HTTP/1.1\r\nHost: {host}\r\n\r\n", self.path()));
            if !value.is_empty() {
                let request = format!("GET http://{host}{} HTTP/1.1\r\nHost: {value}\r\n\r\n", self.path());
                self.add(Fate::Refused, request);
            }
            for lines in [format!("Host: {host}\r\nHost: {value}"), format!("Host: {value}\r\nhost: {host}")] {
                self.add(Fate::Refused, format!("GET {} HTTP/1.1\r\n{lines}\r\n\r\n", self.path()));
            }
        }
        self.add(Fate::Refused, format!("GET {} HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n", self.path()));
        self.add(Fate::Refused, format!("GET {} HTTP/1.1\r\n\r\n", self.path()));
        self.add(Fate::Refused, format!("GET http://{host}{} HTTP/1.1\r\n\r\n", self.path()));
        let absolute = format!("GET http://{}{} HTTP/1.1\r\nHost: {host}\r\n\r\n", host.to_uppercase(), self.path());
        self.add(Fate::Served(self.path(), Vec::new()), absolute);
        for target in
            ["ftp://{}/open/", "//{}/open/", "{}/open/", "{}:80", "*", "?x", "http:/open/", "http:///open/", "://open/"]
        {
            let target = target.replace("{}", host);
            self.add(Fate::Refused, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        }
    }

    /// Ways out of `/open`, in disguise.
    fn paths(&mut self) {
        const SLASHES: [&str; 11] = ["/", "//", "/./", "/%2e/", "%2f", "%2F", "\\", "%5c", "/;x/", "/.;x/", "%c0%af"];
        const UPS: [&str; 18] = [
            "..",
            "%2e%2e",
            ".%2e",
            "%2E.",
            "..;",
            "..;x",
            "..%3b",
            "%2e%2e;",
            "..%00",
            "..%0d",
            "..%09",
            "..%20",
            "..%c0%80",
            "%c0%ae%c0%ae",
            "%e0%80%ae.",
            "%252e%252e",
            "%u002e.",
            "..%",
        ];
        for up in UPS {
            for slash in SLASHES {
                for path in [
                    format!("/open{slash}{up}{slash}secret"),
                    format!("/open/a{slash}{up}{slash}{up}{slash}secret"),
                    format!("{slash}{up}{slash}secret"),
                    format!("/open/{up}{slash}..{slash}secret"),
                ] {
                    self.add(Fate::Unambiguous, format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host));
                }
            }
        }
        for path in [
            "/secret",
            "//secret",
            "/./secret",
            "/%73ecret",
            "/open/../secret",
            "/OPEN/x",
            "/openx",
            "/open%2fx",
            "/open\\x",
            "/open;x/..;/secret",
            "/o%70en/../secret",
            "/secret;/../secret",
            "/;/secret",
            "/%2e%2e/secret",
            "/open#x",
            "/open/%",
            "/open/%0",
            "/open/%zz",
        ] {
            self.add(Fate::Refused, format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host));
        }
        for (path, normal) in [("/%6fpen/{}", "/open/{}"), ("//open//{}", "/open/{}"), ("/x/../open/./{}", "/open/{}")]
        {
            let number = self.all.len().to_string();
            let fate = Fate::Served(normal.replace("{}", &number), Vec::new());
            let path = path.replace("{}", &number);
            self.add(fate, format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host));
        }
    }

    fn methods(&mut self) {
        for method in
            ["CONNECT", "TRACE", "get", "Get", "gET", "G@T", "G(T", "GET/", "\"GET\"", "", "GÉT", "PRI", "post"]
        {
            let fate = if method == "PRI" { Fate::Unambiguous } else { Fate::Refused };
            self.add(fate, format!("{method} {} HTTP/1.1\r\nHost: {}\r\n\r\n", self.path(), self.host));
        }
        for method in ["PURGE", "PROPFIND", "M-SEARCH", "X!"] {
            let fate = Fate::Served(self.path(), Vec::new());
            self.add(fate, format!("{method} {} HTTP/1.1\r\nHost: {}\r\n\r\n", self.path(), self.host));
        }
    }

    /// Fields that would say of the request what is not so.
    fn fields(&mut self) {
        for line in [
            "X-Forwarded-For: 6.6.6.6",
            "X_Forwarded_For: 6.6.6.6",
            "X-Forwarded-Host: evil",
            "X-Forwarded-Proto: evil",
            "Forwarded: for=6.6.6.6",
            "X-Real-IP: 6.6.6.6",
            "x_real_ip: 6.6.6.6",
            "True-Client-IP: 6.6.6.6",
            "X-Original-URL: /secret",
            "X-Rewrite-URL: /secret",
            "X_Rewrite_URL: /secret",
            "Tombolo-Source: evil",
            "tombolo_source: evil",
            "Tombolo-Cluster: evil",
            "Proxy: evil",
            "Proxy-Authorization: evil",
            "Proxy-Connection: evil",
            "Keep-Alive: evil",
            "HTTP2-Settings: evil",
            "Connection: X-Evil\r\nX-Evil: evil",
            "Connection: close, X-Evil\r\nX-Evil: evil",
            "Upgrade: h2c",
            "TE: evil",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: evil",
            "Connection: X-Forwarded-For",
            "Connection: X-Forwarded-Proto, X-Forwarded-Host",
            "Connection: Host",
            "Connection: Content-Length",
        ] {
            for framing in ["Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"] {
                let body = if framing.starts_with('C') { "abc" } else { "3\r\nabc\r\n0\r\n\r\n" };
                let fate = Fate::Served(self.path(), b"abc".to_vec());
                self.add(fate, self.post(&format!("{line}\r\n{framing}"), body));
            }
        }
        for name in ["Authorization", "Content-Type", "Range"] {
            let lines = format!("{name}: a\r\n{}: b\r\nContent-Length: 0\r\n", name.to_lowercase());
            self.add(Fate::Refused, self.post(&lines, ""));
        }
        self.add(Fate::Refused, self.post(&format!("{}Content-Length: 0\r\n", "X-A: b\r\n".repeat(101)), ""));
        self.add(Fate::Refused, self.post(&format!("X-A: {}\r\nContent-Length: 0\r\n", "b".repeat(70_000)), ""));
        self.add(
            Fate::Refused,
            format!("GET {}?{} HTTP/1.1\r\nHost: {}\r\n\r\n", self.path(), "a".repeat(9_000), self.host),
        );
    }
}
