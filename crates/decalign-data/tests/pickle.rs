//! Pickles: every file of the fixtures against its twin, hostile ones, and values of all kinds.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use decalign_data::pickle::{Item, Pickle};
use safetensors::SafeTensors;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickle");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "pkl"));
    files.sort();
    assert_eq!(files.len(), 10);
    files
}

/// Numbers of a pickle's value, whatever it is made of.
fn numbers(item: Item<'_>) -> (Vec<usize>, Vec<f64>) {
    match item {
        Item::Array(array) => {
            let array = array.read().unwrap();
            (array.shape().to_vec(), array.to_f64().unwrap())
        }
        Item::List(list) => {
            let values = list.iter().map(|v| v.number().unwrap()).collect();
            (vec![list.len()], values)
        }
        other => panic!("{other:?}"),
    }
}

fn strings(item: Item<'_>) -> Vec<String> {
    let Item::List(list) = item else {
        panic!("{item:?}")
    };
    let text = |item| match item {
        Item::Text(text) => text.read().unwrap().into_owned(),
        other => panic!("{other:?}"),
    };
    list.iter().map(text).collect()
}

fn twin_numbers(view: &safetensors::tensor::TensorView<'_>) -> Vec<f64> {
    let data = view.data();
    match view.dtype() {
        safetensors::Dtype::F64 => {
            let (n, _) = data.as_chunks();
            n.iter().map(|b| f64::from_le_bytes(*b)).collect()
        }
        safetensors::Dtype::F32 => {
            let (n, _) = data.as_chunks();
            n.iter().map(|b| f32::from_le_bytes(*b).into()).collect()
        }
        safetensors::Dtype::I64 => {
            let (n, _) = data.as_chunks();
            n.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_fixture_equals_its_twin() {
    for path in fixtures() {
        let pickle = Pickle::open(&path).unwrap();
        let bytes = std::fs::read(path.with_extension("safetensors")).unwrap();
        let twin = SafeTensors::deserialize(&bytes).unwrap();
        let mut fields = 0;
        for (name, view) in twin.iter() {
            let (part, field) = name.split_once('.').unwrap();
            let item = pickle.root().get(part).unwrap().get(field).unwrap();
            let (shape, values) = numbers(item);
            assert_eq!(shape, view.shape(), "{path:?} {name}");
            let expected = twin_numbers(&view);
            let same =
                |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(values.iter().zip(&expected).all(same), "{path:?} {name}");
            fields += 1;
        }
        let text = std::fs::read_to_string(path.with_extension("json")).unwrap();
        let twin: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        for (name, expected) in &twin {
            let (part, field) = name.split_once('.').unwrap();
            let item = pickle.root().get(part).unwrap().get(field).unwrap();
            assert_eq!(
                serde_json::json!(strings(item)),
                *expected,
                "{path:?} {name}"
            );
            fields += 1;
        }
        let Item::Dict(parts) = pickle.root() else {
            panic!()
        };
        let there: usize = parts
            .iter()
            .map(|(_, fields)| match fields {
                Item::Dict(fields) => fields.len(),
                _ => 0,
            })
            .sum();
        assert_eq!(fields, there, "{path:?}: nothing more and nothing less");
    }
}
