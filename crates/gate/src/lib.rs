//! What a run may cost: the account of its connections, budgets and baselines it is held to, and the verdict.
//!
//! Pure: text in, values out. Leaves to others: running a command and counting its sockets, files, and how a verdict is
//! shown.

mod account;
mod baseline;
mod budget;
mod limit;
mod place;
mod verdict;

pub use account::{Account, Count, DestinationAccount, Leak, LeakKind, Lived, Scope, Span};
pub use baseline::{Baseline, BaselineError, Figure, Tolerance};
pub use budget::{Budget, BudgetError, Rule};
pub use limit::{Limit, Measure, Unit, milliseconds};
pub use place::{Place, PlaceError};
pub use verdict::{Finding, Outcome, Verdict};
