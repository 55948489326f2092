//! `waifud stop-guests`: shuts this node's guests down before the host does, within a bound.
//!
//! In: the configuration, this node's identity, the hypervisor. Out: guests that are off, and who had to be switched off. It
//! is for the host's shutdown, after the daemon has ended: nothing is proposed, so what is wanted stays as it is, and at
//! the next boot the daemon starts them again. It must not run beside the daemon, which would take each guest's end for the
//! guest's own wish and keep it.
//!
//! ```text
//!   list ──> ask those that run ──> list again, at an event or after a while ──> … all off: done
//!                  ▲                              │ some still run
//!                  └──── ask again ◄──────────────┤
//!                                                 └── grace is over ──> take their power away
//! ```

use super::layout::Layout;
use crate::{
    config::Config,
    hypervisor::{
        Domain, Hypervisor, HypervisorError,
        libvirt::{Libvirt, LibvirtConfig},
    },
};
use std::{
    collections::BTreeSet,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use waifud_gossip::identity::{DirError, IdentityDir};
use waifud_model::ids::VmId;

/// A guest that was still booting has not heard its power button; it is pressed again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Events may be lost, so all guests are looked at this often; one bulk request each time.
const LOOK: Duration = Duration::from_secs(1);
/// For a hypervisor that does not answer. One that is to be stopped after us is there, unless something is wrong.
const SILENCE: Duration = Duration::from_secs(30);

/// Why guests were not stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopGuestsError {
    /// The daemon runs.
    #[error(
        "waifud answers on {0}, and would take the guests' end for their own wish; \
         use `waifuctl stop`, or stop the daemon first"
    )]
    DaemonRuns(PathBuf),
    /// The identity does not read.
    #[error("this node's identity cannot be used")]
    Identity(#[from] DirError),
    /// The hypervisor does not answer, or not to every question.
    #[error("the hypervisor does not do it")]
    Hypervisor(#[from] HypervisorError),
}

/// What became of the guests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoppedGuests {
    /// Shut themselves down.
    pub shut_down: BTreeSet<VmId>,
    /// Did not in time, and were switched off.
    pub switched_off: BTreeSet<VmId>,
}

/// Stops the guests of this node's cluster. A machine that is no member has none.
///
/// # Errors
/// If the daemon runs, or the hypervisor cannot be asked.
pub async fn stop_guests(config: &Config) -> Result<StoppedGuests, StopGuestsError> {
    let layout = Layout::new(&config.node.data_dir);
    if !layout.is_member() {
        return Ok(StoppedGuests::default());
    }
    refuse_beside_daemon(&config.api.socket)?;
    let Some(identity) = IdentityDir::open(layout.cluster().identity())?.load()? else {
        return Ok(StoppedGuests::default());
    };
    let hypervisor = Libvirt::start(LibvirtConfig {
        uri: config.hypervisor.uri.clone(),
        ..LibvirtConfig::system(identity.subject().cluster)
    })?;
    stop_all(&hypervisor, config.hypervisor.shutdown_grace).await
}

fn refuse_beside_daemon(socket: &Path) -> Result<(), StopGuestsError> {
    match UnixStream::connect(socket) {
        Ok(_) => Err(StopGuestsError::DaemonRuns(socket.to_owned())),
        Err(_) => Ok(()),
    }
}

async fn stop_all(hypervisor: &dyn Hypervisor, grace: Duration) -> Result<StoppedGuests, StopGuestsError> {
    let mut events = hypervisor.events();
    let begun = Instant::now();
    let mut asked_at: Option<Instant> = None;
    let mut stopped = StoppedGuests::default();
    loop {
        let running = running(hypervisor).await?;
        stopped.shut_down.retain(|vm| !running.contains(vm));
        if running.is_empty() {
            return Ok(stopped);
        }
        if begun.elapsed() >= grace {
            for vm in running {
                tracing::warn!(%vm, "did not shut down in time, and is switched off");
                hypervisor.force_stop(vm).await?;
                stopped.switched_off.insert(vm);
            }
            return Ok(stopped);
        }
        if asked_at.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
            asked_at = Some(Instant::now());
            for &vm in &running {
                // A guest that cannot be asked is switched off when the time comes; the others are asked all the same.
                if let Err(error) = hypervisor.shutdown(vm).await {
                    tracing::warn!(%vm, error = &error as &dyn std::error::Error, "cannot be asked to shut down");
                }
            }
        }
        stopped.shut_down.extend(running);
        // What happened is looked at, whatever it was; an event only makes that sooner.
        let _soon = timeout(LOOK.min(grace.saturating_sub(begun.elapsed())), events.recv()).await;
    }
}

/// The guests that have their disks open; asked again for a while if the hypervisor says nothing.
async fn running(hypervisor: &dyn Hypervisor) -> Result<Vec<VmId>, HypervisorError> {
    let begun = Instant::now();
    loop {
        match hypervisor.list().await {
            Ok(domains) => return Ok(active(&domains)),
            Err(error) if error.is_silence() && begun.elapsed() < SILENCE => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(error),
        }
    }
}

fn active(domains: &[Domain]) -> Vec<VmId> {
    domains.iter().filter(|domain| domain.state.is_active()).map(|domain| domain.vm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::{DomainState, fake::FakeHypervisor};

    const GRACE: Duration = Duration::from_secs(60);

    fn vm(seed: u8) -> VmId {
        VmId::from_random([seed; 16])
    }

    fn host(guests: &[u8]) -> FakeHypervisor {
        let hypervisor = FakeHypervisor::default();
        guests.iter().for_each(|seed| hypervisor.add_running(vm(*seed)));
        hypervisor
    }

    #[tokio::test(start_paused = true)]
    async fn guests_shut_down_together_and_strangers_run_on() {
        let hypervisor = host(&[1, 2, 3]);
        hypervisor.add_foreign(vm(9));
        let begun = Instant::now();
        let stopped = stop_all(&hypervisor, GRACE).await.unwrap();
        assert_eq!(stopped.shut_down, BTreeSet::from([vm(1), vm(2), vm(3)]));
        assert!(stopped.switched_off.is_empty());
        assert!(hypervisor.active().is_empty());
        assert_eq!(hypervisor.state(vm(9)), Some(DomainState::Running));
        assert!(begun.elapsed() < Duration::from_secs(5), "no longer than one guest takes: {:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_listen_is_switched_off_when_its_time_is_over() {
        let hypervisor = host(&[1, 2]);
        hypervisor.make_deaf(vm(2));
        hypervisor.lose_events(true);
        let begun = Instant::now();
        let stopped = stop_all(&hypervisor, GRACE).await.unwrap();
        assert_eq!((stopped.shut_down, stopped.switched_off), (BTreeSet::from([vm(1)]), BTreeSet::from([vm(2)])));
        assert!(hypervisor.active().is_empty());
        assert!((GRACE..GRACE + LOOK * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hypervisor_that_is_away_is_waited_for_and_given_up() {
        let hypervisor = host(&[1]);
        hypervisor.set_down(true);
        let begun = Instant::now();
        let gave_up = stop_all(&hypervisor, GRACE).await;
        assert!(matches!(gave_up, Err(StopGuestsError::Hypervisor(_))), "{gave_up:?}");
        assert!(begun.elapsed() < SILENCE * 2, "{:?}", begun.elapsed());

        let back = hypervisor.clone();
        tokio::spawn(async move {
            tokio::time::sleep(SILENCE / 2).await;
            back.set_down(false);
        });
        assert_eq!(stop_all(&hypervisor, GRACE).await.unwrap().shut_down, BTreeSet::from([vm(1)]));
    }

    #[test]
    fn not_beside_a_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        refuse_beside_daemon(&socket).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(matches!(refuse_beside_daemon(&socket), Err(StopGuestsError::DaemonRuns(_))));
        drop(listener);
        refuse_beside_daemon(&socket).unwrap();
    }
}
