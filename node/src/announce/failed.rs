//! When to try failed jobs again: each for itself, so that none keeps the others waiting.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::manifest::record::JobId;

/// First pause before a job is tried again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Jobs that failed since the node started.
#[derive(Debug, Default)]
pub(super) struct FailedJobs {
    jobs: HashMap<JobId, Failed>,
}

#[derive(Debug)]
struct Failed {
    pause: Duration,
    again: Instant,
}

impl FailedJobs {
    /// Whether the job may be tried.
    pub(super) fn is_due(&self, job: JobId) -> bool {
        self.jobs
            .get(&job)
            .is_none_or(|failed| failed.again <= Instant::now())
    }

    /// The job failed, perhaps once more.
    pub(super) fn add(&mut self, job: JobId) {
        let pause = self.jobs.get(&job).map_or(FIRST_PAUSE, |failed| {
            failed.pause.saturating_mul(2).min(LONGEST_PAUSE)
        });
        let again = Instant::now() + pause;
        self.jobs.insert(job, Failed { pause, again });
    }

    /// The job is done.
    pub(super) fn remove(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    /// Time until the first of them is due.
    pub(super) fn next(&self) -> Option<Duration> {
        let first = self.jobs.values().map(|failed| failed.again).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_waits_for_itself_and_the_wait_doubles_up_to_an_hour() {
        let mut failed = FailedJobs::default();
        assert!(failed.is_due(1) && failed.next().is_none());
        failed.add(1);
        assert!(!failed.is_due(1) && failed.is_due(2));
        assert!(failed.next().unwrap() <= FIRST_PAUSE);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            pauses.push(failed.jobs[&1].pause.as_secs());
            failed.add(1);
        }
        let expected = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600];
        assert_eq!(pauses, expected);
        failed.remove(1);
        assert!(failed.is_due(1) && failed.next().is_none());
    }
}
