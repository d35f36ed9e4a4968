//! Groups of samples, from the file or from identifiers.

use crate::Dataset;

impl Dataset {
    /// The group of each sample: the groups of the file, or the text before the clip's number in identifiers such as
    /// `video$_$3`, `video$3` or `video[3]`.
    ///
    /// `None` when there are neither groups nor such identifiers.
    pub fn sample_groups(&self) -> Option<Vec<&str>> {
        if let Some(groups) = self.groups() {
            return Some(groups.iter().map(String::as_str).collect());
        }
        let ids = self.ids()?;
        let cut = |id: &str| id.find('$').or_else(|| id.find('['));
        let any = ids.iter().any(|id| cut(id).is_some());
        any.then(|| {
            let group = |id: &'_ String| cut(id).unwrap_or(id.len());
            ids.iter().map(|id| &id[..group(id)]).collect()
        })
    }
}
