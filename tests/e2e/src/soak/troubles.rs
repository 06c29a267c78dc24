//! What befalls the agent: it is ended and started again, nobody reads it, the API server is away.

use std::thread;

use anyhow::Result;

use super::agent::Agent;
use super::schedule::{Ending, Outage, Schedule};
use super::stage::Stage;

/// Ends the agent, and starts the next at once.
pub(super) fn restarts(stage: &Stage<'_>, agent: &Agent<'_>, schedule: &Schedule) -> Result<()> {
    for (at, ending) in &schedule.restarts {
        if !stage.sleep_until(*at) {
            break;
        }
        stage.say(match ending {
            Ending::Killed => "SIGKILL to the agent",
            Ending::Ended => "SIGTERM to the agent",
        });
        agent.restart(*ending)?;
    }
    Ok(())
}

/// Leaves the agent's stdout alone for a while.
pub(super) fn stalls(stage: &Stage<'_>, schedule: &Schedule) {
    for (at, length) in &schedule.stalls {
        if !stage.sleep_until(*at) {
            break;
        }
        stage.say(&format!("nobody reads stdout for {:.1} s", length.as_secs_f64()));
        stage.reading.stall(true);
        thread::sleep(*length);
        stage.reading.stall(false);
    }
}

/// Takes the API server away for a while.
pub(super) fn outages(stage: &Stage<'_>, schedule: &Schedule) -> Result<()> {
    for (at, how, length) in &schedule.outages {
        if !stage.sleep_until(*at) {
            break;
        }
        let away = stage.without_api();
        let seconds = length.as_secs_f64();
        match how {
            Outage::Frozen => {
                stage.say(&format!("the API server is frozen for {seconds:.1} s"));
                stage.cluster.freeze_api_server()?;
                thread::sleep(*length);
                stage.cluster.thaw_api_server()?;
            }
            Outage::Killed => {
                stage.say(&format!("the API server is killed, and away for {seconds:.1} s"));
                stage.cluster.kill_api_server()?;
                thread::sleep(*length);
                stage.cluster.start_api_server()?;
            }
        }
        stage.api_is_back();
        drop(away);
        stage.say("the API server is back");
    }
    Ok(())
}
