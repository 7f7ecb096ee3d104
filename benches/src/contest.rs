//! Contenders that take turns, and the ratios between them: medians over rounds, never absolute claims.

use std::time::Duration;

use anyhow::Result;

use crate::program::Cost;

/// One run of a contender.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Wall-clock time.
    pub wall: Duration,
    /// Time on a processor, the kernel's work for it included.
    pub processor: Duration,
    /// What else a program is charged; None where the contender is no program of its own.
    pub cost: Option<Cost>,
}

/// Names a contender of one contest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contender(usize);

/// How two contenders are compared within a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// Wall-clock time divided by the other's.
    Wall,
    /// Processor time divided by the other's.
    Processor,
    /// Milliseconds of wall-clock time more than the other.
    ExtraWallMs,
}

/// Which contender is held against which, and what is hoped for.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What it shows.
    pub name: &'static str,
    /// Who is judged.
    pub judged: Contender,
    /// Against whom.
    pub against: Contender,
    /// As what.
    pub scale: Scale,
    /// The most the median may be. None: context only.
    pub target: Option<f64>,
}

/// One comparison over all rounds.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it shows.
    pub name: &'static str,
    /// As what the three numbers below are to be read.
    pub scale: Scale,
    /// Median over the rounds.
    pub median: f64,
    /// Smallest of the rounds.
    pub min: f64,
    /// Largest of the rounds.
    pub max: f64,
    /// The most the median may be. None: context only.
    pub target: Option<f64>,
    /// Who was judged, and the median of its milliseconds.
    pub judged: (String, f64),
    /// Against whom, and the median of its milliseconds.
    pub against: (String, f64),
}

impl Row {
    /// Whether the median is over the target; None without a target.
    pub fn is_over(&self) -> Option<bool> {
        self.target.map(|target| self.median > target)
    }
}

type Run<'a> = Box<dyn FnMut() -> Result<Sample> + 'a>;

/// Contenders to be run in turn.
#[derive(Default)]
pub struct Contest<'a> {
    contenders: Vec<(String, Run<'a>)>,
    comparisons: Vec<Comparison>,
    samples: Vec<Vec<Sample>>,
}

impl<'a> Contest<'a> {
    /// Without contenders.
    pub fn new() -> Contest<'a> {
        Contest::default()
    }

    /// Adds a contender.
    pub fn enter(&mut self, name: impl Into<String>, run: impl FnMut() -> Result<Sample> + 'a) -> Contender {
        self.contenders.push((name.into(), Box::new(run)));
        Contender(self.contenders.len() - 1)
    }

    /// Adds a comparison, a row of the result.
    pub fn compare(&mut self, comparison: Comparison) {
        self.comparisons.push(comparison);
    }

    /// Runs everyone once unmeasured, then `rounds` times in turn. Each round begins with another contender, so that
    /// nobody always finds the caches as the same predecessor left them.
    ///
    /// # Errors
    /// The first run that failed.
    pub fn run(&mut self, rounds: usize) -> Result<Vec<Row>> {
        for (_, run) in &mut self.contenders {
            run()?;
        }
        let count = self.contenders.len();
        self.samples = vec![Vec::with_capacity(rounds); count];
        for round in 0..rounds {
            for turn in 0..count {
                let index = (round + turn) % count;
                self.samples[index].push((self.contenders[index].1)()?);
            }
        }
        Ok(self.comparisons.iter().map(|comparison| self.row(comparison)).collect())
    }

    /// Everyone's name and runs, in the order they entered; without runs before [`run`](Self::run).
    pub fn samples(&self) -> impl Iterator<Item = (&str, &[Sample])> {
        self.contenders
            .iter()
            .zip(&self.samples)
            .map(|((name, _), samples)| (name.as_str(), samples.as_slice()))
    }

    fn row(&self, comparison: &Comparison) -> Row {
        let [judged, against] = [comparison.judged, comparison.against].map(|Contender(index)| {
            let time = |sample: &Sample| match comparison.scale {
                Scale::Wall | Scale::ExtraWallMs => sample.wall,
                Scale::Processor => sample.processor,
            };
            let times: Vec<f64> =
                self.samples[index].iter().map(|sample| time(sample).as_secs_f64() * 1e3).collect();
            (self.contenders[index].0.clone(), times)
        });
        // Paired within a round, where both saw the same machine.
        let mut values: Vec<f64> = (judged.1.iter().zip(&against.1))
            .map(|(one, other)| match comparison.scale {
                Scale::Wall | Scale::Processor => one / other,
                Scale::ExtraWallMs => one - other,
            })
            .collect();
        values.sort_by(f64::total_cmp);
        Row {
            name: comparison.name,
            scale: comparison.scale,
            median: median(&values),
            min: values.first().copied().unwrap_or(f64::NAN),
            max: values.last().copied().unwrap_or(f64::NAN),
            target: comparison.target,
            judged: (judged.0, median(&judged.1)),
            against: (against.0, median(&against.1)),
        }
    }
}

/// The middle of `values`, or of the two in the middle their mean; NaN of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    match sorted.len() {
        length if length > 0 && length.is_multiple_of(2) => (sorted[length / 2 - 1] + upper) / 2.0,
        _ => upper,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A run with these milliseconds on the wall and half of them on a processor.
    fn ms(ms: u64) -> Result<Sample> {
        Ok(Sample { wall: Duration::from_millis(ms), processor: Duration::from_millis(ms) / 2, cost: None })
    }

    #[test]
    fn ratios_are_paired_within_a_round() {
        // The machine slows down fivefold half way; the ratio of each round is 2 all the same.
        let (mut a, mut b) = ([99, 2, 2, 10, 10].iter(), [1, 1, 1, 5, 5].iter());
        let mut contest = Contest::new();
        let judged = contest.enter("a", || ms(*a.next().unwrap()));
        let against = contest.enter("b", || ms(*b.next().unwrap()));
        let comparison = Comparison { name: "a / b", judged, against, scale: Scale::Wall, target: Some(1.9) };
        contest.compare(comparison.clone());
        contest.compare(Comparison { scale: Scale::ExtraWallMs, target: None, ..comparison.clone() });
        contest.compare(Comparison { scale: Scale::Processor, ..comparison });
        let rows = contest.run(4).unwrap();
        assert_eq!((rows[0].median, rows[0].min, rows[0].max), (2.0, 2.0, 2.0));
        assert_eq!((rows[0].is_over(), rows[1].is_over()), (Some(true), None));
        assert_eq!((rows[1].median, rows[1].min, rows[1].max), (3.0, 1.0, 5.0));
        assert_eq!(rows[0].judged, ("a".to_owned(), 6.0));
        assert_eq!((rows[2].median, &rows[2].judged), (2.0, &("a".to_owned(), 3.0)));
        assert_eq!(
            contest.samples().map(|(name, runs)| (name.to_owned(), runs.len())).collect::<Vec<_>>(),
            [("a".to_owned(), 4), ("b".to_owned(), 4)]
        );
    }

    #[test]
    fn everyone_is_first_in_turn() {
        let order = RefCell::new(String::new());
        let mut contest = Contest::new();
        for name in ["a", "b", "c"] {
            let order = &order;
            contest.enter(name, move || {
                order.borrow_mut().push_str(name);
                ms(1)
            });
        }
        contest.run(3).unwrap();
        assert_eq!(*order.borrow(), "abcabcbcacab");
    }

    #[test]
    fn a_failure_ends_the_contest() {
        let mut contest = Contest::new();
        contest.enter("broken", || anyhow::bail!("no"));
        assert_eq!(contest.run(5).unwrap_err().to_string(), "no");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
