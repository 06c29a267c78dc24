//! Waiting for what Kubernetes does in its own time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between one question and the next. It grows: on two cores, who asks all the time is who is waited for.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// What was waited for so long is told: who finds the tests slow sees what they wait for.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// Asks again and again until there is an answer; after `patience` the last reason why there is none.
///
/// An error ends the waiting at once; `Ok(Err(reason))` means "not yet".
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let start = Instant::now();
    let deadline = start + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        match ask()? {
            Ok(answer) => {
                if start.elapsed() > WORTH_TELLING {
                    eprintln!("{:7.1} s until {what}", start.elapsed().as_secs_f64());
                }
                return Ok(answer);
            }
            Err(reason) if Instant::now() > deadline => {
                bail!("waited {} s until {what}: {reason}", patience.as_secs())
            }
            Err(_) => thread::sleep(pause),
        }
        pause = LONGEST_PAUSE.min(pause * 5 / 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_ends_the_waiting() {
        let mut asked = 0;
        let answer = until("the third time", Duration::from_secs(5), || {
            asked += 1;
            Ok(if asked == 3 { Ok(asked) } else { Err("too early".to_owned()) })
        });
        assert_eq!(answer.unwrap(), 3);
    }

    #[test]
    fn the_last_reason_is_told_when_patience_ends() {
        let error = until::<()>("pigs fly", Duration::ZERO, || Ok(Err("no wings".to_owned()))).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s until pigs fly: no wings");
    }

    #[test]
    fn an_error_is_not_waited_for() {
        let error = until::<()>("it works", Duration::from_mins(1), || bail!("broken")).unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }
}
