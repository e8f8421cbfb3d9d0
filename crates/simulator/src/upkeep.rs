//! What nodes cost that nobody uses.

use crate::setting::Setting;

/// Statements a second: heartbeats of the connections that hear notifications, and prunings.
pub(crate) fn statements(setting: &Setting) -> f64 {
    /// Seconds from one heartbeat to the next.
    const HEARTBEAT: f64 = 5.0;
    /// Sessions that a pruning removes at most; then the next follows at once.
    const PRUNED: f64 = 500.0;
    let nodes = f64::from(setting.workload.nodes);
    let heard = if setting.is_notified() { nodes } else { 0.0 };
    let prunings = nodes / setting.config.cold.prune_interval.as_secs_f64();
    heard / HEARTBEAT + prunings + setting.workload.begun() / PRUNED
}

/// Commands a second: two `PING`s each time Redis is checked, and each third time `DBSIZE` and `INFO`.
pub(crate) fn commands(setting: &Setting) -> f64 {
    /// Seconds from one check to the next.
    const CHECK: f64 = 1.1;
    match setting.has_warm() {
        true => f64::from(setting.workload.nodes) * (2.0 + 2.0 / 3.0) / CHECK,
        false => 0.0,
    }
}
