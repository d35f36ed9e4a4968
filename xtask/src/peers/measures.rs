//! What programs measured.

use std::collections::BTreeMap;

use serde_json::Value;

/// The least values seen, by program and name of a measurement.
#[derive(Default)]
pub(crate) struct Measures(BTreeMap<String, Measure>);

/// `(value - less) / per`: what one of `per` further steps costs, where a long run (`value`) is
/// measured beside a short one (`less`).
struct Measure {
    value: f64,
    less: f64,
    per: f64,
}

impl Measures {
    /// Reads a line such as `{"name": "emd 1000", "value": 0.07}`; `less` and `per` are optional, and
    /// null is NaN.
    pub(crate) fn add(&mut self, program: &str, line: &str) -> Result<(), String> {
        let wrong = || format!("{program} printed what is no measurement: {line}");
        let read: Value = serde_json::from_str(line).map_err(|_| wrong())?;
        let name = read["name"].as_str().ok_or_else(wrong)?;
        let value = read.get("value").ok_or_else(wrong)?;
        let new = Measure {
            value: value.as_f64().unwrap_or(f64::NAN),
            less: read["less"].as_f64().unwrap_or(0.0),
            per: read["per"].as_f64().unwrap_or(1.0),
        };
        let seen = self.0.entry(format!("{program} {name}")).or_insert(new);
        seen.value = seen.value.min(value.as_f64().unwrap_or(f64::NAN));
        seen.less = seen.less.min(read["less"].as_f64().unwrap_or(0.0));
        Ok(())
    }

    /// A measurement, NaN where its program found no number.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        let measure = self.0.get(name)?;
        Some((measure.value - measure.less) / measure.per)
    }

    /// All measurements by name.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_several_rounds_counts() {
        let mut measures = Measures::default();
        for (value, less) in [(1.5, 0.75), (1.25, 1.0)] {
            let line =
                format!("{{\"name\": \"x\", \"value\": {value}, \"less\": {less}, \"per\": 10}}");
            measures.add("P", &line).unwrap();
        }
        measures
            .add("P", "{\"name\": \"y\", \"value\": null}")
            .unwrap();
        assert_eq!(measures.get("P x"), Some(0.05));
        assert!(measures.get("P y").unwrap().is_nan() && measures.get("x").is_none());
        assert!(measures.add("P", "done").is_err());
    }
}
