//! Memory of this process, on Linux.

/// Resident bytes at the start of a measurement; none where `/proc` is absent.
pub struct Memory(Option<f64>);

impl Memory {
    /// Notes the memory in use.
    #[must_use]
    pub fn now() -> Self {
        Self(status("VmRSS:"))
    }

    /// Bytes from the start to the peak of the process. The peak never falls, so measure memory before anything larger
    /// runs.
    #[must_use]
    pub fn added_at_peak(&self) -> Option<f64> {
        Some(status("VmHWM:")? - self.0?)
    }
}

/// A line of /proc/self/status, in bytes.
fn status(key: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0)
}
