//! Conversion of pickled values to numbers, arrays and strings.

use crate::array::{Array, Element, ElementKind};
use crate::error::Parsed;
use crate::pickle::{Item, List};

pub(super) fn word(item: Item<'_>, left: &mut usize) -> Parsed<String> {
    match item {
        Item::Text(text) => {
            *left = left
                .checked_sub(text.size())
                .ok_or("strings of more than 64 MB")?;
            text.read()
                .map(|t| t.into_owned())
                .map_err(|e| e.to_string())
        }
        Item::Int(value) => Ok(value.to_string()),
        Item::None => Ok(String::new()),
        // A string of numpy is an array of zero dimensions.
        Item::Array(array) if array.shape().is_empty() => {
            let strings = array.read().and_then(|array| array.to_strings());
            let strings = strings.map_err(|error| error.to_string())?;
            Ok(strings.into_iter().next().unwrap_or_default())
        }
        other => Err(format!("expected strings, got {}", other.kind())),
    }
}

/// True for numbers of two or three dimensions, the shape of features.
pub(super) fn is_features(item: Item<'_>) -> bool {
    match item {
        Item::Array(array) => matches!(array.shape().len(), 2 | 3),
        Item::List(list) => match list.item(0) {
            Some(Item::Array(array)) => matches!(array.shape().len(), 1 | 2),
            Some(Item::List(inner)) => inner.item(0).is_some_and(|v| match v {
                Item::List(deep) => deep.item(0).is_some_and(|v| v.number().is_some()),
                other => other.number().is_some(),
            }),
            _ => false,
        },
        _ => false,
    }
}

/// True when all numbers have an integer type.
pub(super) fn is_whole(item: Item<'_>) -> bool {
    match item {
        Item::List(list) => list
            .iter()
            .all(|v| matches!(v, Item::Int(_) | Item::Bool(_))),
        Item::Array(array) => array.read().is_ok_and(|array| array.element().is_integer()),
        _ => false,
    }
}

type Arrays = (Vec<Array>, Option<Vec<usize>>);

/// The arrays of a field with the samples as the first axis, and the lengths of samples that are separate arrays.
pub(super) fn arrays(item: Item<'_>, origin: &str) -> Parsed<Arrays> {
    match item {
        Item::Array(array) => Ok((vec![array.read().map_err(|e| e.to_string())?], None)),
        Item::List(list) => match list.item(0) {
            Some(Item::Array(_)) => of_samples(list),
            Some(Item::List(_)) => Ok((vec![nested(list)?], None)),
            _ => Err("expected arrays, got a list of something else".to_owned()),
        },
        other => Err(format!("expected an array, got {}", other.kind())),
    }
    .map_err(|message: String| message.replace(&format!("{origin}: "), ""))
}

/// One array a sample: (T, D), or (D).
fn of_samples(list: List<'_>) -> Parsed<Arrays> {
    let (mut blocks, mut lengths) = (Vec::with_capacity(list.len()), Vec::new());
    for (i, item) in list.iter().enumerate() {
        let Item::Array(array) = item else {
            return Err(format!("sample {i} is {}, not an array", item.kind()));
        };
        let array = array.read().map_err(|e| e.to_string())?;
        let array = array.with_sample().ok_or_else(|| {
            format!(
                "sample {i} has shape {:?}, not (T, D) or (D)",
                array.shape()
            )
        })?;
        lengths.push(array.shape()[1]);
        blocks.push(array);
    }
    let same = lengths.windows(2).all(|pair| pair[0] == pair[1]);
    Ok((blocks, (!same).then_some(lengths)))
}

/// Lists of lists of numbers, two or three deep, as one array.
fn nested(list: List<'_>) -> Parsed<Array> {
    let mut numbers: Vec<u8> = Vec::new();
    let mut shape: [Option<usize>; 2] = [None, None];
    let mut check = |axis: usize, length: usize| match *shape[axis].get_or_insert(length) {
        expected if expected == length => Ok(()),
        expected => Err(format!("lists of {length} after lists of {expected}")),
    };
    let mut rows = |list: List<'_>, axis: usize| {
        check(axis, list.len())?;
        for item in list.iter() {
            let number = item.number();
            let number = number.ok_or_else(|| format!("{} among numbers", item.kind()))?;
            numbers.extend(number.to_le_bytes());
        }
        Ok::<(), String>(())
    };
    let mut steps: Option<usize> = None;
    for sample in list.iter() {
        let sample = inner(sample)?;
        if let Some(Item::List(_)) = sample.item(0) {
            if *steps.get_or_insert(sample.len()) != sample.len() {
                return Err("samples of different lengths; give each as an array".to_owned());
            }
            for step in sample.iter() {
                rows(inner(step)?, 1)?;
            }
        } else {
            rows(sample, 0)?;
        }
    }
    let shape = match (shape, steps) {
        ([Some(d), None], None) => vec![list.len(), d],
        ([None, Some(d)], Some(t)) => vec![list.len(), t, d],
        _ => return Err("lists of numbers beside lists of lists".to_owned()),
    };
    let element = Element {
        kind: ElementKind::Float,
        size: 8,
        big_endian: false,
    };
    Array::new(numbers.into(), element, shape, None)
}

pub(super) fn numbers(item: Item<'_>, origin: &str) -> Parsed<Vec<f64>> {
    match item {
        Item::List(list) => list
            .iter()
            .map(|v| {
                match v {
                    // (N, 1) as lists.
                    Item::List(one) if one.len() == 1 => one.item(0).and_then(|v| v.number()),
                    Item::Array(one) => {
                        let one = one.read().and_then(|one| one.to_f64());
                        one.ok().filter(|one| one.len() == 1).map(|one| one[0])
                    }
                    other => other.number(),
                }
                .ok_or_else(|| format!("expected numbers, got {}", v.kind()))
            })
            .collect(),
        Item::Array(array) => {
            let flat = matches!(array.shape(), [_] | [_, 1]);
            if !flat {
                return Err(format!(
                    "expected shape (N) or (N, 1), got {:?}",
                    array.shape()
                ));
            }
            let numbers = array.read().and_then(|array| array.to_f64());
            numbers.map_err(|e| e.to_string().replace(&format!("{origin}: "), ""))
        }
        other => Err(format!("expected numbers, got {}", other.kind())),
    }
}

pub(super) fn integers(item: Item<'_>, origin: &str) -> Parsed<Vec<i64>> {
    let whole = |v: f64| match v.fract() == 0.0 && v.abs() < 1e15 {
        true => Ok(v as i64),
        false => Err(format!("{v} is no length")),
    };
    numbers(item, origin)?.into_iter().map(whole).collect()
}

fn inner(item: Item<'_>) -> Parsed<List<'_>> {
    match item {
        Item::List(list) => Ok(list),
        other => Err(format!("{} among lists", other.kind())),
    }
}
