//! Pickles: every file of the fixtures against its twin, hostile ones, and values of all kinds.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use decalign_data::array::ElementKind;
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

/// A value as JSON, arrays flat.
fn plain(item: Item<'_>) -> serde_json::Value {
    match item {
        Item::None => serde_json::Value::Null,
        Item::Bool(v) => v.into(),
        Item::Int(v) => v.into(),
        Item::Float(v) => v.into(),
        Item::Text(text) => text.read().unwrap().into(),
        Item::List(list) => list.iter().map(plain).collect(),
        Item::Dict(dict) => {
            let pair = |(k, v)| (plain(k).as_str().unwrap().to_owned(), plain(v));
            serde_json::Value::Object(dict.iter().map(pair).collect())
        }
        Item::Array(array) => {
            let array = array.read().unwrap();
            let one_string = |mut v: Vec<String>| match array.shape() {
                [] => v.remove(0).into(),
                _ => serde_json::json!(v),
            };
            match array.element().kind() {
                ElementKind::Text | ElementKind::Bytes => one_string(array.to_strings().unwrap()),
                ElementKind::Float => serde_json::json!(array.to_f64().unwrap()),
                ElementKind::Bool => {
                    let values = array.to_i64().unwrap();
                    serde_json::json!(values.iter().map(|v| *v != 0).collect::<Vec<_>>())
                }
                _ => serde_json::json!(array.to_i64().unwrap()),
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_of_all_kinds_in_all_protocols() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/values");
    let text = std::fs::read_to_string(folder.join("values.json")).unwrap();
    let twin: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    for protocol in 0..6 {
        let pickle = Pickle::open(folder.join(format!("protocol{protocol}.pkl"))).unwrap();
        let Item::Dict(values) = pickle.root() else {
            panic!()
        };
        assert_eq!(values.len(), twin.len() + 1);
        for (name, expected) in &twin {
            let got = plain(values.get(name).unwrap());
            assert_eq!(got, *expected, "protocol {protocol}, {name}");
        }
        let Some(Item::Array(array)) = values.get("four dimensions") else {
            panic!()
        };
        assert_eq!(array.shape(), [2, 3, 2, 2]);
        // numpy 1's names for numpy 2's modules mean the same.
        let bytes = std::fs::read(folder.join(format!("protocol{protocol}.pkl"))).unwrap();
        if protocol < 4 {
            let old = replace(&bytes, b"numpy._core.", b"numpy.core.");
            let old = Pickle::read(old, "old").unwrap();
            let name = "array >f4";
            assert_eq!(plain(old.root().get(name).unwrap()), twin[name]);
        }
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|w| w == from) {
        out.extend(&rest[..at]);
        out.extend(to);
        rest = &rest[at + from.len()..];
    }
    out.extend(rest);
    out
}
