//! Socket filters in the grammar of ss: parsed here, run by the kernel, or in user space where it cannot.

/// A term that the records at hand cannot answer; only the kernel can.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{term} can only be answered by a live kernel: {why}")]
pub struct Unanswerable {
    /// The term as typed.
    pub term: String,
    /// Why records do not tell it.
    pub why: &'static str,
}
