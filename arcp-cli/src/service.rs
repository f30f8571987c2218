//! Reports to a service manager, if there is one, that the runtime serves, that it is stopping, and that its loop runs
//! (`sd_notify`).

use arcp_blocking::ServerHandle;
use arcp_host::server_log::log;
use sd_notify::NotifyState;

/// The runtime serves. From this time on, the watchdog of the manager is told twice per watchdog interval that the
/// loop runs, as long as it does.
pub fn ready(server: ServerHandle) {
    tell(&NotifyState::Ready);
    let Some(time) = sd_notify::watchdog_enabled().filter(|time| !time.is_zero()) else {
        return;
    };
    let watch = move || {
        loop {
            if server.turns_within(time / 2) {
                tell(&NotifyState::Watchdog);
            }
            std::thread::sleep(time / 2);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("watchdog".to_string()).spawn(watch) {
        log(format_args!("arcp: the service manager will not hear that the loop turns: {error}"));
    }
}

/// The runtime is stopping.
pub fn stopping() {
    tell(&NotifyState::Stopping);
}

fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        log(format_args!("arcp: the service manager cannot be told {state}: {error}"));
    }
}
