//! Measurements that programs print.

use std::collections::BTreeMap;

use serde_json::Value;

/// The least values seen, by program and name of a measurement.
#[derive(Default)]
pub(super) struct Measurements(BTreeMap<String, Measurement>);

/// `(value - less) / per`: the cost of one of `per` further steps, from a long run (`value`) and a short one (`less`).
struct Measurement {
    value: f64,
    less: f64,
    per: f64,
}

impl Measurements {
    /// Reads a line such as `{"name": "emd 1000", "value": 0.07}`; `less` and `per` are optional, and
    /// null is NaN.
    pub(super) fn add(&mut self, program: &str, line: &str) -> Result<(), String> {
        let wrong =
            || format!("{program} printed {line}; expected a JSON object with name and value");
        let read: Value = serde_json::from_str(line).map_err(|_| wrong())?;
        let name = read["name"].as_str().ok_or_else(wrong)?;
        let value = read.get("value").ok_or_else(wrong)?;
        let value = value.as_f64().unwrap_or(f64::NAN);
        let less = read["less"].as_f64().unwrap_or(0.0);
        let per = read["per"].as_f64().unwrap_or(1.0);
        let new = Measurement { value, less, per };
        let least = self.0.entry(format!("{program} {name}")).or_insert(new);
        least.value = least.value.min(value);
        least.less = least.less.min(less);
        Ok(())
    }

    /// A measurement, NaN where its program found no number.
    pub(super) fn get(&self, name: &str) -> Option<f64> {
        let measurement = self.0.get(name)?;
        Some((measurement.value - measurement.less) / measurement.per)
    }

    /// All measurements by name.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_several_rounds_counts() {
        let mut measurements = Measurements::default();
        for (value, less) in [(1.5, 0.75), (1.25, 1.0)] {
            let line =
                format!("{{\"name\": \"x\", \"value\": {value}, \"less\": {less}, \"per\": 10}}");
            measurements.add("P", &line).unwrap();
        }
        measurements
            .add("P", "{\"name\": \"y\", \"value\": null}")
            .unwrap();
        assert_eq!(measurements.get("P x"), Some(0.05));
        assert!(measurements.get("P y").unwrap().is_nan() && measurements.get("x").is_none());
        assert!(measurements.add("P", "done").is_err());
    }
}
