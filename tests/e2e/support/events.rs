//! Server-sent events, read one at a time.

use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::http::PATIENCE;

/// The events of an answer.
pub struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    /// In this body.
    pub fn of(body: Incoming) -> Events {
        Events { body, text: String::new() }
    }

    /// The data of the next event; `None` at the end.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect::<Vec<_>>().join("\n");
                self.text = rest.to_owned();
                return Some(data);
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("an event in time")?;
            let bytes = frame.unwrap().into_data().unwrap();
            self.text += std::str::from_utf8(&bytes).unwrap();
        }
    }
}
