//! How long what is tried may take. That nothing has come in time proves nothing: this process, or the far end, may have
//! had no turn. So everything is tried once more, and no answer is told from a wrong one.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// A question about a request is answered within this: whoever asked waits for little longer.
pub(super) const QUESTION: Duration = Duration::from_millis(800);

/// Tries, and once more beside that when half of the time has passed without an answer: the first packet may have been
/// lost. The answer that comes first counts; nothing when none does in time.
pub(super) async fn twice<F: Future>(until: Instant, trying: impl Fn() -> F) -> Option<F::Output> {
    let half = until.saturating_duration_since(Instant::now()) / 2;
    let again = async {
        sleep(half).await;
        trying().await
    };
    let either = async {
        tokio::select! {
            answer = trying() => answer,
            answer = again => answer,
        }
    };
    timeout_at(until, either).await.ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn tried(answers: impl AsyncFn(u32) -> u32) -> (Option<u32>, Duration, u32) {
        let (begun, tries) = (Instant::now(), Cell::new(0));
        let answer = twice(begun + SECOND, || {
            tries.set(tries.get() + 1);
            answers(tries.get())
        });
        (answer.await, begun.elapsed(), tries.get())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_waited_for_to_the_end_and_asked_for_twice() {
        assert_eq!(tried(async |number| number).await, (Some(1), Duration::ZERO, 1));
        let slow = async |number| {
            sleep(SECOND * 9 / 10).await;
            number
        };
        assert_eq!(tried(slow).await, (Some(1), SECOND * 9 / 10, 2), "the first is not given up");
        let lost = async |number| if number == 1 { pending().await } else { number };
        assert_eq!(tried(lost).await, (Some(2), SECOND / 2, 2));
        assert_eq!(tried(async |_| pending().await).await, (None, SECOND, 2));
    }
}
