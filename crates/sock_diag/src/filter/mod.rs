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

/// stub
#[derive(Debug, Clone)]
pub struct Filter;
/// stub
#[derive(Debug, PartialEq, Eq)]
pub struct Bytecode(Vec<u8>);
impl Bytecode {
    /// s
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
/// s
pub struct Compiled {
    /// s
    pub bytecode: Option<Bytecode>,
    /// s
    pub residual: Option<Filter>,
}
impl Filter {
    /// s
    pub fn compile(&self) -> Result<Compiled, Unanswerable> {
        Ok(Compiled { bytecode: None, residual: None })
    }
    /// s
    pub fn check_user_space(&self) -> Result<(), Unanswerable> {
        Ok(())
    }
    /// s
    pub fn matches(&self, _: &crate::SocketRecord) -> Result<bool, Unanswerable> {
        Ok(true)
    }
}
