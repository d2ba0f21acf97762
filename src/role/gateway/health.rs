//! What a gateway tells of health on its admin port.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use gateway::ndjson::{self, BEAT_LINE};
use gateway::runtime::Handle;
use gateway::view::View;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// From one look at the view to the next.
const SHORTEST_REST: Duration = Duration::from_millis(20);
/// However long a look takes.
const LONGEST_REST: Duration = Duration::from_millis(50);
/// From one line to the next, at the most.
const BEAT: Duration = Duration::from_millis(500);

/// `/v1/health`: this gateway's view, once; `/v1/health/follow`: a line of JSON at each change, and an empty one as a
/// beat. With `?changes` the lines after the first say only what changed, and of services only whether instances are
/// healthy: for DNS servers, but for those of an older release.
pub(super) fn routes(handle: Handle) -> Router {
    Router::new()
        .route("/v1/health", get(|State(handle): State<Handle>| async move { Json(handle.view()) }))
        .route("/v1/health/follow", get(follow))
        .with_state(handle)
}

#[derive(Deserialize)]
struct Wanted {
    changes: Option<String>,
}

async fn follow(State(handle): State<Handle>, Query(wanted): Query<Wanted>) -> Body {
    match wanted.changes {
        Some(_) => lines(handle, Handle::view_line),
        None => lines(handle, whole),
    }
}

fn whole(handle: &Handle, said: Option<View>) -> (View, Bytes) {
    let view = handle.view();
    let same = said.is_some_and(|said| said == view);
    // Maps of names always have a JSON form; were that ever untrue, a beat is the honest rest.
    let line = if same { BEAT_LINE } else { ndjson::line(&view).unwrap_or(BEAT_LINE) };
    (view, line)
}

/// By `line` a view is told to who was told another one last; nothing new is a beat.
fn lines<S: Send + 'static>(handle: Handle, line: fn(&Handle, Option<S>) -> (S, Bytes)) -> Body {
    let telling = Telling { changes: handle.changes(), handle, line, said: None, rest: Duration::ZERO };
    Body::from_stream(stream::unfold(telling, |mut telling| async move {
        telling.next().await.map(|line| (Ok::<_, Infallible>(line), telling))
    }))
}

struct Telling<S> {
    handle: Handle,
    changes: watch::Receiver<u64>,
    line: fn(&Handle, Option<S>) -> (S, Bytes),
    said: Option<S>,
    rest: Duration,
}

impl<S> Telling<S> {
    /// The next line, once something is new or it is time for a beat; nothing when the gateway ends or has a successor.
    async fn next(&mut self) -> Option<Bytes> {
        let beat = Instant::now() + BEAT;
        loop {
            sleep(self.rest).await;
            if self.said.is_some() && matches!(timeout_at(beat, self.changes.changed()).await, Ok(Err(_))) {
                return None;
            }
            if self.handle.has_successor() {
                return None;
            }
            let begun = Instant::now();
            let (now, line) = (self.line)(&self.handle, self.said.take());
            self.said = Some(now);
            // However fast the world changes, a worker is with this for a fifth of the time at most.
            self.rest = (begun.elapsed() * 4).clamp(SHORTEST_REST, LONGEST_REST);
            if line != BEAT_LINE || begun >= beat {
                return Some(line);
            }
        }
    }
}
