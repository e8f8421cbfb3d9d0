//! The summary of a run, in words and as a picture.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::Plan;
use crate::fault::Fault;
use crate::history::{History, Violation};
use crate::resources::Resources;

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// What must not be.
    pub violations: Vec<Violation>,
    /// How often each thing was done.
    pub done: BTreeMap<&'static str, u64>,
    /// What went wrong, in order.
    pub faults: Vec<Fault>,
    /// How long after its revocation a session was still served, in ascending order.
    pub staleness: Vec<Duration>,
    /// How long after a setback valid sessions were still refused, in ascending order.
    pub refused: Vec<Duration>,
    /// What the nodes held.
    pub resources: Resources,
    promised: Duration,
    nodes: usize,
    seed: u64,
    duration: Duration,
    checked: u64,
}

impl Report {
    pub(crate) fn of(
        plan: &Plan,
        history: History,
        faults: Vec<Fault>,
        resources: Resources,
    ) -> Self {
        let mut staleness = history.served_after(plan.promised);
        staleness.sort();
        let mut refused = history.refused_after();
        refused.sort();
        let mut violations = history.violations(plan.promised);
        violations.extend(resources.left(plan).into_iter().map(Violation::Left));
        Self {
            violations,
            resources,
            done: history.done,
            faults,
            staleness,
            refused,
            promised: plan.promised,
            nodes: plan.nodes,
            seed: plan.seed,
            duration: plan.duration,
            checked: history.checked,
        }
    }

    /// All that was done.
    pub fn operations(&self) -> u64 {
        self.done.values().sum()
    }

    /// How many late reads there were in each of `bars` parts of the bound; the last is what came
    /// later.
    fn histogram(&self, bars: usize) -> Vec<usize> {
        let mut counts = vec![0; bars + 1];
        for after in &self.staleness {
            let part = after.as_secs_f64() / self.promised.as_secs_f64();
            counts[((part * bars as f64) as usize).min(bars)] += 1;
        }
        counts
    }

    /// The histogram as an SVG picture.
    pub fn svg(&self) -> String {
        const BARS: usize = 25;
        let counts = self.histogram(BARS);
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        // Counts fall by powers of ten, so their logarithms are drawn.
        let height = |count: usize| match count {
            0 => 0.0,
            _ => 150.0 * (1.0 + (count as f64).log10()) / (1.0 + (most as f64).log10()),
        };
        let mut bars = String::new();
        for (at, &count) in counts.iter().enumerate() {
            let (x, height) = (40.0 + 22.0 * at as f64, height(count));
            let colour = if at == BARS { "#b4462f" } else { "#3b7bb0" };
            bars.push_str(&format!(
                "<rect x='{x}' y='{}' width='20' height='{height:.1}' fill='{colour}'><title>{count}</title></rect>",
                180.0 - height
            ));
        }
        let line = 40.0 + 22.0 * BARS as f64 - 1.0;
        let bound = self.promised.as_millis();
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 640 220' font-family='system-ui, sans-serif' font-size='12'>\
             <rect width='640' height='220' fill='#ffffff'/>{bars}\
             <line x1='{line}' y1='20' x2='{line}' y2='180' stroke='#b4462f' stroke-dasharray='4 3'/>\
             <text x='{}' y='32' fill='#b4462f' text-anchor='end'>B</text>\
             <text x='40' y='200'>0</text><text x='{line}' y='200' text-anchor='middle'>{bound} ms</text>\
             <text x='40' y='214'>reads served after the commit that revoked the session, by how long after; counts are logarithmic</text></svg>\n",
            line - 6.0
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} operations on {} nodes in {:?}, seed {}; {} faults; {} sessions looked at in the end",
            self.operations(),
            self.nodes,
            self.duration,
            self.seed,
            self.faults.len(),
            self.checked
        )?;
        for (what, count) in &self.done {
            writeln!(f, "  {count:>9} {what}")?;
        }
        let mut faults: BTreeMap<Fault, u32> = BTreeMap::new();
        for fault in &self.faults {
            *faults.entry(*fault).or_default() += 1;
        }
        for (fault, times) in faults {
            writeln!(f, "  {times:>9} × {fault}")?;
        }
        let worst = self.staleness.last().copied().unwrap_or_default();
        writeln!(
            f,
            "served after the end of the session: {} reads, the worst {worst:?} after; B is {:?}",
            self.staleness.len(),
            self.promised
        )?;
        let counts = self.histogram(10);
        let most = counts.iter().copied().max().unwrap_or(0).max(1);
        for (at, count) in counts.iter().enumerate() {
            let bar = "#".repeat((count * 50).div_ceil(most));
            let from = self.promised.mul_f64(at as f64 / 10.0).as_millis();
            let past = if at == 10 { " past B" } else { "" };
            writeln!(f, "  from {from:>5} ms {count:>7} {bar}{past}")?;
        }
        if let Some(worst) = self.refused.last() {
            writeln!(
                f,
                "valid sessions refused after setbacks: {} reads, the worst {worst:?} after",
                self.refused.len()
            )?;
        }
        write!(f, "{}", self.resources)?;
        writeln!(f, "{} violations", self.violations.len())?;
        let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
        for violation in &self.violations {
            *kinds.entry(violation.kind()).or_default() += 1;
        }
        for (kind, times) in kinds {
            writeln!(f, "  {times:>9} × {kind}")?;
        }
        for violation in self.violations.iter().take(10) {
            writeln!(f, "  {violation:?}")?;
        }
        Ok(())
    }
}
