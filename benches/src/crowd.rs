//! Many tasks that ask at the same time, each for the next thing as soon as it has the one before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chart::Series;
use futures_util::future::{BoxFuture, join_all};

use crate::chapter::Effort;
use crate::measure::in_turn;
use crate::processor;
use crate::report::Table;
use crate::spread::{Spread, number};

/// One operation, which each task awaits again and again.
pub(crate) type Ask = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// One thing to measure.
pub(crate) struct Asker {
    pub(crate) name: &'static str,
    pub(crate) ask: Ask,
}

impl Asker {
    pub(crate) fn new<F>(name: &'static str, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self {
            name,
            ask: Arc::new(move || Box::pin(ask())),
        }
    }
}

/// Operations a second of each asker at each number of tasks, round by round.
pub(crate) struct Crowds {
    tasks: Vec<usize>,
    names: Vec<&'static str>,
    /// By asker, number of tasks, and round.
    rates: Vec<Vec<Vec<f64>>>,
    /// Microseconds of this process's processor time for one operation, in the same order.
    micros: Vec<Vec<Vec<f64>>>,
}

impl Crowds {
    pub(crate) fn measure(
        runtime: &tokio::runtime::Runtime,
        askers: &[Asker],
        tasks: &[usize],
        effort: Effort,
    ) -> Self {
        let rounds = effort.of(31, 3);
        let slice = effort.slice(Duration::from_millis(150));
        let mut rates = vec![vec![Vec::new(); tasks.len()]; askers.len()];
        let mut micros = rates.clone();
        for (column, &tasks) in tasks.iter().enumerate() {
            in_turn(rounds, askers.len(), |at| {
                let ask = &askers[at].ask;
                runtime.block_on(crowd(ask, tasks, slice / 10));
                let before = processor::of_this_process();
                let (done, time) = runtime.block_on(crowd(ask, tasks, slice));
                let ran = processor::of_this_process() - before;
                rates[at][column].push(done as f64 / time.as_secs_f64());
                micros[at][column].push(ran.as_secs_f64() * 1e6 / done as f64);
            });
        }
        Self {
            tasks: tasks.to_vec(),
            names: askers.iter().map(|asker| asker.name).collect(),
            rates,
            micros,
        }
    }

    /// A column of the processor time that each asker took for one operation, in this process, with
    /// so many tasks.
    ///
    /// # Panics
    ///
    /// If so many were not measured.
    pub(crate) fn processor(&self, tasks: usize) -> (String, Vec<String>) {
        let at = self.column(tasks);
        let cells = self.micros.iter().map(|micros| {
            let micros = micros[at].iter().copied();
            Spread::of(micros).shown(1, "")
        });
        let name = format!("processor time each with {tasks}, µs");
        (name, cells.collect())
    }

    fn column(&self, tasks: usize) -> usize {
        let at = self.tasks.iter().position(|it| *it == tasks);
        at.expect("it is measured with so many")
    }

    /// A row for each asker, its rates and their ratios to those of the first.
    pub(crate) fn table(&self, last: &[(String, Vec<String>)]) -> Table {
        let mut columns = vec!["sessions a second".to_owned()];
        for tasks in &self.tasks {
            let plural = if *tasks == 1 { "" } else { "s" };
            columns.push(format!("{} task{plural}", number(*tasks as f64, 0)));
            columns.push("ratio".to_owned());
        }
        columns.extend(last.iter().map(|(name, _)| name.clone()));
        let mut table = Table::new(columns);
        for (at, name) in self.names.iter().enumerate() {
            let mut row = vec![(*name).to_owned()];
            for (mine, first) in self.rates[at].iter().zip(&self.rates[0]) {
                row.push(Spread::of(mine.iter().copied()).to_string());
                row.push(Spread::ratio(mine, first).shown(2, ""));
            }
            row.extend(last.iter().map(|(_, cells)| cells[at].clone()));
            table.row(row);
        }
        table
    }

    /// The rates of an asker by those of the first, with so many tasks.
    ///
    /// # Panics
    ///
    /// If so many were not measured.
    pub(crate) fn ratio(&self, asker: usize, tasks: usize) -> Spread {
        let at = self.column(tasks);
        Spread::ratio(&self.rates[asker][at], &self.rates[0][at])
    }

    /// The median rates over the number of tasks, of each asker.
    pub(crate) fn curves(&self) -> Vec<Series> {
        let mut series = Vec::new();
        for (name, rates) in self.names.iter().zip(&self.rates) {
            let medians = rates
                .iter()
                .map(|rates| Spread::of(rates.iter().copied()).median);
            let tasks = self.tasks.iter().map(|tasks| *tasks as f64);
            let points: Vec<_> = tasks.zip(medians).collect();
            series.push(Series::line(name.replace(['*', '`'], ""), points.clone()));
            series.push(Series::points("", points));
        }
        series
    }
}

/// How much so many tasks do in about `slice`, and how long they took.
pub(crate) async fn crowd(ask: &Ask, tasks: usize, slice: Duration) -> (u64, Duration) {
    let begun = Instant::now();
    let end = begun + slice;
    let tasks = (0..tasks).map(|_| {
        let ask = Arc::clone(ask);
        tokio::spawn(async move {
            let mut done = 0;
            while Instant::now() < end {
                ask().await;
                done += 1;
            }
            done
        })
    });
    let done: u64 = join_all(tasks)
        .await
        .into_iter()
        .map(|done| done.expect("nothing that is asked fails"))
        .sum();
    (done, begun.elapsed())
}
